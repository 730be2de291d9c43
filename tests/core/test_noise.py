"""The noise is the discrete Gaussian, drawn by OpenDP. A sound sampler fails here less than once in a million runs."""

import ctypes
import gc
import math
from collections import Counter
from functools import lru_cache
from itertools import pairwise

import pytest

from pipeline.noise import OpenDPNoise

SIGMAS = (1.0, 26.7, 400.0)
# An estimate of sigma from n draws has a relative standard deviation of 1/√2n: 0.35 % for 40,000, 2 % are 5.6 of them.
N = 40_000


@lru_cache
def draws(sigma: float) -> tuple[int, ...]:
    return tuple(OpenDPNoise().add([0] * N, sigma))


def pmf(sigma: float) -> dict[int, float]:
    weights = {k: math.exp(-k * k / 2 / sigma**2) for k in range(-int(12 * sigma), int(12 * sigma) + 1)}
    total = math.fsum(weights.values())
    return {k: weight / total for k, weight in weights.items()}


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_empirical_sigma_is_sigma(sigma: float) -> None:
    found = math.sqrt(sum(n * n for n in draws(sigma)) / N)
    assert found == pytest.approx(sigma, rel=0.02)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_noise_has_no_bias(sigma: float) -> None:
    assert abs(sum(draws(sigma)) / N) < 5.5 * sigma / math.sqrt(N)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_distribution_function_is_the_discrete_gaussians(sigma: float) -> None:
    """Dvoretzky, Kiefer, Wolfowitz and Massart: P(sup|Fₙ − F| > d) ≤ 2·exp(−2nd²), which is 1e-7 at this d."""
    counts, seen, expected, furthest = Counter(draws(sigma)), 0, 0.0, 0.0
    for k, p in pmf(sigma).items():
        seen, expected = seen + counts[k], expected + p
        furthest = max(furthest, abs(seen / N - expected))
    assert furthest < math.sqrt(math.log(2e7) / (2 * N))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_frequencies_are_the_discrete_gaussians(sigma: float) -> None:
    """Chi-square over bins with 100 expected draws or more, by Wilson and Hilferty's approximation, at 5.5 sigma."""
    counts, bins = Counter(draws(sigma)), [[0.0, 0.0]]
    for k, p in pmf(sigma).items():
        bins[-1][0] += counts[k]
        bins[-1][1] += N * p
        if bins[-1][1] >= 100:
            bins.append([0.0, 0.0])
    last = bins.pop()
    bins[-1] = [bins[-1][0] + last[0], bins[-1][1] + last[1]]
    freedom = len(bins) - 1
    chi2 = sum((seen - expected) ** 2 / expected for seen, expected in bins)
    normal = ((chi2 / freedom) ** (1 / 3) - (1 - 2 / 9 / freedom)) / math.sqrt(2 / 9 / freedom)
    assert abs(normal) < 5.5


def test_draws_say_nothing_about_the_next() -> None:
    values = draws(26.7)
    correlation = sum(a * b for a, b in pairwise(values)) / N / 26.7**2
    assert abs(correlation) < 5.5 / math.sqrt(N)


def test_noise_is_added_to_the_value() -> None:
    noisy = OpenDPNoise().add([1_000_000] * 1000, 26.7)
    assert abs(sum(noisy) / 1000 - 1_000_000) < 5.5 * 26.7 / math.sqrt(1000)


def test_values_are_ints_one_for_one_and_negative_ones_are_left_so() -> None:
    noisy = OpenDPNoise().add([0] * 1000, 10.0)
    assert len(noisy) == 1000
    assert {type(n) for n in noisy} == {int}
    assert min(noisy) < 0 < max(noisy)


def test_two_draws_are_not_the_same() -> None:
    assert OpenDPNoise().add([0] * 1000, 26.7) != OpenDPNoise().add([0] * 1000, 26.7)


def test_no_values_are_no_draws() -> None:
    assert OpenDPNoise().add([], 26.7) == []


@pytest.mark.parametrize("sigma", [9.9e-7, 1e-20, 0.0])
def test_a_sigma_that_means_nothing_adds_nothing(sigma: float) -> None:
    assert OpenDPNoise().add([-3, 0, 10**15], sigma) == [-3, 0, 10**15]


# Noise of nan would be none, and the exact values would come back.
@pytest.mark.parametrize("sigma", [math.nan, -1.0])
def test_a_sigma_that_is_no_sigma_is_refused(sigma: float) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011  # whatever OpenDP calls it; anything but the exact values
        OpenDPNoise().add([1, 2, 3], sigma)


def test_the_exact_values_do_not_stay_in_memory() -> None:
    """Those handed to OpenDP, that is, whose arrays only the collector of cycles can free."""
    gc.collect()
    gc.disable()
    try:
        OpenDPNoise().add([12, 345], 1.0)
        arrays = [each for each in gc.get_objects() if isinstance(each, ctypes.Array)]
    finally:
        gc.enable()
    assert [array for array in arrays if 345 in list(array)] == []

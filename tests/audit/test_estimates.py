"""The bounds that verdicts are drawn from, against known values and against the distributions themselves."""

import math
from collections import Counter
from statistics import NormalDist

import pytest

from pipeline.audit import estimates
from pipeline.audit.estimates import (
    advantage,
    at_least_so_many,
    at_most_so_many,
    beta,
    discrete_gaussian,
    misfit,
    mu_at_least,
    mu_of_errors,
    mu_of_guesses,
    rate_at_least,
    rate_at_most,
    wilson,
)

PHI = NormalDist()


def binomial(k: int, n: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize(("n", "p"), [(10, 0.5), (40, 0.03), (200, 0.9)])
def test_tails_of_binomials_are_the_sums_of_their_terms(n: int, p: float) -> None:
    for k in range(n + 1):
        assert at_least_so_many(k, n, p) == pytest.approx(sum(binomial(i, n, p) for i in range(k, n + 1)), rel=1e-9)
        assert at_most_so_many(k, n, p) == pytest.approx(sum(binomial(i, n, p) for i in range(k + 1)), rel=1e-9)


def test_the_beta_function_holds_for_a_million_trials() -> None:
    n, p = 1_000_000, 0.3
    spread = math.sqrt(n * p * (1 - p))
    assert beta(p, n * p + 3 * spread, n * (1 - p) - 3 * spread + 1) == pytest.approx(PHI.cdf(-3), rel=0.02)


@pytest.mark.parametrize(("successes", "n"), [(0, 50), (7, 50), (50, 50), (120_000, 500_000)])
def test_a_bound_of_a_rate_leaves_just_its_doubt(successes: int, n: int) -> None:
    low, high = rate_at_least(successes, n, 0.01), rate_at_most(successes, n, 0.01)
    assert low <= successes / n <= high
    if successes:
        assert at_least_so_many(successes, n, low) == pytest.approx(0.01, rel=1e-4)
    if successes < n:
        assert at_most_so_many(successes, n, high) == pytest.approx(0.01, rel=1e-4)


def test_wilsons_interval_is_the_textbooks() -> None:
    centre, half = wilson(10, 100)
    assert (centre - half, centre + half) == pytest.approx((0.0552, 0.1744), abs=1e-4)


@pytest.mark.parametrize("mu", [0.1, 0.9165, 2.0])
def test_mu_is_what_a_gaussian_test_gives_away(mu: float) -> None:
    right = PHI.cdf(mu / 2)
    assert mu_of_errors(1 - right, 1 - right) == pytest.approx(mu)
    assert mu_of_guesses(right) == pytest.approx(mu)
    assert advantage(mu) == pytest.approx(2 * right - 1)


def test_a_lower_bound_of_mu_is_under_the_estimate_and_nears_it() -> None:
    wide, narrow = (mu_at_least(int(0.3 * n), int(0.3 * n), n, 0.05) for n in (100, 100_000))
    assert wide < narrow < mu_of_errors(0.3, 0.3) < narrow + 0.03


def test_one_who_is_always_right_has_a_finite_bound() -> None:
    assert 3 < mu_at_least(0, 0, 1000, 0.05) < 10


def test_a_discrete_gaussian_fits_itself_and_nothing_else() -> None:
    sigma, n = 5.0, 1_000_000
    expected = discrete_gaussian(sigma)
    assert math.fsum(expected.values()) == pytest.approx(1)
    itself = Counter({k: round(n * p) for k, p in expected.items()})
    # What is exactly as expected is far too good for chance: a fit is judged on both sides.
    assert misfit(itself, expected) < -4
    wider = Counter({k: round(n * p) for k, p in discrete_gaussian(1.02 * sigma).items()})
    assert misfit(wider, expected) > 6
    shifted = Counter({k + 1: count for k, count in itself.items()})
    assert misfit(shifted, expected) > 6


def test_draws_that_no_discrete_gaussian_has_are_misfits() -> None:
    expected = discrete_gaussian(2.0)
    seen = Counter({k: round(100_000 * p) for k, p in expected.items()})
    assert misfit(seen + Counter({500: 5_000}), expected) > 6


def test_chance_alone_breaks_less_than_one_run_in_ten_thousand() -> None:
    assert 24 * estimates.DOUBT < 1e-4

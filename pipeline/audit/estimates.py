"""Confidence bounds, and what errors of a test say about μ. Pure arithmetic, without tables and without scipy.

Sources: Clopper and Pearson 1934; Wilson 1927; Gaussian differential privacy (Dong, Roth and Su 2022): a mechanism is
μ-GDP if no test between neighbours has errors (α, β) with Φ⁻¹(1−α) − Φ⁻¹(β) over μ; ρ-zCDP of Gaussian noise is μ =
√(2ρ).
"""

import math
from collections.abc import Mapping
from statistics import NormalDist

DOUBT = 4e-6
"""The probability with which a verdict may be wrong by chance alone. A run draws some twenty of them."""

_NORMAL = NormalDist()


def mu_of(rho: float) -> float:
    """μ of what costs ρ."""
    return math.sqrt(2 * rho)


def advantage(mu: float) -> float:
    """The most by which a guess of who was there beats a coin under μ-GDP: true less false positive rate.

    >>> round(advantage(1.0), 4)
    0.3829
    """
    return 2 * _NORMAL.cdf(mu / 2) - 1


def mu_of_errors(false_positives: float, false_negatives: float) -> float:
    """μ of a test with these error rates."""
    return -_quantile(false_positives) - _quantile(false_negatives)


def mu_at_least(false_positives: int, false_negatives: int, n: int, doubt: float) -> float:
    """A lower bound of μ that is over the true one with probability ``doubt`` at most; ``n`` tests a side."""
    return mu_of_errors(rate_at_most(false_positives, n, doubt / 2), rate_at_most(false_negatives, n, doubt / 2))


def mu_of_guesses(right: float) -> float:
    """μ of a guesser between two equally likely cases who is right at this rate: Φ(μ/2) are."""
    return 2 * _quantile(right)


def rate_at_most(successes: int, n: int, doubt: float) -> float:
    """Clopper and Pearson's upper bound of a rate.

    >>> round(rate_at_most(0, 100, 0.05), 4)
    0.0295
    """
    if successes >= n:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if beta(middle, successes + 1, n - successes) < 1 - doubt else (low, middle)
    return high


def rate_at_least(successes: int, n: int, doubt: float) -> float:
    """Clopper and Pearson's lower bound of a rate."""
    return 1 - rate_at_most(n - successes, n, doubt)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """A rate's centre and half width at 95 %.

    >>> tuple(round(x, 3) for x in wilson(5, 50))
    (0.129, 0.085)
    """
    z2 = _NORMAL.inv_cdf(0.975) ** 2
    rate = successes / n
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    return centre, math.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n))) / (1 + z2 / n)


def at_least_so_many(successes: int, n: int, rate: float) -> float:
    """P(X ≥ successes) of a binomial."""
    if successes <= 0:
        return 1.0
    return 0.0 if rate <= 0 else 1.0 if rate >= 1 else beta(rate, successes, n - successes + 1)


def at_most_so_many(successes: int, n: int, rate: float) -> float:
    """P(X ≤ successes) of a binomial."""
    return at_least_so_many(n - successes, n, 1 - rate)


def discrete_gaussian(sigma: float) -> dict[int, float]:
    """The probabilities of N_ℤ(0, σ²) up to 12 σ (Canonne, Kamath and Steinke 2020, definition 1)."""
    reach = math.ceil(12 * sigma)
    weights = {k: math.exp(-k * k / 2 / sigma**2) for k in range(-reach, reach + 1)}
    total = math.fsum(weights.values())
    return {k: weight / total for k, weight in weights.items()}


def misfit(counts: Mapping[int, int], expected: Mapping[int, float]) -> float:
    """χ² over bins of 100 expected draws or more, as a standard normal (Wilson and Hilferty 1931)."""
    n = sum(counts.values())
    bins = [[0.0, 0.0]]
    for value in sorted(expected):
        bins[-1][0] += counts.get(value, 0)
        bins[-1][1] += n * expected[value]
        if bins[-1][1] >= 100:
            bins.append([0.0, 0.0])
    last = bins.pop()
    bins[-1] = [bins[-1][0] + last[0] + sum(c for v, c in counts.items() if v not in expected), bins[-1][1] + last[1]]
    freedom = len(bins) - 1
    chi2 = sum((seen - due) ** 2 / due for seen, due in bins)
    return (math.cbrt(chi2 / freedom) - (1 - 2 / 9 / freedom)) / math.sqrt(2 / 9 / freedom)


def beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by Lentz's continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1 / _off_zero(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 100_000):
        step = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1 / _off_zero(1 + step * d), _off_zero(1 + step / c)
        fraction *= d * c
        step = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / _off_zero(1 + step * d), _off_zero(1 + step / c)
        fraction *= d * c
        if abs(d * c - 1) < 1e-14:
            break
    return math.exp(front) * fraction / a


def _off_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300


def _quantile(p: float) -> float:
    return _NORMAL.inv_cdf(min(max(p, 1e-300), 1 - 1e-16))

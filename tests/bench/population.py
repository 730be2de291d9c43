"""Synthetic users by the million: who did what, as arrays. Needs numpy only, so that others can be measured on it."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

KEYS, MOST = 1_000_000, 32
CHUNK = 2_500_000  # users


def zipf_mandelbrot(n: int, q: float, s: float) -> Floats:
    """The probability of each rank 1…n: proportional to (rank + q)^−s."""
    weights = (np.arange(1, n + 1) + q) ** -s
    shares: Floats = weights / weights.sum()
    return shares


def draw(shares: Floats, size: int, random: np.random.Generator) -> Ints:
    """So many places in a table of shares."""
    edges = np.cumsum(shares)
    return np.searchsorted(edges, edges[-1] * random.random(size), side="right").astype(np.int64)


def chunks(users: int, seed: int) -> Iterator[tuple[Ints, Ints]]:
    """Subjects (0, 1, …, in order) and keys, one row an event, so many users at a time.

    Events per user: N = 1e5, q = 26, s = 6.738, cut at 32. Keys: N = 1e6, q = 1000, s = 1.4.
    """
    random = np.random.default_rng(seed)
    events, keys = zipf_mandelbrot(100_000, 26, 6.738), zipf_mandelbrot(KEYS, 1000, 1.4)
    for first in range(0, users, CHUNK):
        several = min(CHUNK, users - first)
        each = np.minimum(1 + draw(events, several, random), MOST)
        yield first + np.repeat(np.arange(several), each), draw(keys, int(each.sum()), random)


def count(subjects: Ints, keys: Ints) -> tuple[Ints, Ints]:
    """The truth: distinct subjects and events of each key. All rows of a subject are there."""
    pairs = np.sort(subjects * KEYS + keys)
    distinct = pairs[np.diff(pairs, prepend=-1) > 0] % KEYS
    return np.bincount(distinct, minlength=KEYS), np.bincount(keys, minlength=KEYS)


def errors(estimate: Floats, truth: Ints) -> dict[str, float]:
    """Over all keys; an absent one is estimated as 0."""
    error = np.abs(estimate - truth)
    return {"linf": float(error.max()), "l1": float(error.sum()), "l2": float(np.sqrt((error**2).sum()))}

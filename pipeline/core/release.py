"""A release is the noisy result of one window of one statistic, and what it cost. It is public for ever.

It explains itself: whoever reads it needs no other file to name its columns, to work out its bounds or to sum its
price.
"""

from typing import Literal

import msgspec

from pipeline.core.windows import Kind, window_named

Measure = Literal["users", "events"]


class ReleasedDimension(msgspec.Struct, frozen=True, kw_only=True):
    """A dimension of the statistic. ``values`` are the declared ones in their natural order; empty for an open
    dimension.
    """

    name: str
    kind: Literal["catalogue", "open"]
    values: tuple[str, ...] = ()
    description: str = ""


class ReleasedMeasure(msgspec.Struct, frozen=True, kw_only=True):
    """A number given per cell: discrete Gaussian noise of standard deviation ``sigma`` is in it.

    ``bound``: the most that one subject adds to one cell (Δ). ``threshold``: open cells are shown where the noisy users
    reach it; ``None`` where cells are declared. ``rho``: the zCDP cost of this measure in this release.
    ``total_sigma``: the standard deviation of the noise in the total, where the statistic has one.
    """

    name: Measure
    sigma: float
    bound: int
    rho: float
    total_sigma: float | None = None
    threshold: float | None = None
    description: str = ""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """One record of ``usage.releases``, keyed by statistic, window and number.

    ``cells``: one tuple of dimension values a cell, in the order of ``dimensions``, sorted; ``values``: per
    measure, one integer a cell. ``total``: per measure, the noisy total over all cells, held back ones included;
    ``None`` where the statistic has no total of its own. ``epsilon`` and ``delta``: what a subject's whole month
    costs under this policy; ``None`` where it is without bound.
    """

    statistic: str
    description: str
    window: Kind
    start: str  # ISO date, the first day
    end: str  # ISO date, the first day after it
    number: int
    policy: str
    protects: bool
    dimensions: tuple[ReleasedDimension, ...]
    measures: tuple[ReleasedMeasure, ...]
    max_cells: int
    rho: float
    epsilon: float | None
    delta: float
    contact: str
    cells: list[tuple[str, ...]]
    values: list[list[int]]
    total: list[int] | None = None

    @property
    def key(self) -> str:
        """``feature_use/day-2026-05-01/1``: there is at most one release under a key, ever."""
        return release_key(self.statistic, f"{self.window}-{self.start}", self.number)


def release_key(statistic: str, window: str, number: int = 1) -> str:
    """The key of a release in the log."""
    return f"{statistic}/{window}/{number}"


class KeySet:
    """Keys of releases, a bit each: every window adds some to the log, and none ever goes."""

    def __init__(self) -> None:
        self._days: dict[str, tuple[int, int]] = {}  # statistic, kind, number → a day, and bits from that day on

    def add(self, key: str) -> None:
        """Raises ``ValueError`` for what is no key."""
        series, day = _place(key)
        first, days = self._days.get(series, (day, 0))
        if day < first:
            first, days = day, days << first - day
        self._days[series] = first, days | 1 << day - first

    def __contains__(self, key: str) -> bool:
        series, day = _place(key)
        first, days = self._days.get(series, (day, 0))
        return day >= first and bool(days >> day - first & 1)


def _place(key: str) -> tuple[str, int]:
    """The series that a release is one of, and the first day of its window."""
    statistic, name, number = key.rsplit("/", 2)
    window = window_named(name)
    return f"{statistic}/{window.kind}/{number}", window.start


def encode_release(release: Release) -> bytes:
    """The record's value: JSON, since everybody may read it."""
    return msgspec.json.encode(release)


def decode_release(value: bytes) -> Release:
    """The inverse of :func:`encode_release`. Raises ``msgspec.ValidationError`` for anything else."""
    return _DECODER.decode(value)


_DECODER = msgspec.json.Decoder(Release)

"""Windows are half-open ranges of calendar days: a day, an ISO week, a month.

A day is an ordinal: the number of days since 1970-01-01 in the policy's time zone. Everything behind the first hop
knows days and no times.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Kind = Literal["day", "week", "month"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_EPOCH = date(1970, 1, 1)
_EPOCH_ORDINAL = _EPOCH.toordinal()
_SECONDS_PER_DAY = 86_400


Span = tuple[int | None, int | None]  # days: the first, and the first after; None is without bound


def day_of(day: date) -> int:
    """The ordinal of a calendar date."""
    return day.toordinal() - _EPOCH_ORDINAL


def date_of(day: int) -> date:
    """The calendar date of an ordinal."""
    return _EPOCH + timedelta(days=day)


class Window(NamedTuple):
    """All days from ``start`` up to, not including, ``end`` (ordinals). Sorts by its end, shorter kinds first."""

    end: int
    rank: int  # the kind's place in KINDS
    start: int

    @property
    def kind(self) -> Kind:
        return KINDS[self.rank]

    @property
    def name(self) -> str:
        """``day-2026-05-01``: what keys, records and people call it."""
        return f"{self.kind}-{date_of(self.start).isoformat()}"


def window_of(kind: Kind, day: int) -> Window:
    """The window of that kind that holds the day."""
    if kind == "day":
        return Window(day + 1, 0, day)
    if kind == "week":
        start = day - date_of(day).weekday()
        return Window(start + 7, 1, start)
    first = date_of(day).replace(day=1)
    after = (first + timedelta(days=31)).replace(day=1)
    return Window(day_of(after), 2, day_of(first))


def part_of(window: Window, day: int) -> int:
    """0; 1 for a day of the later month in a week of two, where a subject's months are bounded apart."""
    return int(window.rank == 1 and date_of(day).month != date_of(window.start).month)


def window_named(name: str) -> Window:
    """The inverse of :attr:`Window.name`. Raises ``ValueError`` for what is no window's name."""
    kind, _, start = name.partition("-")
    if kind not in KINDS:
        raise ValueError("a window is named day-, week- or month- and its first date")
    window = window_of(kind, day_of(date.fromisoformat(start)))
    if window.name != name:
        raise ValueError("no window of that kind starts on that date")
    return window


def windows_between(kind: Kind, since: int, until: int) -> Iterator[Window]:
    """The windows of a kind that hold a day in ``[since, until)``, in order."""
    day = since
    while day < until:
        window = window_of(kind, day)
        yield window
        day = window.end


class Calendar:
    """Turns instants into days of one time zone; the offset is looked up once an hour of the clock and kept."""

    def __init__(self, zone: str = "UTC") -> None:
        self.zone: tzinfo = UTC if zone == "UTC" else ZoneInfo(zone)
        self._days: dict[int, int | None] = {}

    def day(self, seconds: float) -> int:
        """The day of an instant in seconds since 1970 UTC."""
        if self.zone is UTC:
            return int(seconds // _SECONDS_PER_DAY)
        # Offsets of zones change on whole quarters of an hour at the finest.
        quarter = int(seconds // 900)
        day = self._days.get(quarter)
        if day is None:
            if len(self._days) > 100_000:
                self._days.clear()
            try:
                day = day_of(datetime.fromtimestamp(quarter * 900, self.zone).date())
            except (ValueError, OverflowError):  # at the ends of time, where a zone leads out of the calendar
                day = quarter * 900 // _SECONDS_PER_DAY
            self._days[quarter] = day
        return day

    def days(self, seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """:meth:`day` of many instants."""
        if self.zone is UTC:
            return (seconds // _SECONDS_PER_DAY).astype(np.int64)
        quarters, of = np.unique(seconds // 900, return_inverse=True)
        return np.array([self.day(quarter * 900) for quarter in quarters.tolist()], dtype=np.int64)[of]

    def start(self, day: int) -> float:
        """The instant at which a day begins, in seconds since 1970 UTC."""
        at = date_of(day)
        return datetime(at.year, at.month, at.day, tzinfo=self.zone).timestamp()

"""The ledger: what releases have spent of each calendar month. A fold over ``usage.releases`` alone."""

from collections.abc import Iterable, Iterator
from datetime import date
from typing import NamedTuple, Protocol

import msgspec

from pipeline.core.windows import Kind, Window, date_of, window_named

Account = tuple[date, Kind]  # the first day of a calendar month, and a kind of window


class Charged(Protocol):
    """What a release says of its cost."""

    @property
    def window(self) -> Kind: ...
    @property
    def start(self) -> str: ...
    @property
    def rho(self) -> float: ...


class Cost(msgspec.Struct, frozen=True):
    """A record of ``usage.releases`` of which only the cost is read."""

    window: Kind
    start: str
    rho: float


class Spent(NamedTuple):
    """How many releases were charged to an account, and their ρ."""

    releases: int
    rho: float


class Ledger:
    """Per calendar month and kind of window, what was spent. Give each release of the log once."""

    def __init__(self, releases: Iterable[Charged] = ()) -> None:
        self.spent: dict[Account, Spent] = {}
        for release in releases:
            self.add(release)

    def add(self, release: Charged) -> None:
        """Charges a release to every month that its window touches: whoever used the application in either pays."""
        self.charge(window_named(f"{release.window}-{release.start}"), release.rho)

    def charge(self, window: Window, rho: float, releases: int = 1) -> None:
        """Charges so many releases of a window with a ρ in all."""
        for month in months_of(window):
            known = self.spent.get((month, window.kind), Spent(0, 0.0))
            self.spent[month, window.kind] = Spent(known.releases + releases, known.rho + rho)

    def rho(self, month: date) -> float:
        """What one subject's month has cost so far, all kinds of window together."""
        return sum(spent.rho for (each, _), spent in self.spent.items() if each == month)

    def copy(self) -> "Ledger":
        """One of its own, to try a charge on."""
        other = Ledger()
        other.spent = dict(self.spent)
        return other


def months_of(window: Window) -> Iterator[date]:
    """The first days of the calendar months that a window touches: two for a week that straddles them."""
    first, last = (date_of(day).replace(day=1) for day in (window.start, window.end - 1))
    yield first
    if last != first:
        yield last


def decode_cost(value: bytes) -> Cost:
    """The cost of a release, from its record. Raises ``msgspec.MsgspecError`` for anything else."""
    return _DECODER.decode(value)


_DECODER = msgspec.json.Decoder(Cost)

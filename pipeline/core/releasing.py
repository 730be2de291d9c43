"""The third hop: from all partitions' tallies of one window to releases. The only place where exact counts meet noise.

Declared cells are released in every window, zeros and negatives included. Open cells are selected on their noisy users
alone, never on an exact count; then the other measures of the selected cells are drawn. What is held back is in the
total.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from pipeline.core.budget import Accountant
from pipeline.core.counting import StatisticTally
from pipeline.core.ledger import Ledger
from pipeline.core.pseudonyms import WindowKey
from pipeline.core.release import Measure, Release, ReleasedDimension, ReleasedMeasure
from pipeline.core.statistics import Dimension, Statistic
from pipeline.core.tallies import Closed, Tally
from pipeline.core.windows import Window, date_of, window_named

Cell = tuple[str, ...]


class Noise(Protocol):
    """Adds integer discrete Gaussian noise; each call is one draw per value."""

    def add(self, values: Sequence[int], sigma: float) -> list[int]:
        """The values with noise of standard deviation ``sigma`` in each."""


class Word(NamedTuple):
    """What a partition's words come to: all windows that end after day ``since`` and by ``closed`` were given out."""

    since: float
    closed: float
    windows: frozenset[str]

    def then(self, other: "Word") -> "Word":
        """Both, where they meet. Else there is a gap between them, and only the later one counts."""
        if max(self.since, other.since) > min(self.closed, other.closed):
            return other
        return Word(min(self.since, other.since), max(self.closed, other.closed), self.windows | other.windows)


@dataclass
class Gathered:
    """The tallies of all partitions, until their windows are complete. A fold: given again, a tally replaces itself."""

    tallies: dict[Window, dict[int, Tally]] = field(default_factory=dict)
    words: dict[int, Word] = field(default_factory=dict)
    partitions: int = 0

    def add(self, record: Tally | Closed) -> None:
        self.partitions = record.partitions
        if isinstance(record, Tally):
            self.tallies.setdefault(window_named(record.window), {})[record.partition] = record
        else:
            word = Word(-math.inf if record.since is None else record.since, record.closed, frozenset(record.windows))
            known = self.words.get(record.partition)
            self.words[record.partition] = word if known is None else known.then(word)

    def complete(self) -> list[Window]:
        """The windows that every partition has given out, in order. A partition whose word names a window that is not
        here counted something that was lost; one that does not name it met nothing of it.
        """
        if not self.partitions or len(self.words) < self.partitions:
            return []
        return sorted(
            window
            for window, tallies in self.tallies.items()
            if all(
                word.since < window.end <= word.closed and (window.name not in word.windows or partition in tallies)
                for partition, word in self.words.items()
            )
        )

    def forget(self, window: Window) -> None:
        """The window is released: nothing of it is kept. A tally of it that comes again finds nothing to wait for."""
        del self.tallies[window]
        for partition, word in self.words.items():
            self.words[partition] = word._replace(windows=word.windows - {window.name})


def release_window(
    accountant: Accountant,
    window: Window,
    names: Iterable[str],
    tallies: Iterable[Tally],
    key: WindowKey,
    noise: Noise,
    ledger: Ledger | None = None,
) -> list[Release]:
    """The releases of the named statistics of one window. Draws once a value; whoever calls commits the result or
    loses it.

    ``ledger``: what was spent before; the window is charged to it. Raises ``OverBudget`` before any draw.
    """
    parts, wanted = list(tallies), list(names)
    accountant.cover(window, wanted, Ledger() if ledger is None else ledger)
    releases = []
    for name in wanted:
        statistic = accountant.plan.statistics[name]
        dimensions = accountant.plan.dimensions(statistic)
        merged = _merge([part.statistics[name] for part in parts if name in part.statistics], dimensions, key)
        releases.append(_release(accountant, window, name, statistic, dimensions, merged, noise))
    return releases


class _Merged(NamedTuple):
    """``of``: cell → its place in ``users`` and ``events``; ``total``: users, events."""

    of: dict[Cell, int]
    users: list[int]
    events: list[int]
    total: tuple[int, int]

    def exact(self, measure: Measure, cells: Iterable[Cell]) -> list[int]:
        """The exact counts of these cells; 0 where nobody was."""
        counts = [*(self.users if measure == "users" else self.events), 0]
        return [counts[self.of.get(cell, -1)] for cell in cells]


def _merge(parts: Sequence[StatisticTally], dimensions: Sequence[Dimension], key: WindowKey) -> _Merged:
    """Adds the partitions up (a subject is in one of them only) and opens the sealed values."""
    sealed = dict.fromkeys(cell for part in parts for cell in part.cells)
    place_of = dict(zip(sealed, range(len(sealed)), strict=True))
    users, events = (np.zeros(len(sealed), dtype=np.int64) for _ in range(2))
    for part in parts:
        places = np.fromiter(map(place_of.__getitem__, part.cells), dtype=np.int64, count=len(part.cells))
        users[places] += np.array(part.users, dtype=np.int64)
        events[places] += np.array(part.events, dtype=np.int64)
    of = {
        tuple(
            key.unseal(d.name, value) if d.open else value.decode() for d, value in zip(dimensions, cell, strict=True)
        ): place
        for cell, place in place_of.items()
    }
    total = sum(part.total_users for part in parts), sum(part.total_events for part in parts)
    return _Merged(of, users.tolist(), events.tolist(), total)


def _release(
    accountant: Accountant,
    window: Window,
    name: str,
    statistic: Statistic,
    dimensions: Sequence[Dimension],
    merged: _Merged,
    noise: Noise,
) -> Release:
    policy, kind = accountant.policy, window.kind
    prices = {measure: accountant.price(name, measure, kind) for measure in statistic.measures}
    threshold = accountant.threshold(name, kind)
    candidates = sorted(merged.of) if threshold is not None else accountant.plan.declared_cells(statistic)
    exact = merged.exact("users", candidates)
    users = noise.add(exact, prices["users"].sigma)
    shown = [i for i, n in enumerate(users) if threshold is None or n >= threshold]
    cells = [candidates[i] for i in shown]
    values = [
        [users[i] for i in shown]
        if measure == "users"
        else noise.add(merged.exact(measure, cells), prices[measure].sigma)
        for measure in statistic.measures
    ]
    total = None
    if statistic.total:
        totals: dict[Measure, int] = {"users": merged.total[0], "events": merged.total[1]}
        total = [noise.add([totals[m]], prices[m].total_sigma or 0.0)[0] for m in statistic.measures]
    return Release(
        statistic=name,
        description=statistic.description,
        window=kind,
        start=date_of(window.start).isoformat(),
        end=date_of(window.end).isoformat(),
        number=1,
        policy=policy.version,
        protects=accountant.protects,
        dimensions=tuple(
            ReleasedDimension(
                name=d.name,
                kind="open" if d.open else "catalogue",
                values=d.values,
                description=d.description,
            )
            for d in dimensions
        ),
        measures=tuple(
            ReleasedMeasure(
                name=measure,
                sigma=price.sigma,
                bound=price.bound,
                rho=price.rho,
                total_sigma=price.total_sigma,
                threshold=None if threshold is None or math.isinf(threshold) else threshold,
                description=_DESCRIPTIONS[measure],
            )
            for measure, price in prices.items()
        ),
        max_cells=statistic.cells(kind),
        rho=sum(price.rho for price in prices.values()),
        epsilon=None if math.isinf(accountant.epsilon_month) else accountant.epsilon_month,
        delta=policy.budget.delta,
        contact=policy.contact,
        cells=cells,
        values=values,
        total=total,
    )


_DESCRIPTIONS: dict[Measure, str] = {
    "users": "Distinct users, each counted once a cell.",
    "events": "Events, those of one user counted up to the bound a cell.",
}

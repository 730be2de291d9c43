"""The third hop: from all partitions' tallies of one window to releases. The only place where exact counts meet noise.

Declared cells are released in every window, zeros and negatives included. Open cells are selected on their noisy users
alone, never on an exact count; then the other measures of the selected cells are drawn. What is held back is in the
total.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

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
        merged = _merge((part.statistics[name] for part in parts if name in part.statistics), dimensions, key)
        releases.append(_release(accountant, window, name, statistic, dimensions, merged, noise))
    return releases


@dataclass
class _Merged:
    cells: dict[Cell, list[int]] = field(default_factory=dict)  # cell → users, events
    total: list[int] = field(default_factory=lambda: [0, 0])


def _merge(parts: Iterable[StatisticTally], dimensions: Sequence[Dimension], key: WindowKey) -> _Merged:
    """Adds the partitions up (a subject is in one of them only) and opens the sealed values."""
    sealed: dict[tuple[bytes, ...], list[int]] = {}
    merged = _Merged()
    for part in parts:
        for cell, users, events in zip(part.cells, part.users, part.events, strict=True):
            counts = sealed.setdefault(cell, [0, 0])
            counts[0] += users
            counts[1] += events
        merged.total[0] += part.total_users
        merged.total[1] += part.total_events
    for cell, counts in sealed.items():
        opened = tuple(
            key.unseal(d.name, value) if d.open else value.decode() for d, value in zip(dimensions, cell, strict=True)
        )
        merged.cells[opened] = counts
    return merged


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
    candidates = sorted(merged.cells) if threshold is not None else accountant.plan.declared_cells(statistic)
    exact: dict[Measure, list[int]] = {
        "users": [merged.cells.get(cell, (0, 0))[0] for cell in candidates],
        "events": [merged.cells.get(cell, (0, 0))[1] for cell in candidates],
    }
    users = noise.add(exact["users"], prices["users"].sigma)
    shown = [i for i, n in enumerate(users) if threshold is None or n >= threshold]
    values = [
        [users[i] for i in shown]
        if measure == "users"
        else noise.add([exact[measure][i] for i in shown], prices[measure].sigma)
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
        cells=[candidates[i] for i in shown],
        values=values,
        total=total,
    )


_DESCRIPTIONS: dict[Measure, str] = {
    "users": "Distinct users, each counted once a cell.",
    "events": "Events, those of one user counted up to the bound a cell.",
}

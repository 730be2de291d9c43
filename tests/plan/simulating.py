"""Months of invented users through the product's own tally and release, under the shipped declarations."""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np

from pipeline.core.ledger import Ledger
from pipeline.core.release import Release
from pipeline.core.releasing import release_window
from pipeline.core.tallies import PartitionState
from pipeline.core.windows import Kind, day_of, window_named
from pipeline.declarations import Declarations
from pipeline.noise import OpenDPNoise
from pipeline.plan.population import Population
from pipeline.testing import MemoryKeyStore
from tests.bench.population import Ints, draw
from tests.columns import Sender, tally_of

FIRST = day_of(date(2026, 6, 1))  # a Monday, of a month of 30 days: four weeks lie within
DAYS = 30


@dataclass(frozen=True)
class Simulated:
    """A release of one window, and the number of different users that each of its cells truly had."""

    kind: Kind
    release: Release
    true: dict[str, int]

    def errors(self) -> list[float]:
        """The relative errors of the shown cells, in users."""
        pairs = ((cell[0], value) for cell, value in zip(self.release.cells, self.release.values[0], strict=True))
        return [abs(value - self.true[name]) / self.true[name] for name, value in pairs]


def simulate(
    declared: Declarations, population: Population, months: int, seed: int, names: Iterable[str] = ("feature_use",)
) -> Iterator[Simulated]:
    """So many months: days, the weeks that lie within, the month; the releases of these statistics."""
    random = np.random.default_rng(seed)
    features = [f"f{n}" for n in range(len(population.cells))]
    # One value for every other dimension: what a cell is made of is its feature.
    cells = [tuple(OTHERS.get(field, name) for field in declared.plan.finest) for name in features]
    for month in range(months):
        keys = MemoryKeyStore(secrets.token_hex(32))
        events = draw(population.events, round(population.users), random)
        subjects = np.repeat(np.arange(len(events)), events)
        days = FIRST + random.integers(0, DAYS, len(subjects))
        where = draw(population.cells, len(subjects), random)
        state = PartitionState(0, 1, declared.plan)
        state.fold(Sender(declared.plan, cells, keys, month).batch(subjects, days, where))
        ledger = Ledger()
        for tally in tally_of(state, FIRST, FIRST + DAYS):
            window = window_named(tally.window)
            if window.end > FIRST + DAYS:
                continue  # the last week is cut off
            key = keys.window(window)
            inside = (days >= window.start) & (days < window.end)
            true = _distinct(subjects[inside], where[inside], features)
            found = release_window(declared.accountant, window, names, [tally], key, OpenDPNoise(), ledger)
            yield from (Simulated(window.kind, each, true) for each in found)


OTHERS = {"platform": "web", "app_version": "1.0", "duration_ms": "1-10 s", "country": "NL", "plan": "free"}


def _distinct(subjects: Ints, cells: Ints, names: list[str]) -> dict[str, int]:
    pairs = np.unique(subjects * len(names) + cells) % len(names)
    return dict(zip(names, np.bincount(pairs, minlength=len(names)).tolist(), strict=True))

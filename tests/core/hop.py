"""One partition of contributions, fed by an ingest with keys in memory."""

from collections.abc import Iterable
from datetime import date
from typing import Any

from pipeline.core.contributions import Contributions, Progress
from pipeline.core.ingest import Ingest
from pipeline.core.outcomes import Rejection
from pipeline.core.tallies import FOREVER, Closed, PartitionState, StatisticTally, Tally
from pipeline.core.windows import day_of, window_named
from pipeline.declarations import Declarations
from pipeline.testing import OPEN, MemoryKeyStore, declarations, event, record

DECLARED = declarations()
MAY_1, MAY_2, MAY_3, MAY_4 = (day_of(date(2026, 5, day)) for day in (1, 2, 3, 4))


class Hop:
    """One partition of contributions, fed by an ingest with keys in memory."""

    def __init__(self, declared: Declarations = DECLARED) -> None:
        self.declared = declared
        self.keys = MemoryKeyStore()
        self.ingest = Ingest(declared.registry, declared.plan, declared.policy, self.keys, 1)
        self.state = PartitionState(0, 1, declared.plan, bounded=declared.policy.budget.bounded)
        self.offsets: dict[int, int] = {}

    def contribution(self, *events: dict[str, Any], source: int = 0) -> Contributions:
        offset = self.offsets[source] = self.offsets.get(source, -1) + 1
        (found,) = self.ingest.ingest(source, [record(*events, offset=offset)], OPEN).contributions.values()
        return found

    def fold(self, *events: dict[str, Any], source: int = 0) -> list[Rejection]:
        return self.state.fold(self.contribution(*events, source=source))

    def close(
        self, day: int = FOREVER, *, source: int = 0, of: int = 1, since: int | None = None
    ) -> list[Tally | Closed]:
        return list(self.state.advance(Progress(source, of, day, since)))

    def count(self, statistic: str, window: str = "day-2026-05-01") -> StatisticTally:
        return {t.window: t for t in self.close() if isinstance(t, Tally)}[window].statistics[statistic]

    def cells(self, statistic: str, window: str = "day-2026-05-01") -> dict[tuple[str, ...], tuple[int, int]]:
        """Per cell, opened: users and events."""
        found, plan, key = self.count(statistic, window), self.declared.plan, self.keys.window(window_named(window))
        assert key is not None
        dimensions = plan.dimensions(plan.statistics[statistic])
        opened = [
            tuple(
                key.unseal(d.name, value) if d.open else value.decode()
                for d, value in zip(dimensions, cell, strict=True)
            )
            for cell in found.cells
        ]
        return dict(zip(opened, zip(found.users, found.events, strict=True), strict=True))


def windows(given: Iterable[Tally | Closed]) -> list[str]:
    return [each.window for each in given if isinstance(each, Tally)]


def named(*names: str) -> list[dict[str, Any]]:
    return [event(subject=name) for name in names]

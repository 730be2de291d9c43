"""The whole main job over files: every event through real topics and real workers, every window closed, one DuckDB
file.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaProducer

from pipeline.core.budget import Accountant
from pipeline.core.statistics import Plan
from pipeline.core.tallies import FOREVER
from pipeline.core.windows import date_of
from pipeline.declarations import read_declarations
from pipeline.settings import Settings
from pipeline.sources import BATCH_EVENTS, Lines, read_events
from pipeline.stack import Stack, running_stack
from pipeline.stream.ingesting import WORD
from pipeline.stream.topics import EVENTS
from pipeline.warehouse.projector import rebuild
from pipeline.watching import Watch, Watcher

PARTITIONS = 4
NDJSON = [("content-type", b"application/x-ndjson")]

Report = Callable[[str, int, int | None], None]  # stage, done, of


def no_report(stage: str, done: int, of: int | None) -> None:
    """For where nobody looks."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay did. ``cells_held_back`` is exact and for operators; ``rejected`` is by reason."""

    events_in: int
    accepted: int
    rejected: dict[str, int]
    windows: dict[str, int]
    releases: int
    cells_released: int
    cells_held_back: int
    seconds: float
    events_per_second: float
    workers: int
    workers_restarted: int
    policy: str
    protects: bool
    epsilon: float | None
    statistics: str

    @property
    def balanced(self) -> bool:
        """Whether every event ended in exactly one outcome."""
        return self.events_in == self.accepted + sum(self.rejected.values())


def replay(
    files: Sequence[Path],
    directory: Path,
    settings: Settings,
    *,
    workers: int = 1,
    mapping: Path | None = None,
    batch: int = BATCH_EVENTS,
    report: Report = no_report,
) -> Summary:
    """Runs the job; leaves ``directory/statistics.duckdb``. Raises ``SettingsError``, ``OverBudget`` or
    ``StackError``.
    """
    declarations = read_declarations(settings, datetime.now(UTC).date())
    directory.mkdir(parents=True, exist_ok=True)
    environment = {
        "HEADCOUNT_FIELDS": str(settings.fields.resolve()),
        "HEADCOUNT_STATISTICS": str(settings.statistics.resolve()),
        "HEADCOUNT_POLICY": str(settings.policy.resolve()),
        "HEADCOUNT_SINCE": settings.since,
        "HEADCOUNT_UNTIL": settings.until,
    }
    with running_stack(directory, workers=workers, partitions=PARTITIONS, environment=environment) as stack:
        began = time.monotonic()
        with closing(Sender(stack.kafka)) as sender:
            for _ in sender.send(lines for file in files for lines in read_events(file, mapping, batch)):
                report("sent", sender.events, None)
                stack.supervise()
            sender.tell(date_of(FOREVER))
        watch = wait_for_releases(stack, declarations.plan, report)
        seconds = time.monotonic() - began
        rebuild(directory, stack.kafka)
        rejected = Counter(watch.rejected())
        if sender.oversized:
            rejected["too_large"] += sender.oversized
        return summarise(
            watch,
            directory,
            events_in=sender.events,
            rejected=dict(sorted(rejected.items())),
            seconds=seconds,
            stack=stack,
            accountant=declarations.accountant,
        )


class Sender:
    """Sends batches to the source partitions in turn, and gives the replayer's word to each."""

    def __init__(self, kafka: dict[str, Any], partitions: int = PARTITIONS) -> None:
        self._producer = KafkaProducer(**kafka, linger_ms=5, compression_type="lz4", max_request_size=8 << 20)
        self._partitions = partitions
        self._failed: list[BaseException] = []
        self._records = 0
        self.events = 0
        self.oversized = 0

    def send(self, batches: Iterable[Lines]) -> Iterable[int]:
        """Sends all; gives the number of events after each batch."""
        for lines in batches:
            self.events += lines.events + lines.oversized
            self.oversized += lines.oversized
            if lines.value:
                future = self._producer.send(
                    EVENTS, partition=self._records % self._partitions, value=lines.value, headers=NDJSON
                )
                future.add_errback(self._failed.append)
                self._records += 1
            yield self.events
        self._producer.flush()
        if self._failed:
            raise RuntimeError(f"the broker did not take every event ({type(self._failed[0]).__name__})")

    def tell(self, until: date) -> None:
        """The word: every event before that date was sent."""
        for partition in range(self._partitions):
            self._producer.send(EVENTS, partition=partition, value=b"", headers=[(WORD, until.isoformat().encode())])
        self._producer.flush()

    def close(self) -> None:
        """What is not sent by now is not sent."""
        self._producer.close(timeout=5)


def wait_for_releases(stack: Stack, plan: Plan, report: Report, until: int = FOREVER) -> Watch:
    """Blocks until every window that ends by that day is released, and keeps the workers up meanwhile."""
    watcher = Watcher(stack.kafka, plan, PARTITIONS)
    try:
        while True:
            watcher.poll(0.2)
            stack.supervise()
            watch = watcher.watch
            report("released", len(watch.released), len(watch.released) + watch.missing())
            if watch.complete(until) and watcher.caught_up():
                return watch
    finally:
        watcher.close()


def summarise(
    watch: Watch,
    directory: Path,
    *,
    events_in: int,
    rejected: dict[str, int],
    seconds: float,
    stack: Stack,
    accountant: Accountant,
) -> Summary:
    """The figures of a finished run."""
    return Summary(
        events_in=events_in,
        accepted=watch.accepted_events(),
        rejected=rejected,
        windows=dict(Counter(window.kind for window in sorted(watch.windows(), key=lambda w: w.rank))),
        releases=len(watch.released),
        cells_released=sum(watch.released.values()),
        cells_held_back=watch.held_back(),
        seconds=round(seconds, 3),
        events_per_second=round(events_in / seconds, 1),
        workers=len(stack.processes),
        workers_restarted=stack.restarts,
        policy=accountant.policy.version,
        protects=accountant.protects,
        epsilon=None if accountant.epsilon_month == float("inf") else round(accountant.epsilon_month, 4),
        statistics=str(directory / "statistics.duckdb"),
    )

"""Whole runs: a stack that is fed and disturbed until everything is released, and its topics read raw."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaConsumer, TopicPartition

from pipeline.core.contributions import Contributions, decode_contribution
from pipeline.core.outcomes import Rejection
from pipeline.core.release import Release, decode_release
from pipeline.core.tallies import FOREVER
from pipeline.core.windows import date_of
from pipeline.declarations import Declarations, read_declarations
from pipeline.replay import PARTITIONS, Sender
from pipeline.settings import SCHEMAS, Settings
from pipeline.stack import Stack, running_stack
from pipeline.stream.rejections import decode_rejections
from pipeline.stream.topics import CONTRIBUTIONS, REJECTIONS, RELEASES
from pipeline.watching import Watch, Watcher
from tests.e2e.counting import Cells, Counts

EXACT = SCHEMAS / "exact.toml"
TODAY = date(2026, 6, 1)


@contextmanager
def stack_of(directory: Path, workers: int, policy: Path = EXACT, **environment: str) -> Iterator[Stack]:
    """A running pipeline whose members are missed after two seconds, so that a kill costs little."""
    environment = {"HEADCOUNT_POLICY": str(policy), **environment}
    with running_stack(directory, workers=0, partitions=PARTITIONS, environment=environment) as stack:
        stack.environment["HEADCOUNT_SESSION_TIMEOUT"] = "2"
        for _ in range(workers):
            stack.start_worker()
        yield stack


def declared(policy: Path = EXACT) -> Declarations:
    return read_declarations(Settings(policy=policy), TODAY)


class Reader:
    """Reads topics from their beginning, a bit at a time, and keeps every record as it is."""

    def __init__(self, kafka: Mapping[str, Any], *topics: str) -> None:
        self.records: dict[str, list[Any]] = {topic: [] for topic in topics}
        self._consumer = KafkaConsumer(
            **kafka,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_uncommitted",
            max_partition_fetch_bytes=64 << 20,
            fetch_max_bytes=256 << 20,
            fetch_max_wait_ms=50,
            enable_incremental_fetch_sessions=False,
        )
        found = [TopicPartition(t, number) for t in topics for number in self._consumer.partitions_for_topic(t)]
        self._consumer.assign(found)
        self._consumer.seek_to_beginning()

    def poll(self, seconds: float) -> list[Any]:
        """What is new."""
        polled = self._consumer.poll(timeout_ms=int(seconds * 1000), max_records=100_000)
        new = [record for records in polled.values() for record in records]
        for record in new:
            self.records[record.topic].append(record)
        return new

    def to_the_end(self) -> dict[str, list[Any]]:
        """Everything there is."""
        for _ in range(300):
            self.poll(0.1)
            ends = {each: self._consumer.highwater(each) for each in self._consumer.assignment()}
            if all(end is not None and self._consumer.position(each) >= end for each, end in ends.items()):
                self._consumer.close()
                return self.records
        raise AssertionError("the topics were not read to their end")


def read_all(kafka: Mapping[str, Any], *topics: str) -> dict[str, list[Any]]:
    """Every record of the topics, by topic; also those of transactions that were not committed."""
    return Reader(kafka, *topics).to_the_end()


@dataclass
class Finished:
    """What a run left behind."""

    watch: Watch
    log: list[str]  # the key of every record of usage.releases
    releases: dict[str, Release]
    rejections: list[Rejection]
    restarts: int
    seconds: float

    @property
    def counts(self) -> Counts:
        return {(r.statistic, f"{r.window}-{r.start}"): cells_of(r) for r in self.releases.values()}


def cells_of(release: Release) -> Cells:
    """Cell → numbers; the total under a name that no cell has."""
    cells = dict(zip(release.cells, zip(*release.values, strict=True), strict=True))
    return cells if release.total is None else {**cells, ("total",): tuple(release.total)}


@dataclass
class Kill:
    """Ends a worker with SIGKILL once: when ``due``, given the share of the rows contributed and what was released."""

    worker: int
    due: Callable[[float, int], bool]
    at: tuple[float, int] | None = field(default=None)


AHEAD = 20_000  # rows that may be on their way: what is sent is sent as it is taken up, so that a kill has a middle


def finish(
    stack: Stack, rows: int, feed: Iterable[tuple[int, int]] = (), kills: Iterable[Kill] = (), patience: float = 120.0
) -> Finished:
    """Feeds a run, waits until everything is released and keeps the workers up, but for the kills in their order.

    ``rows``: how many will be contributed; ``feed``: sends some more, and gives how many were sent in all and how many
    releases are waited for before there is more.
    """
    began = time.monotonic()
    waiting = list(kills)
    watcher = Watcher(stack.kafka, declared().plan, PARTITIONS)
    contributions = Reader(stack.kafka, CONTRIBUTIONS)
    met: dict[
        tuple[int, int], int
    ] = {}  # per destination and source, the last offset: what is delivered again counts once
    contributed = 0
    more = iter(feed)
    sent = next(more, None)
    try:
        while True:
            watcher.poll(0.02)
            for record in contributions.poll(0.02):
                contribution = decode_contribution(record.value)
                if isinstance(contribution, Contributions):
                    way = record.partition, contribution.partition
                    known = met.get(way, -1)
                    contributed += int((np.frombuffer(contribution.offsets, dtype="<i8") > known).sum())
                    met[way] = max(known, contribution.last)
            while sent is not None and contributed >= sent[0] - AHEAD and len(watcher.watch.released) >= sent[1]:
                sent = next(more, None)
            watch = watcher.watch
            now = contributed / rows, len(watch.released)
            if waiting and waiting[0].due(*now):
                kill = waiting.pop(0)
                kill.at = now
                stack.processes[kill.worker].kill()
                stack.processes[kill.worker].wait()
            stack.supervise()
            if sent is None and watch.complete(FOREVER) and watcher.caught_up():
                break
            assert time.monotonic() - began < patience, f"{now} contributed and released, {watch.missing()} missing"
    finally:
        watcher.close()
    assert not waiting, "the run was over before the kill"
    read = read_all(stack.kafka, RELEASES, REJECTIONS)
    return Finished(
        watch=watch,
        log=[record.key.decode() for record in read[RELEASES]],
        releases={record.key.decode(): decode_release(record.value) for record in read[RELEASES]},
        rejections=[each for record in read[REJECTIONS] for each in decode_rejections(record.value)],
        restarts=stack.restarts,
        seconds=time.monotonic() - began,
    )


def tell_everything_was_sent(kafka: dict[str, Any]) -> None:
    """The replayer's last word."""
    Sender(kafka).tell(date_of(FOREVER))

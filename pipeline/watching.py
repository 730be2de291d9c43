"""Follows a run by what it leaves in the topics: how much was accepted, rejected and released, and whether it is
complete.

Everything is counted from the log and once per provenance, so a killed worker, or two of them, change no figure.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from pipeline.core.counting import Cell
from pipeline.core.outcomes import Rejection
from pipeline.core.release import decode_release, release_key
from pipeline.core.statistics import Plan
from pipeline.core.tallies import Tally
from pipeline.core.windows import Window, window_named
from pipeline.stream.rejections import decode_rejections
from pipeline.stream.tallying import decode_tally
from pipeline.stream.topics import REJECTIONS, RELEASES, TALLIES


@dataclass
class Watch:
    """A fold over tallies, releases and rejections."""

    plan: Plan
    partitions: int
    closed: dict[int, int] = field(default_factory=dict)
    accepted: dict[tuple[Window, int], int] = field(default_factory=dict)
    met: dict[tuple[Window, str], set[Cell]] = field(default_factory=dict)  # the cells that anyone was in, sealed
    rejections: set[Rejection] = field(default_factory=set)
    released: dict[str, int] = field(default_factory=dict)  # key → cells

    def add(self, topic: str, key: bytes | None, value: bytes) -> None:
        if topic == REJECTIONS:
            self.rejections.update(decode_rejections(value))
        elif topic == RELEASES:
            self.released[(key or b"").decode()] = len(decode_release(value).cells)
        elif isinstance(tally := decode_tally(value), Tally):
            window = window_named(tally.window)
            self.accepted[window, tally.partition] = tally.accepted
            for name, counted in tally.statistics.items():
                self.met.setdefault((window, name), set()).update(counted.cells)
        else:
            self.closed[tally.partition] = max(tally.closed, self.closed.get(tally.partition, tally.closed))

    def windows(self) -> set[Window]:
        """Every window that any partition has given out."""
        return {window for window, _ in self.accepted}

    def missing(self) -> int:
        """How many releases are still to come of the windows given out so far."""
        keys = (release_key(name, w.name) for w in self.windows() for name in self.plan.of(w.kind))
        return sum(1 for key in keys if key not in self.released)

    def complete(self, until: int) -> bool:
        """Whether every window that ends by this day is counted by every partition and released."""
        closed = len(self.closed) == self.partitions and min(self.closed.values()) >= until
        return closed and not self.missing()

    def held_back(self) -> int:
        """Open cells that anyone was in and that are in no release. Exact: for operators."""
        return sum(
            len(cells) - self.released.get(release_key(name, window.name), 0)
            for (window, name), cells in self.met.items()
            if self.plan.open(self.plan.statistics[name])
        )

    def accepted_events(self) -> int:
        """Events that were counted: each is in one window of the shortest kind."""
        return sum(n for (window, _), n in self.accepted.items() if window.kind == self.plan.kinds[0])

    def rejected(self) -> dict[str, int]:
        """Rejected events by reason."""
        return dict(sorted(Counter(str(rejection.reason) for rejection in self.rejections).items()))


class Watcher:
    """Reads the three topics from their beginning into a :class:`Watch`."""

    def __init__(self, kafka: Mapping[str, Any], plan: Plan, partitions: int) -> None:
        self.watch = Watch(plan, partitions)
        self._partitions = [TopicPartition(topic, 0) for topic in (TALLIES, RELEASES, REJECTIONS)]
        self._next = {TopicPartition(topic, 0): 0 for topic in (TALLIES, REJECTIONS)}  # every offset is a record
        self._consumer = KafkaConsumer(
            **kafka,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=16 << 20,
            fetch_max_wait_ms=100,
        )
        self._consumer.assign(self._partitions)
        self._consumer.seek_to_beginning()

    def poll(self, seconds: float) -> bool:
        """Takes in what has come; whether there was anything."""
        polled = self._consumer.poll(timeout_ms=int(seconds * 1000))
        for partition, records in polled.items():
            for record in records:
                if partition in self._next:
                    if record.offset != self._next[partition]:
                        self._consumer.seek(partition, self._next[partition])  # see `pipeline.stream.broker`
                        break
                    self._next[partition] += 1
                self.watch.add(partition.topic, record.key, record.value)
        return bool(polled)

    def caught_up(self) -> bool:
        """Whether everything that the broker had at the last fetch was taken in."""
        for partition in self._partitions:
            end = self._consumer.highwater(partition)
            if end is None or self._consumer.position(partition) < end:
                return False
        return True

    def close(self) -> None:
        self._consumer.close()

"""From the log of releases to the file of statistics: the one process that writes it."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaConfigurationError, KafkaError, LogTruncationError, OffsetOutOfRangeError

from pipeline.core.release import Release, decode_release
from pipeline.stream.topics import RELEASES
from pipeline.warehouse.errors import UnusableReleaseError, WarehouseError
from pipeline.warehouse.lock import DirectoryLock
from pipeline.warehouse.snapshots import clean, publish
from pipeline.warehouse.tables import apply, holds
from pipeline.warehouse.work import open_work, positions, remove_work

WORK = "work.duckdb"

_log = logging.getLogger("headcount.projector")

_REPLACED = "the log of releases is not the one that was folded here: `headcount rebuild` starts anew from this one"


# What may be changed, and what correctness hangs on.
_SETTINGS: dict[str, Any] = {
    "client_id": "headcount-projector",
    "max_poll_records": 5_000,
    "max_partition_fetch_bytes": 16 << 20,  # a release is one record, and may be as large as the topic allows
    "fetch_max_wait_ms": 100,  # the broker answers at once when there is something; some look only when this is over
}
_FIXED: dict[str, Any] = {
    "group_id": None,
    "enable_auto_commit": False,
    "auto_offset_reset": "none",  # an unknown position is an error, not a reason to skip or to start over
    "isolation_level": "read_committed",
    "allow_auto_create_topics": False,
    "enable_incremental_fetch_sessions": False,  # idle partitions would not say where they end
}


@contextmanager
def _explained() -> Iterator[None]:
    """Say what to do about an error of the client, without its text: it may quote what was received."""
    try:
        yield
    except (OffsetOutOfRangeError, LogTruncationError):
        raise WarehouseError(_REPLACED) from None
    except KafkaConfigurationError:
        raise  # it names a setting, and nothing that was received
    except (OSError, duckdb.IOException) as error:
        raise WarehouseError(
            f"the statistics could not be written ({type(error).__name__}): is the disk full? What was published stays"
        ) from None
    except KafkaError as error:
        raise WarehouseError(
            f"the broker could not be used ({type(error).__name__}): "
            "check KAFKA_BOOTSTRAP_SERVERS and the settings of TLS and SASL"
        ) from None


class Projector:
    """Folds the topic of releases into ``DIR/work.duckdb`` and publishes ``DIR/statistics.duckdb``.

    ``kafka``: keyword arguments of kafka-python's consumer: ``bootstrap_servers``, those for TLS and SASL.
    ``fresh``: forget the work file and read the log from its beginning; what was published stays till then.
    Raises :class:`~pipeline.warehouse.errors.BusyError` while another projector writes to the directory. No record
    is ever skipped: one that cannot be folded ends every method with a :class:`WarehouseError`.
    """

    def __init__(
        self, directory: Path | str, kafka: Mapping[str, Any], *, topic: str = RELEASES, fresh: bool = False
    ) -> None:
        self.directory = Path(directory)
        self.topic = topic
        self.directory.mkdir(parents=True, exist_ok=True)
        self._kafka = dict(kafka)
        self._consumer: Any = None
        self.turned = 0.0  # when the loop of :meth:`run` last turned, by time.monotonic
        self.behind: int | None = None  # records, as of then
        self._unpublished = True  # a crash may have come between the last fold and its publication
        self._lock = DirectoryLock(self.directory)
        try:
            clean(self.directory)
            if fresh:
                remove_work(self.directory / WORK)
            self._work = open_work(self.directory / WORK)
            self.folded = positions(self._work)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> "Projector":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the broker, the work file and the directory."""
        self._disconnect()
        self._work.close()
        self._lock.release()

    @_explained()
    def catch_up(self, patience: float = 90.0) -> int:
        """Fold what the log holds now and publish it; returns how many releases were new.

        ``patience``: seconds without any progress after which a :class:`WarehouseError` is raised.
        """
        self._connect()
        if not self._assign():
            raise WarehouseError(f"there is no topic {self.topic}: start the worker, or create the topics first")
        new, moved, before = 0, time.monotonic(), -1
        ends: dict[TopicPartition, int] = {}
        while not self._reached(ends):
            new += self._step(0.2)
            if (now := self._progress(ends)) != before:
                moved, before = time.monotonic(), now
            elif time.monotonic() - moved > patience:
                raise WarehouseError(
                    f"{self.topic} did not move for {patience:.0f} s: broker down, or transaction open?"
                )
        if self._unpublished:
            self.publish()
        return new

    @_explained()
    def run(self, stop: threading.Event, every: float = 5.0) -> None:
        """Follow the log until ``stop`` is set; publish what is new at most every ``every`` seconds.

        Nothing is published before all is folded that the broker had when it was asked: readers never see less than
        before, and of what was released together they see all or nothing.
        """
        self._connect()
        ends: dict[TopicPartition, int] = {}
        caught_up, due = False, 0.0
        while not stop.is_set():
            self.turned = time.monotonic()
            if not self._assign():
                stop.wait(1.0)
                continue
            self._step(min(0.5, every))
            self.behind = self._lag()
            caught_up = caught_up or self._reached(ends)
            if caught_up and self.behind == 0 and self._unpublished and time.monotonic() >= due:
                self.publish()
                due = time.monotonic() + every
        if caught_up and self._unpublished:
            self.publish()

    def publish(self) -> Path:
        """Publish a snapshot of what is folded."""
        path = publish(self._work, self.directory)
        self._unpublished = False
        _log.info("published %s", path.name)
        return path

    def _connect(self) -> None:
        """Begin with a new consumer: one that was used before remembers where partitions ended then."""
        self._disconnect()
        self._consumer = KafkaConsumer(**_SETTINGS | self._kafka | _FIXED)

    def _disconnect(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _assign(self) -> bool:
        """Read all partitions there are, also those added later; false while there are none."""
        found = {TopicPartition(self.topic, n) for n in self._consumer.partitions_for_topic(self.topic)}
        if found and found != self._consumer.assignment():
            self._consumer.assign(sorted(found))
            for partition in found:
                # One record again: unless it is a known one, this is not the log that was folded.
                self._consumer.seek(partition, max(0, self.folded.get(partition.partition, 0) - 1))
        return bool(found)

    def _step(self, seconds: float) -> int:
        """Fold one batch, in one transaction with how far it goes; returns how many releases were new."""
        polled = self._consumer.poll(timeout_ms=int(seconds * 1000))
        for partition in self._consumer.assignment():
            end = self._consumer.highwater(partition)
            if end is not None and end < self.folded.get(partition.partition, 0):
                raise WarehouseError(_REPLACED)
        records = [record for batch in polled.values() for record in batch]
        if not records:
            return 0
        releases = [self._decoded(record) for record in records]
        for record, release in zip(records, releases, strict=True):
            if record.offset < self.folded.get(record.partition, 0) and not holds(self._work, release):
                raise WarehouseError(_REPLACED)
        reached = {record.partition: record.offset + 1 for record in records}
        try:
            new = apply(self._work, releases, reached)
        except UnusableReleaseError as error:
            raise WarehouseError(f"{self._at(records[error.position])} cannot be folded: {error.reason}") from None
        self.folded |= reached
        self._unpublished = self._unpublished or new > 0
        if new:
            _log.info("folded %d releases", new)
        return new

    def _decoded(self, record: Any) -> Release:
        try:
            return decode_release(record.value or b"")
        except (msgspec.MsgspecError, ValueError):
            raise WarehouseError(
                f"{self._at(record)} is no release that this version reads: if a newer one wrote it, upgrade"
            ) from None

    def _at(self, record: Any) -> str:
        return f"the record at offset {record.offset} of partition {record.partition} of {self.topic}"

    def _reached(self, ends: dict[TopicPartition, int]) -> bool:
        """Whether all partitions are read up to ``ends``: the first high watermarks that fetches returned."""
        for partition in self._consumer.assignment():
            end = self._consumer.highwater(partition)
            if end is not None:
                ends.setdefault(partition, end)
            # Not end_offsets(): brokers exist that get it wrong.
            if partition not in ends or self._position(partition) < ends[partition]:
                return False
        return True

    def _lag(self) -> int | None:
        ends = {each: self._consumer.highwater(each) for each in self._consumer.assignment()}
        if not ends or None in ends.values():
            return None
        behind: int = sum(max(0, end - self._position(each)) for each, end in ends.items())
        return behind

    def _progress(self, ends: dict[TopicPartition, int]) -> int:
        return len(ends) + sum(self._position(partition) for partition in self._consumer.assignment())

    def _position(self, partition: TopicPartition) -> int:
        return self._consumer.position(partition, timeout_ms=1000) or 0


def rebuild(directory: Path | str, kafka: Mapping[str, Any], *, topic: str = RELEASES) -> int:
    """Throw the work file away, fold the log from its beginning, publish; returns the number of releases."""
    with Projector(directory, kafka, topic=topic, fresh=True) as projector:
        return projector.catch_up()

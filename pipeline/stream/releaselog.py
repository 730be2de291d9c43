"""The log of releases: read to its end before anything is drawn, written in fenced transactions, one record a release.

The record is the release. What was drawn and not committed was never seen by anyone and is drawn anew; what is in
the log is never drawn again.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import InvalidProducerEpochError, ProducerFencedError

from pipeline.core.ledger import Ledger, decode_cost
from pipeline.core.release import KeySet, Release, encode_release
from pipeline.stream.topics import RELEASES

TRANSACTIONAL_ID = "headcount-release"
_PARTITION = TopicPartition(RELEASES, 0)


class LogUnreadable(RuntimeError):
    """Where the log ends is not known. Releasing on a part of it could draw a release twice."""


class Fenced(RuntimeError):
    """Another worker writes the log of releases now. What this one would have written was not published."""

    def __init__(self) -> None:
        super().__init__("fenced: another worker releases now; nothing of this one was published")


class ReleaseLog:
    """The only writer of ``usage.releases``: a second one fences the first."""

    def __init__(self, kafka: Mapping[str, Any]) -> None:
        self._kafka = kafka
        self._producer = KafkaProducer(
            **kafka,
            transactional_id=TRANSACTIONAL_ID,
            acks="all",
            compression_type="gzip",
            max_request_size=16 << 20,
        )
        self._producer.init_transactions()  # from here on whoever wrote before is fenced
        self.keys = KeySet()
        self.ledger = Ledger()
        self.read()

    def read(self) -> None:
        """Takes in what is in the log by now."""
        for key, value in read_log(self._kafka, _PARTITION):
            if key not in self.keys:
                self.keys.add(key)
                self.ledger.add(decode_cost(value))

    def commit(self, releases: Iterable[Release]) -> None:
        """All of them or none. Raises :class:`Fenced` when another writer has taken over."""
        self._producer.begin_transaction()
        try:
            written = {}
            releases = list(releases)
            for release in releases:
                key = release.key
                if key in self.keys or key in written:
                    raise RuntimeError("a release is never drawn twice")
                written[key] = self._producer.send(
                    RELEASES, partition=0, key=key.encode(), value=encode_release(release)
                )
            for future in written.values():
                future.get(60)
            self._producer.commit_transaction()
        except (ProducerFencedError, InvalidProducerEpochError):
            raise Fenced from None  # whoever took over has aborted it
        except BaseException:
            self._producer.abort_transaction()
            raise
        for release in releases:
            self.keys.add(release.key)
            self.ledger.add(release)

    def close(self) -> None:
        self._producer.close(timeout=5)


def read_log(kafka: Mapping[str, Any], partition: TopicPartition, start: int = 0) -> Iterator[tuple[str, bytes]]:
    """Every record from ``start`` to the end that the broker names when it is asked: (key, value)."""
    consumer = KafkaConsumer(
        **kafka,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=16 << 20,
    )
    try:
        consumer.assign([partition])
        consumer.seek(partition, start)
        empty = 0
        while empty < 10:
            polled = consumer.poll(timeout_ms=1000).get(partition, [])
            for record in polled:
                yield (record.key or b"").decode(), record.value
            # The mark that came with the fetch, and not `end_offsets`, which the embedded broker gets wrong.
            end = consumer.highwater(partition)
            if end is not None and consumer.position(partition) >= end:
                return
            empty = 0 if polled else empty + 1
        raise LogUnreadable("usage.releases could not be read to its end: nothing is released until it can")
    finally:
        consumer.close()

"""A real broker with the real topics, real keys in files, and the declarations that ship."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from pipeline.declarations import Declarations
from pipeline.stream.broker import embedded_broker
from pipeline.stream.keystore import FileKeyStore
from pipeline.stream.topics import create_topics
from pipeline.testing import EXACT, declarations
from tests.stream.consuming import make_consumer

KEK = bytes(range(32))
PARTITIONS = 3


@pytest.fixture
def kafka() -> Iterator[dict[str, Any]]:
    """The settings of an embedded broker that has all topics and nothing in them."""
    with embedded_broker() as address:
        settings: dict[str, Any] = {"bootstrap_servers": [address]}
        create_topics(settings, partitions=PARTITIONS)
        yield settings


@pytest.fixture
def keys(tmp_path: Path) -> FileKeyStore:
    return FileKeyStore(tmp_path / "keys", KEK)


@pytest.fixture(scope="session")
def exact() -> Declarations:
    """What ships in ``schemas/``, under the policy without noise, thresholds and bounds."""
    return declarations(policy=EXACT)


@pytest.fixture
def no_event_loop() -> Iterator[None]:
    """Leaves no event loop behind."""
    yield
    asyncio.set_event_loop(None)


@pytest.fixture
def consumer(no_event_loop: None) -> Iterator[Any]:
    """A consumer of the worker's in an event loop of its own, with nobody to fetch for it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield make_consumer()
    loop.close()


class Sent:
    """What a hop has sent: the shell's own argument, kept in order."""

    def __init__(self) -> None:
        self.records: list[tuple[str, int, bytes]] = []

    async def __call__(self, topic: str, partition: int, value: bytes) -> None:
        self.records.append((topic, partition, value))

    def take(self) -> list[tuple[str, int, bytes]]:
        """What came since the last time."""
        taken, self.records = self.records, []
        return taken


@pytest.fixture
def sent() -> Sent:
    return Sent()


def read_topic(kafka: dict[str, Any], topic: str, isolation: str = "read_uncommitted") -> list[Any]:
    """Every record of all partitions of a topic, up to the end that fetches name."""
    consumer = KafkaConsumer(
        **kafka,
        isolation_level=isolation,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=16 << 20,
        enable_incremental_fetch_sessions=False,
    )
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        found: list[Any] = []
        for _ in range(200):
            found += [record for records in consumer.poll(timeout_ms=100).values() for record in records]
            ends = {each: consumer.highwater(each) for each in partitions}
            if all(end is not None and consumer.position(each) >= end for each, end in ends.items()):
                return found
        raise AssertionError(f"{topic} was not read to its end")
    finally:
        consumer.close()

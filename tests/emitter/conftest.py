"""A real broker for the session, a topic for each test, and a reader that hands over what arrived."""

import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from pipeline.emitter import UsageEmitter
from pipeline.stream.broker import embedded_broker

PARTITIONS = 2


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    with embedded_broker() as address:
        yield address


@pytest.fixture
def topic(broker: str) -> str:
    name = f"usage.events.{uuid.uuid4().hex[:8]}"
    create_topic(broker, name)
    return name


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where connections are accepted by the system and nobody ever answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"127.0.0.1:{silent.getsockname()[1]}"


@pytest.fixture
def absent() -> str:
    """An address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _tracking_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)


@pytest.fixture
def make() -> Iterator[Callable[..., UsageEmitter]]:
    """Makes emitters, and closes them when the test is over."""
    made: list[UsageEmitter] = []

    def maker(address: str, **options: Any) -> UsageEmitter:
        made.append(UsageEmitter("shop-web", bootstrap_servers=address, **{"linger": 0.02, **options}))
        return made[-1]

    yield maker
    for emitter in made:
        emitter.close(0)


def create_topic(address: str, name: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=address)
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])
    admin.close()


def records(address: str, topic: str, events: int, seconds: float = 10.0) -> list[Any]:
    """The topic's records, once they hold this many events; fails if they do not within the time."""
    consumer = KafkaConsumer(
        bootstrap_servers=address,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=20,
    )
    consumer.assign([TopicPartition(topic, partition) for partition in range(PARTITIONS)])
    found: list[Any] = []
    deadline = time.monotonic() + seconds
    quiet = 0
    while quiet < 2:  # one more look, for what should not have come
        polled = [record for batch in consumer.poll(timeout_ms=50).values() for record in batch]
        found += polled
        arrived = sum(len(json.loads(record.value)) for record in found)
        quiet = quiet + 1 if arrived >= events and not polled else 0
        assert time.monotonic() < deadline, f"{arrived} of {events} events arrived"
    consumer.close()
    return found


def arrived(address: str, topic: str, events: int, seconds: float = 10.0) -> list[dict[str, Any]]:
    """The events themselves; exactly so many."""
    found = [event for record in records(address, topic, events, seconds) for event in json.loads(record.value)]
    assert len(found) == events
    return found

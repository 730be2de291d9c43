"""What is kept of Faust and aiokafka: the private names that the transport relies on, and what they do."""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiokafka
import faust
import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment, TopicPartitionState
from faust.transport.consumer import ThreadDelegateConsumer
from faust.transport.drivers import aiokafka as driver

from pipeline.stream.fetching import FETCH_WAIT_MS
from pipeline.stream.fetching import Thread as FetchingThread
from pipeline.stream.transport import Consumer, Transport
from tests.stream.consuming import run


def parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


# What the transport and the app use of Faust that Faust does not promise: where, the parameters, whether it is awaited.
PRIVATE: list[tuple[Any, str, list[str], bool]] = [
    (driver.Consumer, "_getmany", ["active_partitions", "timeout"], True),
    (driver.Consumer, "_to_message", ["tp", "record"], False),
    (driver.Consumer, "_new_offset", ["tp"], False),
    (driver.Consumer, "perform_seek", [], True),
    (driver.Consumer, "seek_to_committed", [], True),
    (driver.Consumer, "seek", ["partition", "offset"], True),
    (driver.Consumer, "_seek", ["partition", "offset"], True),
    (driver.AIOKafkaConsumerThread, "seek", ["partition", "offset"], False),
    (driver.AIOKafkaConsumerThread, "call_thread", ["fun", "args"], True),
    (driver.AIOKafkaConsumerThread, "_create_worker_consumer", ["transport"], False),
    (faust.App, "_crash", ["reason"], False),
    (driver.Consumer, "earliest_offsets", ["partitions"], True),
    (driver.Consumer, "on_partitions_revoked", ["revoked"], True),
    (driver.Consumer, "on_partitions_assigned", ["assigned", "generation_id"], True),
    (driver.Consumer, "_new_consumer_thread", [], False),
    (
        driver.AIOKafkaConsumerThread,
        "_fetch_records",
        ["consumer", "active_partitions", "timeout", "max_records"],
        True,
    ),
    (driver.Consumer, "assignment", [], False),
    (driver.Consumer, "_filter_tps_with_pending_acks", ["topics"], False),
    (driver.Consumer, "_filter_committable_offsets", ["tps"], False),
    (driver.Consumer, "_should_commit", ["tp", "offset"], False),
    (faust.App, "create_event", ["key", "value", "headers", "message"], False),
    (driver.Producer, "send_and_wait", ["topic", "key", "value", "partition", "timestamp", "headers"], True),
]


@pytest.mark.parametrize(
    ("owner", "name", "expected", "awaited"), PRIVATE, ids=[f"{o.__name__}.{n}" for o, n, *_ in PRIVATE]
)
def test_faust_still_has(owner: Any, name: str, expected: list[str], awaited: bool) -> None:
    method = getattr(owner, name)
    assert parameters(method)[: len(expected)] == expected
    assert inspect.iscoroutinefunction(method) == awaited


def test_the_versions_are_those_that_the_transport_was_written_for() -> None:
    """It overrides private methods. Before these lines are changed: read their new source, and these tests."""
    assert faust.__version__ == "0.15.3"
    assert aiokafka.__version__ == "0.14.0"


def test_what_is_overridden_is_what_faust_calls(consumer: Any) -> None:
    own = {name for name in vars(Consumer) if inspect.isfunction(vars(Consumer)[name]) and not name.startswith("__")}
    asked = {"place_of", "caught_up", "behind", "made", "answered", "is_member"}
    assert own - set(dir(driver.Consumer)) == asked | {
        "follow", "look", "finish", "leave", "_hop", "_handle", "_read_from_places", "_say_if_fenced"
    }  # fmt: skip
    assert "self._new_offset(tp)" in inspect.getsource(driver.Consumer._filter_committable_offsets)
    assert "self._to_message" in inspect.getsource(driver.Consumer.getmany)
    assert "self._getmany(" in inspect.getsource(driver.Consumer._wait_next_records)
    assert "self._filter_tps_with_pending_acks(" in inspect.getsource(driver.Consumer.force_commit)
    assert "self._fetch_records" in inspect.getsource(driver.AIOKafkaConsumerThread.getmany)
    assert "self._new_consumer_thread()" in inspect.getsource(ThreadDelegateConsumer.__init__)
    assert "self.seek_to_committed()" in inspect.getsource(driver.Consumer.perform_seek)
    assert "transport.Consumer(" in inspect.getsource(driver.Transport.create_consumer).replace("self.", "transport.")
    assert Transport.Consumer is Consumer


def test_no_partition_waits_long_for_a_fetch_of_others(consumer: Any) -> None:
    async def created() -> Any:
        return FetchingThread(consumer)._create_worker_consumer(consumer.transport)

    client = run(created())
    assert client._fetch_max_wait_ms == FETCH_WAIT_MS < 200
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in inspect.getsource(aiokafka.AIOKafkaConsumer.start)


def test_the_group_is_left_by_what_aiokafka_has() -> None:
    coordinator = GroupCoordinator
    assert "await self._maybe_leave_group()" in inspect.getsource(coordinator.close)
    assert "if self.generation > 0" in inspect.getsource(coordinator._maybe_leave_group)
    assert {"member_id", "generation"} <= set(coordinator.__init__.__code__.co_names)
    assert "self._coordinator" in inspect.getsource(aiokafka.AIOKafkaConsumer.start)


def test_the_consumer_still_has_the_state_that_is_read(consumer: Any) -> None:
    assert isinstance(consumer._acked, dict)
    assert isinstance(consumer._acked_index, dict)
    assert isinstance(consumer._read_offset, dict)
    assert isinstance(consumer._committed_offset, dict)

    async def state() -> TopicPartitionState:
        return TopicPartitionState(SimpleNamespace())

    made = run(state())
    assert not made.has_valid_position
    assert made.highwater is None
    assert made.timestamp is None
    assert "self._subscription = " in inspect.getsource(aiokafka.AIOKafkaConsumer.__init__)
    assert parameters(Assignment.state_value) == ["tp"]

"""What is kept of Faust: which offsets may be committed, and the private names that the transport relies on."""

import asyncio
import inspect
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiokafka
import faust
import pytest
from aiokafka.consumer.subscription_state import Assignment, TopicPartitionState
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.core.events import Record
from pipeline.settings import Settings
from pipeline.stream.framework import new_app
from pipeline.stream.transport import Batch, BatchSchema, Consumer, Transport

TOPIC = "usage.events"


class Thread:
    """What the consumer asks its Kafka thread for, answered from what was committed."""

    def __init__(self) -> None:
        self.committed: dict[TP, int] = {}
        self.assigned: set[TP] = set()
        self.sought: dict[TP, int] = {}
        self.earliest = 0
        self._consumer: Any = None

    async def seek_to_committed(self) -> dict[TP, int]:
        return {tp: self.committed.get(tp, 0) for tp in self.assigned}

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        return dict.fromkeys(partitions, self.earliest)

    def seek(self, partition: TP, offset: int) -> None:
        self.sought[partition] = offset

    def assignment(self) -> set[TP]:
        return set(self.assigned)


def make_consumer() -> Any:
    """A consumer as the worker has it, but for the thread that talks to the broker."""

    async def nothing(*_: Any, **__: Any) -> None:
        return None

    app = new_app(Settings())
    consumer = app.transport.create_consumer(
        callback=nothing, on_partitions_revoked=nothing, on_partitions_assigned=nothing
    )
    assert isinstance(consumer, Consumer)
    consumer._thread = Thread()
    app.topics._acking_topics.add(TOPIC)
    return consumer


def raw(tp: TP, offset: int, **more: Any) -> Any:
    """A record as aiokafka gives it."""
    given = {"timestamp": 1_700_000_000_500, "headers": (), "key": b"key", "value": b"value", **more}
    return SimpleNamespace(
        topic=tp.topic,
        partition=tp.partition,
        offset=offset,
        timestamp_type=1,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
        **given,
    )


class Commits(RuleBasedStateMachine):
    """Batches come in order, are acknowledged in any order, are fetched again after a seek, and are taken away.

    The model: the offsets that anyone has handled. What is committed is never beyond the first that nobody has.
    """

    @initialize(partitions=st.integers(1, 2))
    def start(self, partitions: int) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.consumer = make_consumer()
        self.thread = self.consumer._thread
        self.tps = [TP(TOPIC, number) for number in range(partitions)]
        self.thread.assigned = set(self.tps)
        self.position: dict[TP, int] = dict.fromkeys(self.tps, 0)
        self.handled: dict[TP, set[int]] = defaultdict(set)
        self.waiting: list[tuple[TP, range, Any]] = []  # fetched and not acknowledged
        self.stale: list[tuple[TP, range, Any]] = []  # from before a seek, and still being handled
        self.run(self.consumer.perform_seek())

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    @rule(which=st.integers(0, 1), size=st.integers(1, 3))
    def fetch(self, which: int, size: int) -> None:
        tp = self.tps[which % len(self.tps)]
        if tp not in self.thread.assigned:
            return
        offsets = range(self.position[tp], self.position[tp] + size)
        message = self.consumer._to_message(tp, [raw(tp, offset) for offset in offsets])
        assert message.offset >= self.consumer._read_offset[tp]  # else Faust drops it
        assert message.offset - self.consumer._read_offset[tp] <= 1  # else Faust takes it for a gap
        self.position[tp] = offsets.stop
        self.waiting.append((tp, offsets, message))

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 5))
    def acknowledge(self, which: int) -> None:
        self.handle(self.waiting.pop(which % len(self.waiting)))

    @precondition(lambda self: self.stale)
    @rule(which=st.integers(0, 5))
    def acknowledge_what_was_fetched_again(self, which: int) -> None:
        self.handle(self.stale.pop(which % len(self.stale)))

    def handle(self, fetched: tuple[TP, range, Any]) -> None:
        tp, offsets, message = fetched
        self.handled[tp].update(offsets)
        self.consumer.ack(message)

    @rule()
    def commit(self) -> None:
        acked = list(self.consumer._filter_tps_with_pending_acks())
        for tp, offset in self.consumer._filter_committable_offsets(acked).items():
            if tp not in self.thread.assigned:
                continue  # Faust discards it
            assert offset > self.thread.committed.get(tp, 0)
            self.thread.committed[tp] = self.consumer._committed_offset[tp] = offset

    @rule(keep=st.booleans())
    def seek(self, keep: bool) -> None:
        """As after every rebalance: queues are emptied, and all is fetched again from what was committed."""
        self.run(self.consumer.perform_seek())
        if keep:
            self.stale += self.waiting
        self.waiting.clear()
        for tp in self.thread.assigned:
            self.position[tp] = self.thread.committed.get(tp, 0)

    @rule(which=st.integers(0, 1), committed_elsewhere=st.integers(0, 2))
    def revoke_or_assign(self, which: int, committed_elsewhere: int) -> None:
        """Eagerly: all are revoked, then all but one (or with it) are assigned again."""
        tp = self.tps[which % len(self.tps)]
        self.run(self.consumer.on_partitions_revoked(self.thread.assigned))
        if tp in self.thread.assigned:
            self.thread.assigned.discard(tp)
        else:
            self.thread.assigned.add(tp)
            there = self.thread.committed.get(tp, 0)  # somebody else went on
            self.handled[tp].update(range(there + committed_elsewhere))
            self.thread.committed[tp] = there + committed_elsewhere
        self.seek(keep=True)

    @invariant()
    def what_is_committed_was_handled(self) -> None:
        for tp, committed in getattr(self, "thread", Thread()).committed.items():
            assert set(range(committed)) <= self.handled[tp]

    def teardown(self) -> None:
        if not hasattr(self, "thread"):
            return
        for fetched in self.waiting:
            self.handle(fetched)
        self.commit()
        for tp in self.thread.assigned:
            assert self.thread.committed.get(tp, 0) == self.position[tp], "acknowledged to the end, and not committed"
            assert not self.consumer._in_flight.get(tp)
            assert not self.consumer._acked_index[tp]  # nothing is kept for ever
        self.loop.close()


TestCommits = pytest.mark.usefixtures("_event_loop")(Commits.TestCase)
TestCommits.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


@pytest.fixture
def _event_loop() -> Any:
    """Leaves no event loop behind."""
    yield
    asyncio.set_event_loop(None)


@pytest.fixture
def consumer(_event_loop: None) -> Any:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield make_consumer()
    loop.close()


def test_a_fetched_batch_becomes_one_message_in_order(consumer: Any) -> None:
    tp = TP(TOPIC, 2)
    records = [
        raw(tp, 40, value=b"a", headers=(("content-type", b"text/json"), ("absent", None))),
        raw(tp, 41, value=None),
        raw(tp, 43, value=b"", timestamp=1),  # 42 was compacted away, or is a transaction's mark
    ]
    message = consumer._to_message(tp, records)
    assert message.key is None
    assert message.offset == message.value.offset == 43
    assert message.value == Batch(
        TOPIC,
        2,
        [
            Record(40, 1_700_000_000.5, (("content-type", b"text/json"),), b"a"),
            Record(41, 1_700_000_000.5, (), None),
            Record(43, 0.001, (), b""),
        ],
    )


def test_partitions_without_records_give_no_message(consumer: Any) -> None:
    tp = TP(TOPIC, 0)

    async def getmany(active: Any, timeout: float) -> dict[TP, list[Any]]:
        return {tp: [1, 2], TP(TOPIC, 1): []}

    consumer._thread.getmany = getmany
    assert asyncio.get_event_loop().run_until_complete(consumer._getmany(set(), 1.0)) == {tp: [[1, 2]]}


def test_topics_that_are_folds_are_read_from_where_the_fold_says(
    consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def resume(partition: int, earliest: int) -> int:
        asked.append((partition, earliest))
        return earliest + 4 * partition

    monkeypatch.setattr(Consumer, "resume", {"fold": resume})
    thread = consumer._thread
    thread.assigned = {TP("plain", 0), TP("fold", 0), TP("fold", 1)}
    thread.committed = dict.fromkeys(thread.assigned, 50)
    thread.earliest = 3  # what was there before is deleted
    asyncio.get_event_loop().run_until_complete(consumer.perform_seek())
    assert sorted(asked) == [(0, 3), (1, 3)]
    assert thread.sought == {TP("fold", 0): 3, TP("fold", 1): 7}
    assert consumer._committed_offset == {TP("plain", 0): 50, TP("fold", 0): 3, TP("fold", 1): 7}


def test_where_nothing_was_committed_reading_begins_at_the_beginning(consumer: Any) -> None:
    thread = consumer._thread
    thread.assigned = {TP("plain", 0), TP("plain", 1)}
    thread.committed = {TP("plain", 0): -1, TP("plain", 1): 9}
    thread.earliest = 3
    asyncio.get_event_loop().run_until_complete(consumer.perform_seek())
    assert thread.sought == {TP("plain", 0): 3}


# The high watermark and the time (ms) of the broker's last answer, the last offset that was handed on, whether it was
# committed, and when the partition was caught up.
CAUGHT_UP = [
    ("all was handed on and committed", (10, 5_000), 9, True, 5.0),
    ("nothing was ever there", (0, 5_000), None, True, 5.0),
    ("all was handed on and not committed", (10, 5_000), 9, False, None),
    ("more is there", (11, 5_000), 9, True, None),
    ("the broker did not answer yet", (None, None), 9, True, None),
]


@pytest.mark.parametrize(("name", "answer", "last", "committed", "expected"), CAUGHT_UP, ids=[c[0] for c in CAUGHT_UP])
def test_a_partition_is_caught_up_as_of_the_broker_s_last_answer(
    consumer: Any, name: str, answer: tuple[Any, Any], last: int | None, committed: bool, expected: float | None
) -> None:
    tp = TP(TOPIC, 0)
    thread = consumer._thread
    thread.assigned = {tp}
    state = SimpleNamespace(highwater=answer[0], timestamp=answer[1])
    assignment = SimpleNamespace(state_value=lambda asked: state if asked == tp else None)
    thread._consumer = SimpleNamespace(
        _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
    )
    assert consumer.caught_up(tp) is None  # nobody has said yet where it is read from
    asyncio.get_event_loop().run_until_complete(consumer.perform_seek())
    if last is not None:
        message = consumer._to_message(tp, [raw(tp, offset) for offset in range(last + 1)])
        if committed:
            consumer.ack(message)
            assert consumer._new_offset(tp) == last + 1
    assert consumer.caught_up(tp) == expected
    asyncio.get_event_loop().run_until_complete(consumer.on_partitions_revoked({tp}))
    assert consumer.caught_up(tp) is None


@pytest.mark.parametrize(
    "value",
    [
        Batch(TOPIC, 0, [Record(1, 0.0, (), None)]),
        Batch(TOPIC, 0, [Record(1, 0.0, (), b""), Record(2, 0.0, (), b"\xff{")]),
    ],
)
def test_the_schema_hands_a_batch_on_untouched(consumer: Any, value: Batch) -> None:
    tp = TP(TOPIC, 0)
    message = driver.Consumer._to_message(consumer, tp, raw(tp, 2))
    message.value = value

    async def fail(*_: Any) -> None:
        raise AssertionError("nothing is decoded, so nothing can fail")

    decode = BatchSchema().compile(consumer.app, on_key_decode_error=fail, on_value_decode_error=fail)
    event = asyncio.get_event_loop().run_until_complete(decode(message, propagate=True))
    assert event.value is value
    assert event.key is None
    assert event.message is message


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
    (driver.Consumer, "earliest_offsets", ["partitions"], True),
    (driver.Consumer, "on_partitions_revoked", ["revoked"], True),
    (driver.Consumer, "assignment", [], False),
    (driver.Consumer, "ack", ["message"], False),
    (driver.Consumer, "_filter_tps_with_pending_acks", ["topics"], False),
    (driver.Consumer, "_filter_committable_offsets", ["tps"], False),
    (driver.Consumer, "_should_commit", ["tp", "offset"], False),
    (driver.AIOKafkaConsumerThread, "_ensure_consumer", [], False),
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
    assert own - set(dir(driver.Consumer)) == {"caught_up"}
    assert "self._new_offset(tp)" in inspect.getsource(driver.Consumer._filter_committable_offsets)
    assert "self._to_message" in inspect.getsource(driver.Consumer.getmany)
    assert "self._getmany(" in inspect.getsource(driver.Consumer._wait_next_records)
    assert "self.seek_to_committed()" in inspect.getsource(driver.Consumer.perform_seek)
    assert "transport.Consumer(" in inspect.getsource(driver.Transport.create_consumer).replace("self.", "transport.")
    assert Transport.Consumer is Consumer


def test_the_consumer_still_has_the_state_that_is_read(consumer: Any) -> None:
    tp = TP(TOPIC, 0)
    assert isinstance(consumer._acked, dict)
    assert isinstance(consumer._acked_index[tp], set)
    assert isinstance(consumer._read_offset, dict)
    assert isinstance(consumer._committed_offset, dict)
    assert driver.AIOKafkaConsumerThread._consumer is None

    async def state() -> TopicPartitionState:
        return TopicPartitionState(SimpleNamespace())

    made = asyncio.get_event_loop().run_until_complete(state())
    assert made.highwater is None
    assert made.timestamp is None
    assert "self._subscription = " in inspect.getsource(aiokafka.AIOKafkaConsumer.__init__)
    assert parameters(Assignment.state_value) == ["tp"]

"""What is kept of Faust: which offsets may be committed, and the private names that the transport relies on."""

import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import aiokafka
import faust
import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment, TopicPartitionState
from faust.transport.consumer import ThreadDelegateConsumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.core.events import Record
from pipeline.settings import Settings
from pipeline.stream import transport
from pipeline.stream.fetching import FETCH_WAIT_MS, Seen
from pipeline.stream.fetching import Thread as FetchingThread
from pipeline.stream.framework import new_app
from pipeline.stream.transport import (
    BELIEVED,
    IMPOSSIBLE,
    PATIENCE,
    Batch,
    BatchSchema,
    Consumer,
    HoleInLog,
    Transport,
)
from pipeline.stream.unreadable import made_of

TOPIC = "usage.events"


class Scripted:
    """What the consumer asks its Kafka thread for, answered from what was committed."""

    def __init__(self) -> None:
        self.committed: dict[TP, int] = {}
        self.assigned: set[TP] = set()
        self.position: dict[TP, int] = {}
        self.earliest = 0
        self.seen: dict[TP, Seen] = {}
        self.called = False
        self.member = "worker-1"

    async def seek_to_committed(self) -> dict[TP, int]:
        for tp in self.assigned:
            self.position[tp] = self.committed.get(tp, 0)
        return {tp: self.committed.get(tp, -1) for tp in self.assigned}

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        return dict.fromkeys(partitions, self.earliest)

    def seek(self, partition: TP, offset: int) -> None:
        assert self.called, "a seek outside the thread that fetches"
        self.position[partition] = offset

    async def call_thread(self, method: Any, *args: Any) -> Any:
        self.called = True
        try:
            return method(*args)
        finally:
            self.called = False

    def assignment(self) -> set[TP]:
        return set(self.assigned)


class Folding:
    """A hop whose fold is all that it was handed: offsets, in order. It can be cancelled in the middle of a batch."""

    dense = False

    def __init__(self) -> None:
        self.folds: dict[int, list[int]] = {}
        self.interrupt = False

    def begin(self, partition: int, earliest: int, committed: int | None, /) -> int:
        begin = max(earliest, committed or 0)
        self.folds[partition] = list(range(begin))  # by whoever committed
        return begin

    async def handle(self, batch: Batch) -> None:
        if self.interrupt:
            self.interrupt = False
            raise asyncio.CancelledError
        self.folds[batch.partition] += [record.offset for record in batch.records]

    def forget(self, partition: int, /) -> None:
        del self.folds[partition]


def make_consumer() -> Any:
    """A consumer as the worker has it, but for the thread that talks to the broker."""

    async def nothing(*_: Any, **__: Any) -> None:
        return None

    app = new_app(Settings())
    consumer = app.transport.create_consumer(
        callback=nothing, on_partitions_revoked=nothing, on_partitions_assigned=nothing
    )
    assert isinstance(consumer, Consumer)
    consumer._thread = Scripted()
    app.transport.hops = {TOPIC: Folding()}
    app.topics._acking_topics.add(TOPIC)
    return consumer


def raw(tp: TP, offset: int, **more: Any) -> Record:
    """A record that was fetched, from one as aiokafka reads it off the wire."""
    given = {"timestamp": 1_700_000_000_500, "headers": [], "key": b"key", "value": b"value", **more}
    [record] = made_of([SimpleNamespace(offset=offset, **given)])
    return record


class Following(RuleBasedStateMachine):
    """Batches are fetched, dropped, cancelled, fetched again and handled late, as around a rebalance.

    Whatever happens, each fold is a prefix of the log without a gap or a repetition, and what is committed is in it.
    """

    @initialize(partitions=st.integers(1, 2))
    def start(self, partitions: int) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.consumer = make_consumer()
        self.thread = self.consumer._thread
        self.hop = self.consumer.transport.hops[TOPIC]
        self.tps = [TP(TOPIC, number) for number in range(partitions)]
        self.thread.assigned = set(self.tps)
        self.queue: list[Batch] = []  # fetched and not handled
        self.run(self.consumer.perform_seek())

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def fetch_one(self, tp: TP, size: int) -> Batch:
        start = self.thread.position[tp]
        end = start + size
        message = self.consumer._to_message(tp, (start, [raw(tp, offset) for offset in range(start, end)]))
        assert message.offset >= self.consumer._read_offset[tp]  # else Faust drops it
        assert message.offset - self.consumer._read_offset[tp] <= 1  # else Faust takes it for a gap
        self.thread.position[tp] = end
        self.thread.seen[tp] = Seen(end, end, end, 1.0)
        return message.value

    @rule(which=st.integers(0, 1), size=st.integers(1, 3), dropped=st.booleans())
    def fetch(self, which: int, size: int, dropped: bool) -> None:
        tp = self.tps[which % len(self.tps)]
        if tp in self.thread.assigned:
            batch = self.fetch_one(tp, size)
            if not dropped:
                self.queue.append(batch)

    @precondition(lambda self: self.queue)
    @rule()
    def handle(self) -> None:
        self.run(self.consumer.follow(self.queue.pop(0)))

    @precondition(lambda self: self.queue)
    @rule()
    def handle_and_be_cancelled(self) -> None:
        """Faust acknowledges the message all the same."""
        self.hop.interrupt = True
        batch = self.queue.pop(0)
        with suppress(asyncio.CancelledError):
            self.run(self.consumer.follow(batch))
        self.hop.interrupt = False

    @rule()
    def commit(self) -> None:
        known = list(self.consumer._filter_tps_with_pending_acks())
        for tp, offset in self.consumer._filter_committable_offsets(known).items():
            assert tp in self.thread.assigned
            assert offset >= self.thread.committed.get(tp, 0)
            self.thread.committed[tp] = self.consumer._committed_offset[tp] = offset

    @rule(emptied=st.integers(0, 3))
    def seek(self, emptied: int) -> None:
        """As after every rebalance: queues are emptied, now and then not all, and partitions are read again."""
        del self.queue[:emptied]
        self.run(self.consumer.perform_seek())

    @rule(which=st.integers(0, 1), committed_elsewhere=st.integers(0, 2))
    def revoke_or_assign(self, which: int, committed_elsewhere: int) -> None:
        """Eagerly: all are revoked, then all but one (or with it) are assigned again."""
        tp = self.tps[which % len(self.tps)]
        self.run(self.consumer.on_partitions_revoked(set(self.thread.assigned)))
        if tp in self.thread.assigned:
            self.thread.assigned.discard(tp)
        else:
            self.thread.assigned.add(tp)
            self.thread.committed[tp] = self.thread.committed.get(tp, 0) + committed_elsewhere  # somebody went on
        self.run(self.consumer.on_partitions_assigned(set(self.thread.assigned)))
        self.run(self.consumer.perform_seek())

    @invariant()
    def folds_have_no_gap_and_hold_what_is_committed(self) -> None:
        if not hasattr(self, "thread"):
            return
        assert set(self.hop.folds) == {tp.partition for tp in self.consumer._places}
        for partition, fold in self.hop.folds.items():
            assert fold == list(range(len(fold)))
            assert len(fold) >= self.thread.committed.get(TP(TOPIC, partition), 0)

    def teardown(self) -> None:
        if not hasattr(self, "thread"):
            return
        ends = {}
        for tp in self.thread.assigned:
            beyond = len(self.hop.folds[tp.partition]) - self.thread.position[tp]
            ends[tp] = self.fetch_one(tp, max(0, beyond) + 1).end
        self.queue.clear()  # and even that is dropped, with nothing after it
        for _ in range(PATIENCE):
            self.run(self.consumer.look())
        for tp in sorted(ends):
            if self.thread.position[tp] < ends[tp]:
                self.run(self.consumer.follow(self.fetch_one(tp, ends[tp] - self.thread.position[tp])))
            fold = self.hop.folds[tp.partition]
            assert fold == list(range(max(len(fold), ends[tp])))
        self.commit()
        for tp in self.thread.assigned:
            assert self.thread.committed[tp] == ends[tp], "handled to the end, and not committed"
        self.loop.close()


TestFollowing = pytest.mark.usefixtures("_event_loop")(Following.TestCase)
TestFollowing.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)


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


def run(coroutine: Any) -> Any:
    return asyncio.get_event_loop().run_until_complete(coroutine)


def test_a_fetched_batch_becomes_one_message_in_order(consumer: Any) -> None:
    tp = TP(TOPIC, 2)
    records = [
        raw(tp, 40, value=b"a", headers=[("content-type", b"text/json"), ("absent", None)]),
        raw(tp, 41, value=None),
        raw(tp, 43, value=b"", timestamp=1),  # 42 was compacted away, or is a transaction's mark
    ]
    message = consumer._to_message(tp, (38, records))
    assert message.key is None
    assert message.offset == 43
    assert message.value.end == 44
    assert message.value == Batch(
        TOPIC,
        2,
        38,
        [
            Record(40, 1_700_000_000.5, (("content-type", b"text/json"), ("absent", None)), b"a"),
            Record(41, 1_700_000_000.5, (), None),
            Record(43, 0.001, (), b""),
        ],
    )


def test_a_fetch_that_began_before_a_seek_back_starts_at_its_first_record(consumer: Any) -> None:
    tp = TP(TOPIC, 0)
    assert consumer._to_message(tp, (90, [raw(tp, 40)])).value.start == 40


def test_the_rest_of_a_batch_begins_at_an_offset(consumer: Any) -> None:
    batch = Batch(TOPIC, 0, 4, [Record(offset, 0.0, (), None) for offset in (5, 6, 8)])
    assert batch.after(3) == batch.after(4) == batch
    assert [record.offset for record in batch.after(5).records] == [5, 6, 8]
    assert batch.after(7) == batch._replace(start=7, records=batch.records[2:])
    assert batch.after(9).records == []


def test_what_is_fetched_with_nothing_before_it_waits_and_is_read_again(consumer: Any) -> None:
    """A queue that was emptied while the broker's client read on: the later batch is not handled before the earlier."""
    tp = TP(TOPIC, 0)
    thread, hop = consumer._thread, consumer.transport.hops[TOPIC]
    thread.assigned, thread.committed = {tp}, {tp: 100}
    run(consumer.perform_seek())
    later = Batch(TOPIC, 0, 200, [Record(offset, 0.0, (), None) for offset in range(200, 300)])
    run(consumer.follow(later))
    assert hop.folds[0] == list(range(100))
    assert thread.position[tp] == 100
    earlier = Batch(TOPIC, 0, 100, [Record(offset, 0.0, (), None) for offset in range(100, 250)])
    run(consumer.follow(earlier))
    run(consumer.follow(later))
    assert hop.folds[0] == list(range(300))


def test_offsets_that_the_log_does_not_have_are_no_gap(consumer: Any) -> None:
    tp = TP(TOPIC, 0)
    thread, hop = consumer._thread, consumer.transport.hops[TOPIC]
    thread.assigned = {tp}
    run(consumer.perform_seek())
    for start, offset in ((0, 2), (3, 9)):
        run(consumer.follow(Batch(TOPIC, 0, start, [Record(offset, 0.0, (), None)])))
    assert hop.folds[0] == [2, 9]
    assert consumer._new_offset(tp) == 10


@pytest.mark.parametrize(("dense", "hasty"), [(True, False), (False, True), (True, True)])
def test_a_record_that_is_not_shown_yet_is_waited_for_where_every_offset_is_a_record(
    consumer: Any, monkeypatch: pytest.MonkeyPatch, dense: bool, hasty: bool
) -> None:
    monkeypatch.setattr(transport, "HOLE_SECONDS", 0.0)
    tp = TP(TOPIC, 0)
    thread, hop = consumer._thread, consumer.transport.hops[TOPIC]
    hop.dense, consumer.transport.hasty = dense, hasty
    thread.assigned = {tp}
    run(consumer.perform_seek())
    with_hole = Batch(TOPIC, 0, 0, [Record(offset, 0.0, (), None) for offset in (0, 1, 3)])
    run(consumer.follow(with_hole))
    assert (hop.folds[0], thread.position[tp]) == ([0, 1], 2)
    run(consumer.follow(with_hole._replace(start=2, records=with_hole.records[2:])))
    assert (hop.folds[0], thread.position[tp]) == ([0, 1], 2)
    run(consumer.follow(Batch(TOPIC, 0, 2, [Record(offset, 0.0, (), None) for offset in (2, 3)])))
    assert hop.folds[0] == [0, 1, 2, 3]


def test_a_hole_that_stays_is_passed_or_ends_the_worker_where_there_can_be_none(
    consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "HOLE_SECONDS", 0.0)
    consumer.transport.hasty = True
    consumer.transport.hops = {"plain": Folding(), "fold": Folding()}
    consumer.transport.hops["fold"].dense = True
    consumer._thread.assigned = {TP("plain", 0), TP("fold", 0)}
    run(consumer.perform_seek())
    for _ in range(BELIEVED):
        run(consumer.follow(Batch("plain", 0, 0, [Record(1, 0.0, (), None)])))
    assert consumer.transport.hops["plain"].folds[0] == []
    run(consumer.follow(Batch("plain", 0, 0, [Record(offset, 0.0, (), None) for offset in (1, 2, 4)])))
    assert consumer.transport.hops["plain"].folds[0] == [1, 2]  # up to the next one
    for _ in range(IMPOSSIBLE):
        run(consumer.follow(Batch("fold", 0, 0, [Record(1, 0.0, (), None)])))
    with pytest.raises(HoleInLog, match="fold/0 has no record at offset 0"):
        run(consumer.follow(Batch("fold", 0, 0, [Record(1, 0.0, (), None)])))
    assert consumer.transport.hops["fold"].folds[0] == []


def test_where_the_log_does_not_reach_back_to_a_place_its_hop_begins_again(consumer: Any) -> None:
    tp = TP(TOPIC, 0)
    thread, hop = consumer._thread, consumer.transport.hops[TOPIC]
    thread.assigned = {tp}
    run(consumer.perform_seek())
    thread.earliest = 7
    run(consumer.follow(Batch(TOPIC, 0, 7, [Record(7, 0.0, (), None)])))
    assert (thread.position[tp], hop.folds[0]) == (7, list(range(7)))
    run(consumer.follow(Batch(TOPIC, 0, 7, [Record(7, 0.0, (), None)])))
    assert hop.folds[0] == list(range(8))


def test_what_is_still_being_handled_when_its_partition_comes_back_does_not_move_the_new_place(consumer: Any) -> None:
    tp = TP(TOPIC, 0)
    thread, hop = consumer._thread, consumer.transport.hops[TOPIC]
    thread.assigned = {tp}

    async def scenario() -> None:
        await consumer.perform_seek()
        handle, entered, go = hop.handle, asyncio.Event(), asyncio.Event()

        async def slowly(batch: Batch) -> None:
            entered.set()
            await go.wait()

        hop.handle = slowly
        under_way = asyncio.ensure_future(consumer.follow(Batch(TOPIC, 0, 0, [Record(0, 0.0, (), None)])))
        await entered.wait()
        hop.handle = handle
        for assigned in (set(), {tp}):
            thread.assigned = assigned
            await consumer.on_partitions_assigned(set(assigned))
        await consumer.perform_seek()
        go.set()
        await under_way

    run(scenario())
    assert consumer._new_offset(tp) == 0
    assert hop.folds[0] == []


def test_what_is_being_handled_is_not_read_again_however_long_it_takes(consumer: Any) -> None:
    tp = TP(TOPIC, 0)
    thread = consumer._thread
    thread.assigned = {tp}

    async def scenario() -> None:
        await consumer.perform_seek()
        thread.position[tp] = 1
        thread.seen[tp] = Seen(1, 1, 1, 1.0)

        async def long(batch: Batch) -> None:
            for _ in range(2 * PATIENCE):
                await consumer.look()

        consumer.transport.hops[TOPIC].handle = long
        await consumer.follow(Batch(TOPIC, 0, 0, [Record(0, 0.0, (), None)]))

    run(scenario())
    assert thread.position[tp] == 1


def test_partitions_without_records_give_no_message(consumer: Any) -> None:
    tp = TP(TOPIC, 0)

    async def getmany(active: Any, timeout: float) -> dict[TP, Any]:
        return {tp: (1, [1, 2])}

    consumer._thread.getmany = getmany
    assert run(consumer._getmany(set(), 1.0)) == {tp: [(1, [1, 2])]}


def test_each_hop_says_where_a_new_partition_is_read_from(consumer: Any) -> None:
    asked: list[tuple[int, int, int | None]] = []

    class Elsewhere(Folding):
        def begin(self, partition: int, earliest: int, committed: int | None, /) -> int:
            asked.append((partition, earliest, committed))
            return earliest + 4 * partition

    consumer.transport.hops = {TOPIC: Folding(), "fold": Elsewhere()}
    thread = consumer._thread
    thread.assigned = {TP(TOPIC, 0), TP(TOPIC, 1), TP("fold", 0), TP("fold", 1)}
    thread.committed = {TP(TOPIC, 0): 50, TP(TOPIC, 1): -1, TP("fold", 0): 50}
    thread.earliest = 3  # what was there before is deleted
    run(consumer.perform_seek())
    assert sorted(asked) == [(0, 3, 50), (1, 3, None)]
    assert thread.position == {TP(TOPIC, 0): 50, TP(TOPIC, 1): 3, TP("fold", 0): 3, TP("fold", 1): 7}
    run(consumer.perform_seek())
    assert len(asked) == 2  # they have their places


# The last answer of the broker (position, high watermark, time), the last offset that was fetched, whether it was
# handled, and when the partition was caught up.
CAUGHT_UP = [
    ("all was handled", (10, 10, 5.0), 9, True, 5.0),
    ("nothing was ever there", (0, 0, 5.0), None, True, 5.0),
    ("only a transaction's mark comes after it", (11, 11, 5.0), 9, True, 5.0),
    ("all was fetched and not handled", (10, 10, 5.0), 9, False, None),
    ("more is there", (10, 11, 5.0), 9, True, None),
    ("the broker did not answer yet", (10, None, None), 9, True, None),
]


@pytest.mark.parametrize(("name", "answer", "last", "handled", "expected"), CAUGHT_UP, ids=[c[0] for c in CAUGHT_UP])
def test_a_partition_is_caught_up_as_of_the_broker_s_last_answer(
    consumer: Any, name: str, answer: tuple[Any, Any, Any], last: int | None, handled: bool, expected: float | None
) -> None:
    tp = TP(TOPIC, 0)
    thread = consumer._thread
    thread.assigned = {tp}
    end = 0 if last is None else last + 1
    thread.seen[tp] = Seen(end, *answer)
    assert consumer.caught_up(tp) is None  # nobody has said yet where it is read from
    run(consumer.perform_seek())
    if handled and last is not None:
        run(consumer.follow(Batch(TOPIC, 0, 0, [Record(offset, 0.0, (), None) for offset in range(end)])))
    assert consumer.caught_up(tp) == expected
    run(consumer.on_partitions_assigned(set()))
    assert consumer.caught_up(tp) is None


def test_the_thread_says_where_each_fetch_began_and_what_it_saw(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tp, idle, fresh = TP(TOPIC, 0), TP(TOPIC, 1), TP(TOPIC, 2)

    async def scenario() -> None:
        states = {each: TopicPartitionState(SimpleNamespace()) for each in (tp, idle, fresh)}
        assignment = SimpleNamespace(state_value=states.get)
        given = SimpleNamespace(_subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment)))
        states[tp].seek(38)
        states[idle].seek(7)

        async def fetch(self: Any, consumer: Any, active: Any, **_: Any) -> dict[TP, list[Any]]:
            states[tp].consumed_to(45)  # 44 is a transaction's mark
            states[tp].highwater, states[tp].timestamp = 45, 5_000
            return {tp: [raw(tp, 40), raw(tp, 43)], idle: []}

        monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_fetch_records", fetch)
        thread = FetchingThread(consumer)
        fetched = await thread._fetch_records(given, {tp, idle, fresh}, timeout=1.0, max_records=9)
        assert {each: (start, [r.offset for r in records]) for each, (start, records) in fetched.items()} == {
            tp: (38, [40, 43])
        }
        assert thread.seen == {tp: Seen(44, 45, 45, 5.0), idle: Seen(7, 7, None, None)}

    run(scenario())


@pytest.mark.parametrize(
    "value",
    [
        Batch(TOPIC, 0, 1, [Record(1, 0.0, (), None)]),
        Batch(TOPIC, 0, 1, [Record(1, 0.0, (), b""), Record(2, 0.0, (), b"\xff{")]),
    ],
)
def test_the_schema_hands_a_batch_on_untouched(consumer: Any, value: Batch) -> None:
    tp = TP(TOPIC, 0)
    message = consumer._to_message(tp, (2, [raw(tp, 2)]))
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


def test_a_consumer_that_finishes_handles_what_it_has_begun_commits_and_begins_nothing_new(consumer: Any) -> None:
    tp, hop, done = TP(TOPIC, 0), consumer.transport.hops[TOPIC], []
    batches = [Batch(TOPIC, 0, at, [Record(at, 0.0, (), b"")]) for at in (0, 1)]

    async def scenario() -> None:
        consumer._thread.assigned = {tp}
        await consumer.perform_seek()
        handle, go = hop.handle, asyncio.Event()

        async def slowly(batch: Batch) -> None:
            await go.wait()
            await handle(batch)

        async def commit() -> None:
            done.append(("commit", consumer._new_offset(tp)))

        async def leave() -> None:
            done.append(("leave", consumer._new_offset(tp)))

        hop.handle, consumer.commit, consumer._thread.leave = slowly, commit, leave
        begun = asyncio.ensure_future(consumer.follow(batches[0]))
        await asyncio.sleep(0)
        finishing = asyncio.ensure_future(consumer.finish())
        await asyncio.sleep(0)
        assert done == []
        go.set()
        await begun
        await consumer.follow(batches[1])
        await finishing
        await consumer.leave()

    run(scenario())
    assert hop.folds == {0: [0]}
    assert done == [("commit", 1), ("leave", None)]


def test_a_partition_s_state_is_made_when_what_was_there_at_first_is_handled(consumer: Any) -> None:
    tp = TP(TOPIC, 0)

    async def scenario() -> None:
        consumer._thread.assigned = {tp}
        await consumer.perform_seek()
        assert (consumer.made(tp), consumer.behind(tp), consumer.answered(tp)) == (False, None, None)
        consumer._thread.seen[tp] = Seen(2, 2, 3, 7.0)
        assert (consumer.made(tp), consumer.behind(tp), consumer.answered(tp)) == (False, 3, 7.0)
        for at in range(3):
            end = at + 1
            await consumer.follow(Batch(TOPIC, 0, at, [Record(at, 0.0, (), b"")]))
            consumer._thread.seen[tp] = Seen(end, end, 5, 8.0)  # and more has come
            assert (consumer.made(tp), consumer.behind(tp)) == (end == 3, 5 - end)

    run(scenario())


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


def test_a_worker_that_the_group_had_put_out_says_so(consumer: Any, caplog: pytest.LogCaptureFixture) -> None:
    for member in ("worker-1", "worker-1"):
        consumer._thread.member = member
        run(consumer.on_partitions_assigned(set()))
    assert not [message for message in caplog.messages if "fenced" in message]
    consumer._thread.member = "worker-2"
    run(consumer.on_partitions_assigned(set()))
    assert len([message for message in caplog.messages if "fenced" in message]) == 1


def test_a_seek_to_a_partition_that_was_given_away_does_nothing(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    thread = FetchingThread(consumer, loop=consumer.loop, beacon=consumer.beacon)
    monkeypatch.setattr(thread, "assignment", lambda: {TP(TOPIC, 1)})
    monkeypatch.setattr(thread, "_consumer", SimpleNamespace(seek=lambda *given: asked.append(given)))
    for partition in (0, 1):
        thread.seek(TP(TOPIC, partition), 7)
    assert asked == [(TP(TOPIC, 1), 7)]

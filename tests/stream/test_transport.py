"""Which offsets may be committed, and what is read again: the transport without a broker."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.subscription_state import TopicPartitionState
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from pipeline.core.events import Record
from pipeline.stream import transport
from pipeline.stream.fetching import Seen
from pipeline.stream.fetching import Thread as FetchingThread
from pipeline.stream.transport import BELIEVED, IMPOSSIBLE, PATIENCE, Batch, BatchSchema, HoleInLog
from tests.stream.consuming import TOPIC, Folding, raw, run


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

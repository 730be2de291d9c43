"""Whatever a rebalance does to what was fetched, each fold is the log up to a place, and what is committed is in it."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from faust.types import TP
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.stream.fetching import Seen
from pipeline.stream.transport import PATIENCE, Batch
from tests.stream.consuming import TOPIC, make_consumer, raw


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


TestFollowing = pytest.mark.usefixtures("no_event_loop")(Following.TestCase)
TestFollowing.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)

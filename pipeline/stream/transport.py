"""One fetched batch of a partition is one Faust message.

Faust spends about 250 µs on each message whatever the stage does with it, so batches, not records, are the unit of
movement. What Faust then needs is kept here, and nowhere else: offsets in flight are the last of each batch, in
order per partition; committed is the longest acknowledged prefix. Private methods of Faust are overridden; its
version is pinned exactly and the tests in ``tests/stream`` hold each of them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from pipeline.core.events import Record


class Batch(NamedTuple):
    """Records of one partition in the order of their offsets. The value of every Faust message."""

    topic: str
    partition: int
    records: list[Record]

    @property
    def offset(self) -> int:
        """The last offset: acknowledging the message acknowledges all."""
        return self.records[-1].offset


class BatchSchema(faust.Schema):
    """Hands batches on as they are: nothing is decoded, and so nothing can be quoted in a decoding error."""

    def compile(self, app: Any, **_: Any) -> Any:
        async def decode(message: Any, **_: Any) -> Any:
            return app.create_event(None, message.value, {}, message)

        return decode


class Consumer(driver.Consumer):
    """Faust's consumer, but for what a message is and how far it may commit."""

    # For topics whose state is a fold that this worker makes again: where to read a partition from, given the earliest
    # offset that the log still has. Set by the app.
    resume: Mapping[str, Callable[[int, int], int]] = MappingProxyType({})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_flight: dict[TP, deque[int]] = {}
        self._handed: dict[TP, int] = {}  # the first offset that was not handed on

    async def _getmany(self, active_partitions: Any, timeout: float) -> Mapping[TP, list[Any]]:
        fetched = await super()._getmany(active_partitions, timeout)
        return {tp: [records] for tp, records in fetched.items() if records}

    def _to_message(self, tp: TP, records: Any) -> Any:
        last = records[-1]
        batch = Batch(
            tp.topic,
            tp.partition,
            [
                Record(
                    r.offset,
                    r.timestamp / 1000,
                    tuple((n, v) for n, v in r.headers if v is not None),
                    r.value,
                )
                for r in records
            ],
        )
        self._in_flight.setdefault(tp, deque()).append(last.offset)
        self._handed[tp] = last.offset + 1
        self._read_offset[tp] = last.offset  # else Faust takes the batch for a gap, and commits stop
        message = super()._to_message(tp, last)
        message.key, message.value = None, batch
        return message

    def _new_offset(self, tp: TP) -> int | None:
        """What may be committed: the end of the longest acknowledged prefix of what is in flight."""
        in_flight, acked = self._in_flight.get(tp), self._acked_index[tp]
        done: int | None = None
        while in_flight and in_flight[0] in acked:
            done = in_flight.popleft()
        acked.intersection_update(in_flight or ())
        self._acked[tp] = sorted(acked)
        return None if done is None else done + 1

    async def perform_seek(self) -> None:
        """Also for batches that were fetched and not handed on: what is in flight is fetched again."""
        for known in (self._in_flight, self._acked, self._acked_index):
            known.clear()
        await super().perform_seek()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Every partition gets a known place: what was committed, what the state says, or the beginning."""
        offsets = dict(await super().seek_to_committed())
        unknown = [tp for tp in self.assignment() if tp.topic in self.resume or (offsets.get(tp) or -1) < 0]
        if unknown:
            earliest = await self.earliest_offsets(*unknown)
            for tp in unknown:
                resume = self.resume.get(tp.topic)
                offsets[tp] = earliest[tp] if resume is None else resume(tp.partition, earliest[tp])
                await self.seek(tp, offsets[tp])
        self._handed = {TP(tp.topic, tp.partition): offset for tp, offset in offsets.items()}
        return offsets

    async def on_partitions_revoked(self, revoked: Iterable[TP]) -> None:
        for tp in revoked:
            self._in_flight.pop(tp, None)
            self._handed.pop(tp, None)
        await super().on_partitions_revoked(set(revoked))

    def caught_up(self, tp: TP) -> float | None:
        """When the broker last said that it had nothing beyond what was handed on and committed; ``None`` if it has.

        Seconds since 1970: a broker that cannot be reached says nothing, and the time stands still.
        """
        consumer = self._thread._consumer
        if consumer is None or self._in_flight.get(tp) or tp not in self._handed:
            return None
        state = consumer._subscription.subscription.assignment.state_value(tp)
        if state is None or state.timestamp is None or state.highwater is None or self._handed[tp] < state.highwater:
            return None
        return float(state.timestamp) / 1000


class Transport(driver.Transport):
    """The aiokafka transport with the consumer above."""

    Consumer = Consumer

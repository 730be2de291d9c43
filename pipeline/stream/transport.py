"""One fetched batch of a partition is one Faust message, and each record is handled after the one before it.

Faust spends about 250 µs on each message whatever is done with it, so batches, not records, are the unit of movement.
And Faust drops messages: around a rebalance it empties its queues, cancels what it is handing on, and breaks off in the
middle of what it has fetched, while the broker's client reads on behind it. Whoever handled what comes next would leave
records out for ever, and an acknowledgement would be no proof of the contrary: Faust acknowledges a message that was
cancelled half way. So each partition that is assigned has a *place*, the first offset that its hop has not handled yet.
A batch is handled if it follows on the place; what lies before it was handled, and what lies beyond it waits while the
partition is read again from the place. What is committed is the place.

A broker may be at fault too: the embedded one shows a record before the one ahead of it, where several write to a
partition at once. So a batch is handled up to its first hole where its topic has none, and where the broker is hasty.

Private methods of Faust are overridden here and nowhere else; its version is pinned exactly and the tests in
``tests/stream`` hold each of them.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from pipeline.core.events import Record
from pipeline.stream.fetching import Thread

PATIENCE = 30  # looks at a partition that does not move, before it is read again from its place
HOLE_SECONDS = 0.1  # between two looks at a hole
COMMIT_SECONDS = 5.0  # that a worker which stops waits for the broker
BELIEVED = 5  # looks at a hole before it is passed: the log has nothing there
IMPOSSIBLE = 100  # looks at a hole that must not be, before the worker gives up

log = logging.getLogger("headcount.worker")


class HoleInLog(RuntimeError):
    """A log that must have a record at every offset lacks one: a fold over it would be wrong."""


class Batch(NamedTuple):
    """Records of one partition in the order of their offsets. The value of every Faust message.

    ``start``: the offset that it was read from. It is before that of the first record where the log has none to give:
    compacted away, or a transaction's mark.
    """

    topic: str
    partition: int
    start: int
    records: list[Record]

    @property
    def end(self) -> int:
        """The offset after the last."""
        return self.records[-1].offset + 1

    def after(self, offset: int) -> "Batch":
        """The records from an offset on."""
        if offset <= self.start:
            return self
        return self._replace(start=offset, records=[each for each in self.records if each.offset >= offset])

    def dense(self) -> "Batch":
        """The records up to the first hole."""
        if self.end - self.start == len(self.records):  # offsets ascend: there is none
            return self
        numbered = enumerate(self.records, self.start)
        return self._replace(records=[each for offset, each in numbered if each.offset == offset])


class Hop(Protocol):
    """What handles the batches of one topic. Its state is a fold over what it was handed, in order, without a gap.

    ``dense``: whether every offset of the topic is a record, as where nobody writes in transactions or compacts.
    """

    dense: bool

    def begin(self, partition: int, earliest: int, committed: int | None, /) -> int:
        """A partition is new here: where to read it from, given the earliest offset of the log and the committed."""

    async def handle(self, batch: Batch) -> None:
        """Returns when nothing of the batch can be lost any more. Raises for what it does not expect."""

    def forget(self, partition: int, /) -> None:
        """The partition was given to another worker."""


@dataclass(eq=False)
class Place:
    """How far one partition was handled, from when it is assigned until it is given away."""

    offset: int
    handling: bool = False
    holes: int = 0  # looks at the hole that it stands before
    looks: int = 0  # since it last moved
    goal: int | None = None  # where the log ended when it was first seen


class BatchSchema(faust.Schema):
    """Hands batches on as they are: nothing is decoded, and so nothing can be quoted in a decoding error."""

    def compile(self, app: Any, **_: Any) -> Any:
        async def decode(message: Any, **_: Any) -> Any:
            return app.create_event(None, message.value, {}, message)

        return decode


class Consumer(driver.Consumer):
    """Faust's consumer, but for what a message is, what is handled, and how far it may commit."""

    _thread: Thread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._places: dict[TP, Place] = {}
        self._finishing = False
        self._member = ""  # what the group calls this worker

    async def follow(self, batch: Batch) -> None:
        """Hands the hop what follows on what it has handled."""
        tp = TP(batch.topic, batch.partition)
        place = self._places.get(tp)
        if self._finishing or place is None or batch.end <= place.offset:
            return  # given away since it was fetched; or handled before
        if batch.start > place.offset:
            await self._read_from_places([tp])
            return
        hop, rest = self._hop(tp), batch.after(place.offset)
        if place.holes >= BELIEVED and not hop.dense:
            rest = rest._replace(start=rest.records[0].offset)
        whole = rest.dense() if hop.dense or self.transport.hasty else rest
        if whole.records:
            await self._handle(hop, place, whole)
        if len(whole.records) == len(rest.records):
            return
        place.holes += 1
        if place.holes > IMPOSSIBLE:
            raise HoleInLog(f"{tp.topic}/{tp.partition} has no record at offset {place.offset}, and must have one")
        await asyncio.sleep(HOLE_SECONDS)
        await self._read_from_places([tp])

    async def _handle(self, hop: Hop, place: Place, batch: Batch) -> None:
        place.handling = True
        try:
            await hop.handle(batch)
            place.offset, place.looks, place.holes = batch.end, 0, 0
        finally:
            place.handling = False

    async def look(self) -> None:
        """Reads again what was fetched and dropped with nothing after it. To be called about every second."""
        stuck = []
        for tp, place in self._places.items():
            seen = self._thread.seen.get(tp)
            if place.handling or seen is None or seen.end <= place.offset:
                continue
            place.looks += 1
            if place.looks >= PATIENCE:
                place.looks = 0
                stuck.append(tp)
        if stuck and not self.app.rebalancing:
            await self._read_from_places(stuck)

    def caught_up(self, tp: TP) -> float | None:
        """When the broker last said that it had nothing beyond what was handled; ``None`` if it has.

        Seconds since 1970: a broker that cannot be reached says nothing, and the time stands still.
        """
        place, seen = self._places.get(tp), self._thread.seen.get(tp)
        if place is None or seen is None or seen.highwater is None:
            return None
        return seen.asked if place.offset >= seen.end and seen.position >= seen.highwater else None

    def place_of(self, tp: TP) -> int | None:
        """The first offset that is not handled; ``None`` where the partition is another's. Any thread may ask."""
        place = self._places.get(tp)
        return None if place is None else place.offset

    def behind(self, tp: TP) -> int | None:
        """How many records the log has beyond what was handled; ``None`` while the broker has not said."""
        place, seen = self._places.get(tp), self._thread.seen.get(tp)
        if place is None or seen is None or seen.highwater is None:
            return None
        return 0 if self.caught_up(tp) is not None else max(0, seen.highwater - place.offset)

    def made(self, tp: TP) -> bool:
        """Whether everything was handled that the log held when the partition was assigned."""
        place, seen = self._places.get(tp), self._thread.seen.get(tp)
        if place is None or seen is None or seen.highwater is None:
            return False
        if place.goal is None:
            place.goal = seen.highwater
        return place.offset >= place.goal or self.caught_up(tp) is not None

    def answered(self, tp: TP) -> float | None:
        """When the broker last answered for the partition, seconds since 1970."""
        seen = self._thread.seen.get(tp)
        return None if seen is None else seen.asked

    def is_member(self) -> bool:
        """Whether the group counts this consumer among its members, as far as it was told."""
        client = self._thread._consumer
        return client is not None and bool(getattr(client._coordinator, "member_id", ""))

    async def finish(self, patience: float = PATIENCE) -> bool:
        """Begins nothing new, handles what is begun to its end, and commits; whether all that was handled is."""
        self._finishing = True
        clock = asyncio.get_running_loop().time
        deadline = clock() + patience
        while any(place.handling for place in self._places.values()) and clock() < deadline:
            await asyncio.sleep(0.01)
        try:
            await asyncio.wait_for(self.commit(), COMMIT_SECONDS)
        except TimeoutError:
            return False
        return all(place.offset <= (self._committed_offset[tp] or 0) for tp, place in self._places.items())

    async def leave(self) -> None:
        """Leaves the group: others have the partitions at once, and nothing is committed here any more."""
        self._places.clear()
        await self._thread.leave()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Every partition gets a place: the one it has, or where its hop begins."""
        committed: Mapping[TP, int] = await super().seek_to_committed()
        await self._read_from_places(self.assignment(), committed)
        return committed

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        for tp in self._places.keys() - assigned:
            del self._places[tp]
            self._hop(tp).forget(tp.partition)
        self._say_if_fenced(self._thread.member)
        await super().on_partitions_assigned(assigned, generation_id)

    def _say_if_fenced(self, member: str) -> None:
        """The group gives a worker a new name only when it had put it out; what it did since counts for nothing."""
        if self._member not in ("", member):
            log.warning("fenced: this worker was silent for too long, its partitions were given away; it joined again")
        self._member = member

    def _hop(self, tp: TP) -> Hop:
        hops: Mapping[str, Hop] = self.transport.hops
        return hops[tp.topic]

    async def _read_from_places(self, tps: Iterable[TP], committed: Mapping[TP, int] | None = None) -> None:
        """Seeks. A place is made where there is none, and where the log does not reach back to it any more."""
        mine = [tp for tp in tps if tp in self.assignment()]
        earliest = await self.earliest_offsets(*mine) if mine else {}
        for tp in mine:
            place = self._places.get(tp)
            if place is None and committed is None:
                continue  # it was given away meanwhile; whoever assigns it again knows where it begins
            if place is None or place.offset < earliest[tp]:
                known = (committed or {}).get(tp, -1) if place is None else place.offset
                begin = self._hop(tp).begin(tp.partition, earliest[tp], None if known is None or known < 0 else known)
                self._places[tp] = Place(begin)
            await self.seek(tp, self._places[tp].offset)

    async def _seek(self, partition: TP, offset: int) -> None:
        # In the thread that fetches, between two fetches: a seek empties the buffer that a fetch is reading.
        await self._thread.call_thread(self._thread.seek, partition, offset)

    async def _getmany(self, active_partitions: Any, timeout: float) -> Mapping[TP, list[Any]]:
        fetched = await super()._getmany(active_partitions, timeout)
        return {tp: [batch] for tp, batch in fetched.items()}

    def _to_message(self, tp: TP, fetched: Any) -> Any:
        start, records = fetched
        batch = Batch(tp.topic, tp.partition, min(start, records[0].offset), records)
        last = records[-1]
        self._read_offset[tp] = last.offset  # else Faust takes the batch for a gap, or for one from before a seek
        of = self.app.consumer_generation_id
        return ConsumerMessage(*tp, last.offset, last.arrived, 1, (), None, batch, None, tp=tp, generation_id=of)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in self._places if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        """What may be committed: the place. What Faust has acknowledged says nothing."""
        self._acked.pop(tp, None)
        self._acked_index.pop(tp, None)
        place = self._places.get(tp)
        return None if place is None else place.offset

    def _new_consumer_thread(self) -> Thread:
        return Thread(self, loop=self.loop, beacon=self.beacon)


class Transport(driver.Transport):
    """The aiokafka transport with the consumer above.

    ``hops``: who handles which topic. ``hasty``: the broker shows records before those ahead of them.
    """

    Consumer = Consumer
    hasty: bool = False
    hops: Mapping[str, Hop] = MappingProxyType({})

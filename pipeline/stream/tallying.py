"""The second hop around its core: one state per partition of contributions, made again when it is assigned, from the
log, or from a checkpoint and what the log has after it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

import msgspec

from pipeline.core.contributions import Contributions, decode_contribution
from pipeline.core.statistics import Plan
from pipeline.core.tallies import Closed, PartitionState, Tally
from pipeline.stream.checkpoints import Checkpoints
from pipeline.stream.metering import Meter
from pipeline.stream.rejections import rejection_records
from pipeline.stream.topics import REJECTIONS, TALLIES
from pipeline.stream.transport import Batch

Send = Callable[[str, int, bytes], Awaitable[None]]

log = logging.getLogger("headcount.worker")

RARELY = 20  # a checkpoint may take a twentieth of the time


class Outgoing(NamedTuple):
    """A record to be sent; ``word``: whether it says that those before it are there."""

    topic: str
    value: bytes
    word: bool = False


@dataclass
class Assigned:
    """One partition's fold, and the records that came of it and are not sent yet.

    They stay until the broker has them: folding a batch again gives nothing again.
    """

    state: PartitionState
    outbox: deque[Outgoing] = field(default_factory=deque)
    offset: int = 0  # after what is folded
    saved: int = 0  # and after what the last checkpoint holds
    windows: set[str] = field(default_factory=set)  # that are in it
    due: float = 0.0  # by time.monotonic


class TallyHop:
    """Folds batches of ``usage.contributions`` and sends the tallies of windows that have closed."""

    dense = True

    def __init__(
        self,
        plan: Plan,
        send: Send,
        *,
        partitions: int,
        bounded: bool,
        meter: Meter | None = None,
        checkpoints: Checkpoints | None = None,
        every: float = 60.0,
    ) -> None:
        self.plan = plan
        self.send = send
        self.partitions = partitions
        self.bounded = bounded
        self.meter = meter or Meter()
        self.checkpoints = checkpoints
        self.every = every
        self.assigned: dict[int, Assigned] = {}
        self._saving = asyncio.Lock()  # one checkpoint at a time: each is a copy of its state

    def begin(self, partition: int, earliest: int, committed: int | None) -> int:
        """A partition that is new to this worker is read from its checkpoint on, or from its beginning.

        Where nothing was committed, nothing was handled: a checkpoint that is there all the same is of something else.
        """
        found = None if self.checkpoints is None or committed is None else self.checkpoints.read(partition, earliest)
        state = PartitionState(partition, self.partitions, self.plan, bounded=self.bounded)
        state, offset = found or (state, earliest)
        if found:
            log.info(
                "usage.contributions/%d goes on from a checkpoint: %d records are not read",
                partition,
                offset - earliest,
            )
        windows = {window.name for window in state.windows} if found else set()
        self.assigned[partition] = Assigned(
            state, offset=offset, saved=offset, windows=windows, due=time.monotonic() + self.every
        )
        return offset

    async def handle(self, batch: Batch) -> None:
        """Folds all records at once, then sends what came of them."""
        assigned = self.assigned[batch.partition]
        state, outbox = assigned.state, assigned.outbox
        rejections = []
        tallies: list[Tally | Closed] = []
        lap = self.meter.laps()
        for record in batch.records:
            contribution = decode_contribution(record.value or b"")
            if isinstance(contribution, Contributions):
                rejections += state.fold(contribution)
                lap("fold")
            else:
                tallies += state.advance(contribution)
                lap("count")
        outbox.extend(Outgoing(REJECTIONS, value) for value in rejection_records(rejections))
        outbox.extend(Outgoing(TALLIES, encode_tally(tally), isinstance(tally, Closed)) for tally in tallies)
        await self._send(outbox)
        lap("send")
        assigned.offset = batch.end
        closed = {window for word in tallies if isinstance(word, Closed) for window in word.windows}
        if time.monotonic() >= assigned.due or closed & assigned.windows:
            await self._save(assigned)
            lap("checkpoint")
        self.meter.reject("tally", rejections)

    async def _send(self, outbox: deque[Outgoing]) -> None:
        """Tallies go together; a word that they are out goes when the broker has them, and the next after it."""
        while outbox:
            together = list(takewhile(lambda each: not each.word, outbox)) or [outbox[0]]
            await asyncio.gather(*(self.send(each.topic, 0, each.value) for each in together))
            for _ in together:
                outbox.popleft()

    async def save(self) -> None:
        """A checkpoint of each partition, for who gets it next."""
        for assigned in list(self.assigned.values()):
            await self._save(assigned)

    async def _save(self, assigned: Assigned) -> None:
        """In a thread, while the partition waits: what is closed is in no checkpoint any more when this returns.

        Not of a state whose tallies are not sent yet: whoever went on from it would never give them out.
        """
        if self.checkpoints is None or assigned.outbox or assigned.offset == assigned.saved:
            return
        async with self._saving:
            began = time.monotonic()
            names = {window.name for window in assigned.state.windows}
            if await asyncio.to_thread(self.checkpoints.write, assigned.state, assigned.offset):
                assigned.saved, assigned.windows = assigned.offset, names
            now = time.monotonic()
        assigned.due = now + max(self.every, RARELY * (now - began))

    def forget(self, partition: int) -> None:
        """The partition was given to another worker."""
        self.assigned.pop(partition, None)


def encode_tally(tally: Tally | Closed) -> bytes:
    """The record's value: MessagePack."""
    return _ENCODER.encode(tally)


def decode_tally(value: bytes) -> Tally | Closed:
    """The inverse of :func:`encode_tally`. Raises ``msgspec.MsgspecError`` for anything else."""
    return _DECODER.decode(value)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Tally | Closed] = msgspec.msgpack.Decoder(Tally | Closed)

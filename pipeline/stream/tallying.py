"""The second hop around its core: one state per partition of contributions, made again from the log when it is
assigned.
"""

from collections.abc import Awaitable, Callable

import msgspec

from pipeline.core.contributions import Contributions, decode_contribution
from pipeline.core.statistics import Plan
from pipeline.core.tallies import Closed, PartitionState, Tally
from pipeline.stream.rejections import encode_rejections
from pipeline.stream.topics import REJECTIONS, TALLIES
from pipeline.stream.transport import Batch

Send = Callable[[str, int, bytes], Awaitable[None]]


class GapInLog(RuntimeError):
    """The records of a partition do not follow on each other: a fold over them would be wrong."""


class TallyHop:
    """Folds batches of ``usage.contributions`` and sends the tallies of windows that have closed."""

    def __init__(self, plan: Plan, send: Send, *, partitions: int, bounded: bool) -> None:
        self.plan = plan
        self.send = send
        self.partitions = partitions
        self.bounded = bounded
        self.states: dict[int, PartitionState] = {}
        self.read: dict[int, int] = {}  # per partition, the first offset that is not folded

    async def handle(self, batch: Batch) -> None:
        state = self.states.get(batch.partition)
        if state is None:
            return  # fetched before the partition was given away
        rejections = []
        tallies: list[Tally | Closed] = []
        for record in batch.records:
            if record.offset < self.read[batch.partition]:
                continue
            if record.offset > self.read[batch.partition]:
                raise GapInLog("contributions were skipped: the state is made again from the log")
            contribution = decode_contribution(record.value or b"")
            if isinstance(contribution, Contributions):
                rejections += state.fold(contribution)
            else:
                tallies += state.advance(contribution)
            self.read[batch.partition] = record.offset + 1
        if rejections:
            await self.send(REJECTIONS, 0, encode_rejections(rejections))
        for tally in tallies:
            await self.send(TALLIES, 0, encode_tally(tally))

    def resume(self, partition: int, earliest: int) -> int:
        """Where to read on. A partition that is new to this worker is read from its beginning, to make its state."""
        if partition not in self.states or self.read[partition] < earliest:
            self.states[partition] = PartitionState(partition, self.partitions, self.plan, bounded=self.bounded)
            self.read[partition] = earliest
        return self.read[partition]

    def forget(self, partition: int) -> None:
        """The partition was given to another worker."""
        self.states.pop(partition, None)
        self.read.pop(partition, None)


def encode_tally(tally: Tally | Closed) -> bytes:
    """The record's value: MessagePack."""
    return _ENCODER.encode(tally)


def decode_tally(value: bytes) -> Tally | Closed:
    """The inverse of :func:`encode_tally`. Raises ``msgspec.MsgspecError`` for anything else."""
    return _DECODER.decode(value)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Tally | Closed] = msgspec.msgpack.Decoder(Tally | Closed)

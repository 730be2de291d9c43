"""The second hop around its core: one state per partition of contributions, made again from the log when it is
assigned.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec

from pipeline.core.contributions import Contributions, decode_contribution
from pipeline.core.statistics import Plan
from pipeline.core.tallies import Closed, PartitionState, Tally
from pipeline.stream.metering import Meter
from pipeline.stream.rejections import encode_rejections
from pipeline.stream.topics import REJECTIONS, TALLIES
from pipeline.stream.transport import Batch

Send = Callable[[str, int, bytes], Awaitable[None]]


@dataclass
class Assigned:
    """One partition's fold, and the records (topic, value) that came of it and are not sent yet.

    They stay until the broker has them: folding a batch again gives nothing again.
    """

    state: PartitionState
    outbox: deque[tuple[str, bytes]] = field(default_factory=deque)


class TallyHop:
    """Folds batches of ``usage.contributions`` and sends the tallies of windows that have closed."""

    dense = True

    def __init__(self, plan: Plan, send: Send, *, partitions: int, bounded: bool, meter: Meter | None = None) -> None:
        self.plan = plan
        self.send = send
        self.partitions = partitions
        self.bounded = bounded
        self.meter = meter or Meter()
        self.assigned: dict[int, Assigned] = {}

    def begin(self, partition: int, earliest: int, _: int | None) -> int:
        """A partition that is new to this worker is read from its beginning, to make its state."""
        state = PartitionState(partition, self.partitions, self.plan, bounded=self.bounded)
        self.assigned[partition] = Assigned(state)
        return earliest

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
        if rejections:
            outbox.append((REJECTIONS, encode_rejections(rejections)))
        outbox.extend((TALLIES, encode_tally(tally)) for tally in tallies)
        while outbox:
            topic, value = outbox[0]
            await self.send(topic, 0, value)
            outbox.popleft()
        lap("send")
        self.meter.reject("tally", rejections)

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

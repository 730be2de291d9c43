"""The first hop around its core: which records came, what the source partition may promise, where the results go."""

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import date
from typing import NamedTuple

from pipeline.core.contributions import Progress, encode_contribution
from pipeline.core.events import Record
from pipeline.core.ingest import Ingest
from pipeline.core.windows import day_of
from pipeline.stream.metering import Meter
from pipeline.stream.rejections import rejection_records
from pipeline.stream.topics import CONTRIBUTIONS, REJECTIONS
from pipeline.stream.transport import Batch
from pipeline.stream.unreadable import size_of

# A replayer's word: a record without value that bears this header. It says that every event before that date was sent.
WORD = "headcount-sent-until"
NOTHING_CLOSED = -(10**6)  # a day before all days
MARGIN = 10.0  # seconds by which the clocks of brokers and workers may differ

PIECE = 8 << 20  # bytes of events that are handled at once, but for a record that is larger
LARGEST = 8 << 20  # bytes of a record of contributions: half of what the topic takes

log = logging.getLogger("headcount.worker")

Segment = tuple[list[Record], tuple[int, int] | None]  # records, and the word behind them with its offset
Send = Callable[[str, int, bytes], Awaitable[None]]


class Idle(NamedTuple):
    """A source partition had nothing more to give when the broker was asked: ``asked``, seconds since 1970."""

    topic: str
    partition: int
    asked: float


class IngestHop:
    """Feeds batches of ``usage.events`` to the core and sends on what it gives.

    ``partitions``: of contributions; ``sources``: of events; ``born``: when this deployment began, seconds since 1970;
    ``replay``: windows close on the replayer's word and not by the clock.
    """

    dense = False  # applications may write in transactions

    def __init__(
        self,
        core: Ingest,
        send: Send,
        *,
        partitions: int,
        sources: int,
        born: float,
        replay: bool,
        meter: Meter | None = None,
    ) -> None:
        self.core = core
        self.send = send
        self.partitions = partitions
        self.sources = sources
        self.replay = replay
        self.meter = meter or Meter()
        self.since = core.since if replay else self._closed_at(born)
        self._closed: dict[int, int] = {}  # per source partition: the last word, or what its arrivals say
        self._words: dict[int, list[tuple[int, int]]] = {}  # per source partition: the words by their offsets
        self._told: dict[int, int] = {}

    def begin(self, partition: int, earliest: int, committed: int | None) -> int:
        """Where the last worker left off; from the earliest where that is deleted, which loses events and is said."""
        if committed is not None and committed < earliest:
            log.error("usage.events/%d: %d records were deleted unread", partition, earliest - committed)
        return max(earliest, committed or 0)

    async def handle(self, batch: Batch) -> None:
        """One fetched batch: rows on their way and acknowledged before the partition promises anything beyond them."""
        self._forget_words(batch.partition, batch.start)
        for records, word in in_pieces(self._segments(batch.records)):
            if records:
                closed = self._closed_before(batch.partition, records[0].offset) if self.replay else None
                await self._ingest(batch.partition, records, closed)
            if word is not None:
                self._spoken(batch.partition, *word)
            elif not self.replay:
                self._arrived(batch.partition, max(record.arrived for record in records))
        await self.tell(batch.partition)

    async def _ingest(self, partition: int, records: list[Record], closed: int | None) -> None:
        """Where rows are so many, or so large, that the broker might refuse them, half of the records at a time."""
        lap = self.meter.laps()
        result = self.core.ingest(partition, records, closed, lap)
        encoded = {number: encode_contribution(each) for number, each in result.contributions.items()}
        if len(records) > 1 and any(len(value) > LARGEST for value in encoded.values()):
            middle = len(records) // 2
            await self._ingest(partition, records[:middle], closed)
            await self._ingest(partition, records[middle:], closed)
            return
        await asyncio.gather(*(self.send(CONTRIBUTIONS, number, value) for number, value in encoded.items()))
        for value in rejection_records(result.rejections):
            await self.send(REJECTIONS, 0, value)
        lap("send")
        self.meter.accepted["ingest"] += sum(each.rows for each in result.contributions.values())
        self.meter.reject("ingest", result.rejections)

    async def idle(self, idle: Idle) -> None:
        """Time passes for a source partition that has nothing to give."""
        if not self.replay:
            self._arrived(idle.partition, idle.asked - MARGIN)
            await self.tell(idle.partition)

    def forget(self, partition: int) -> None:
        """The source partition was given to another worker: what was told of it may have to be told again."""
        self._closed.pop(partition, None)
        self._words.pop(partition, None)
        self._told.pop(partition, None)

    async def tell(self, partition: int) -> None:
        """Sends the source partition's progress to every partition of contributions, when it has changed."""
        closed = self._closed.get(partition)
        if closed is None or self._told.get(partition) == closed:
            return
        progress = Progress(partition, self.sources, closed, self.since, self.core.until)
        value = encode_contribution(progress)
        for destination in range(self.partitions):
            await self.send(CONTRIBUTIONS, destination, value)
        self._told[partition] = closed

    def _arrived(self, partition: int, seconds: float) -> None:
        closed = self._closed_at(seconds)
        self._closed[partition] = max(closed, self._closed.get(partition, closed))

    def _closed_at(self, seconds: float) -> int:
        return self.core.calendar.day(seconds - self.core.policy.lateness)

    def _spoken(self, partition: int, offset: int, closed: int) -> None:
        self._closed[partition] = max(closed, self._closed.get(partition, closed))
        words = self._words.setdefault(partition, [])
        if not words or offset > words[-1][0]:
            words.append((offset, self._closed[partition]))

    def _closed_before(self, partition: int, offset: int) -> int:
        """What the words before an offset say: a record that is read again is judged as it was the first time."""
        words = self._words.get(partition, [])
        place = bisect_left(words, (offset, 0))
        return words[place - 1][1] if place else NOTHING_CLOSED

    def _forget_words(self, partition: int, offset: int) -> None:
        """Lets go of the words that only records before an offset would be judged by: none of them is read again."""
        words = self._words.get(partition, [])
        del words[: max(0, bisect_left(words, (offset, 0)) - 1)]

    def _segments(self, records: list[Record]) -> Iterator[Segment]:
        """The records between two words, and the word with its offset. In operation a word is an empty record."""
        if not self.replay:
            yield records, None
            return
        segment: list[Record] = []
        for record in records:
            word = _word(record)
            if word is None:
                segment.append(record)
            else:
                yield segment, (record.offset, word)
                segment = []
        if segment:
            yield segment, None


def in_pieces(segments: Iterable[Segment]) -> Iterator[Segment]:
    """The segments, cut where they grow beyond :data:`PIECE`: after an outage a fetch brings many megabytes at once."""
    for records, word in segments:
        start = size = 0
        if size_of(records) <= PIECE:
            yield records, word
            continue
        for place, record in enumerate(records):
            size += len(record.value or b"")
            if size > PIECE and place > start:
                yield records[start:place], None
                start, size = place, len(record.value or b"")
        yield records[start:], word


def _word(record: Record) -> int | None:
    if record.value:
        return None
    for name, value in record.headers:
        if name == WORD and value:
            return day_of(date.fromisoformat(value.decode()))
    return None

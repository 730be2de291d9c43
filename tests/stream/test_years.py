"""The three hops through many days: what a worker keeps does not grow with them."""

import asyncio
import gc
import tracemalloc
from datetime import date, timedelta

from pipeline.core.events import Record
from pipeline.core.ingest import Ingest
from pipeline.core.release import KeySet, release_key
from pipeline.core.releasing import Gathered
from pipeline.core.windows import day_of
from pipeline.declarations import Declarations
from pipeline.stream.ingesting import WORD, IngestHop
from pipeline.stream.keystore import FileKeyStore
from pipeline.stream.tallying import TallyHop, decode_tally
from pipeline.stream.topics import CONTRIBUTIONS, EVENTS, TALLIES
from pipeline.stream.transport import Batch
from pipeline.testing import event, record
from tests.stream.conftest import PARTITIONS, Sent

FIRST = date(2026, 3, 1)
NUMBER = 24  # bytes: no object is smaller


class Days:
    """A worker of all hops, day after day; nothing is drawn."""

    def __init__(self, declared: Declarations, keys: FileKeyStore, sent: Sent) -> None:
        core = Ingest(declared.registry, declared.plan, declared.policy, keys, PARTITIONS)
        core.since = day_of(FIRST)
        self.ingest = IngestHop(core, sent, partitions=PARTITIONS, sources=1, born=0.0, replay=True)
        self.tally = TallyHop(declared.plan, sent, partitions=PARTITIONS, bounded=True)
        self.gathered, self.log, self.keys, self.sent = Gathered(), KeySet(), keys, sent
        self.offsets = [0] * PARTITIONS
        self.released = self.passed = 0
        for partition in range(PARTITIONS):
            self.tally.begin(partition, 0, None)

    async def go_on(self, days: int) -> None:
        for number in range(self.passed, self.passed + days):
            day, offset = FIRST + timedelta(number), 2 * number
            events = [event(subject=f"u-{n}", id=f"{day}-{n}", time=f"{day}T12:00:00Z") for n in range(8)]
            word = Record(offset + 1, 0.0, ((WORD, f"{day + timedelta(1)}".encode()),), b"")
            await self.ingest.handle(Batch(EVENTS, 0, offset, [record(*events, offset=offset), word]))
            for topic, partition, value in self.sent.take():
                if topic == CONTRIBUTIONS:
                    offset = self.offsets[partition]
                    self.offsets[partition] += 1
                    await self.tally.handle(Batch(topic, partition, offset, [Record(offset, 0.0, (), value)]))
            for topic, _, value in self.sent.take():
                if topic == TALLIES:
                    self.gathered.add(decode_tally(value))
            for window in self.gathered.complete():
                for name in self.tally.plan.of(window.kind):
                    self.log.add(release_key(name, window.name))
                self.keys.destroy(window)
                self.gathered.forget(window)
                self.released += 1
        self.passed += days

    def remembered(self) -> int:
        """Bytes of objects that the pipeline's code has made."""
        gc.collect()
        filters = [tracemalloc.Filter(inclusive=True, filename_pattern="*/pipeline/*")]
        return sum(each.size for each in tracemalloc.take_snapshot().filter_traces(filters).statistics("filename"))


def test_what_is_remembered_does_not_grow_with_the_days(exact: Declarations, keys: FileKeyStore, sent: Sent) -> None:
    days = Days(exact, keys, sent)
    tracemalloc.start()
    try:
        asyncio.run(days.go_on(31))  # ends with March, on a Tuesday
        before = days.remembered()
        asyncio.run(days.go_on(91))  # and with June, on a Tuesday: the same windows are open
        after = days.remembered()
    finally:
        tracemalloc.stop()
    assert days.released == 122 + 18 + 4  # days, weeks and months
    assert (after - before) / 91 < NUMBER

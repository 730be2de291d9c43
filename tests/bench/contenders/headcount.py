"""Headcount's worker as it is, both hops: from the raw topic to the tallies of windows that are closed."""

from typing import Any

from pipeline import worker
from pipeline.core.tallies import FOREVER, Closed
from pipeline.settings import Settings
from pipeline.stream import ingesting, tallying
from tests.bench.common import Clock

clock, closed = Clock(), set()
handle, encode = ingesting.IngestHop.handle, tallying.encode_tally


async def begin(self: Any, batch: Any) -> None:
    clock.begin()
    await handle(self, batch)


def watch(tally: Any) -> bytes:
    """When the last partition has said that everything is closed, its tallies stand before that word."""
    value = encode(tally)
    if isinstance(tally, Closed) and tally.closed >= FOREVER:
        closed.add(tally.partition)
        if len(closed) == tally.partitions:
            clock.end()
    return value


ingesting.IngestHop.handle = begin  # type: ignore[method-assign]
tallying.encode_tally = watch
worker.run_worker(Settings.from_environment())

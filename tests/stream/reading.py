"""A worker that only reads: the worker's own Faust settings and transport, and agents that note what they get.

``python -m tests.stream.reading ADDRESS NOTES SECONDS``: waits so long on each batch, then writes a line to NOTES.
"""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import faust

from pipeline.settings import Settings
from pipeline.stream.framework import new_app
from pipeline.stream.transport import Batch, BatchSchema

EVENTS = "read.events"  # read on from what was committed
FOLD = "read.fold"  # read from the beginning by whoever gets a partition
GROUP = "readers"


def main(address: str, path: Path, seconds: float) -> None:
    app = new_app(replace(Settings(), bootstrap_servers=address, group=GROUP, session_timeout=2.0))
    app.conf.broker_max_poll_records = 500  # so that a partition is more than one batch
    app.conf.broker_commit_interval = 0.2
    notes = path.open("a", buffering=1)

    class Noting:
        dense = False

        def __init__(self, again: bool) -> None:
            self.again = again

        def begin(self, _: int, earliest: int, committed: int | None) -> int:
            return earliest if self.again else max(earliest, committed or 0)

        async def handle(self, batch: Batch) -> None:
            await asyncio.sleep(seconds)
            offsets = [record.offset for record in batch.records]
            assert offsets == list(range(offsets[0], batch.end))
            assert all(record.value.rstrip(b"\0") == b"%d" % record.offset for record in batch.records)
            notes.write(f"{batch.topic} {batch.partition} {offsets[0]} {offsets[-1]}\n")

        def forget(self, partition: int) -> None:
            pass

    async def follow(stream: Any) -> None:
        async for batch in stream:
            await app.consumer.follow(batch)

    app.transport.hops = {EVENTS: Noting(again=False), FOLD: Noting(again=True)}
    for name in app.transport.hops:
        app.agent(app.topic(name, schema=BatchSchema(), allow_empty=True), name=name)(follow)
    faust.Worker(app, loglevel="ERROR", redirect_stdouts=False, quiet=True).execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))

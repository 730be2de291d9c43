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
from pipeline.stream.transport import Batch, BatchSchema, Consumer

EVENTS = "read.events"  # read on from what was committed
FOLD = "read.fold"  # read from the beginning by whoever gets a partition
GROUP = "readers"


def main(address: str, path: Path, seconds: float) -> None:
    app = new_app(replace(Settings(), bootstrap_servers=address, group=GROUP, session_timeout=2.0))
    app.conf.broker_max_poll_records = 500  # so that a partition is more than one batch
    app.conf.broker_commit_interval = 0.2
    notes = path.open("a", buffering=1)

    def topic(name: str) -> Any:
        return app.topic(name, schema=BatchSchema(), allow_empty=True)

    async def note(batch: Batch) -> None:
        await asyncio.sleep(seconds)
        offsets = [record.offset for record in batch.records]
        assert offsets == list(range(offsets[0], offsets[-1] + 1))
        assert all(record.value == b"%d" % record.offset for record in batch.records)
        notes.write(f"{batch.topic} {batch.partition} {offsets[0]} {batch.offset}\n")

    @app.agent(topic(EVENTS), name="events")
    async def events(stream: Any) -> None:
        async for batch in stream:
            await note(batch)

    @app.agent(topic(FOLD), name="fold")
    async def fold(stream: Any) -> None:
        async for batch in stream:
            await note(batch)

    Consumer.resume = {FOLD: lambda _, earliest: earliest}
    faust.Worker(app, loglevel="ERROR", redirect_stdouts=False, quiet=True).execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))

"""Batches of different partitions are under way at once, those of one partition one after the other.

Whoever handles a batch waits at its end until the broker has what came of it. The next one is worked on meanwhile: a
tenth of a worker's time would be waiting otherwise.
"""

import asyncio
from collections.abc import Awaitable, Callable

from pipeline.stream.transport import Batch

MOST = 4  # batches of one topic that are under way


class Lanes:
    """``handle``: what is done with each batch of one topic. It does not raise."""

    def __init__(self, handle: Callable[[Batch], Awaitable[object]], most: int = MOST) -> None:
        self._handle = handle
        self._room = asyncio.Semaphore(most)
        self._last: dict[int, asyncio.Task[None]] = {}

    async def add(self, batch: Batch) -> None:
        """Returns when the batch is under way, or the next to be of its partition."""
        await self._room.acquire()
        task = asyncio.create_task(self._follow(batch, self._last.get(batch.partition)))
        self._last[batch.partition] = task

    async def _follow(self, batch: Batch, before: asyncio.Task[None] | None) -> None:
        try:
            if before is not None:
                await asyncio.wait([before])
            await self._handle(batch)
        finally:
            self._room.release()

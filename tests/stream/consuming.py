"""A consumer as the worker has it, with a thread and a hop that do as they are told."""

import asyncio
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from pipeline.core.events import Record
from pipeline.settings import Settings
from pipeline.stream.fetching import Seen
from pipeline.stream.framework import new_app
from pipeline.stream.transport import Batch, Consumer
from pipeline.stream.unreadable import made_of

TOPIC = "usage.events"


class Scripted:
    """What the consumer asks its Kafka thread for, answered from what was committed."""

    def __init__(self) -> None:
        self.committed: dict[TP, int] = {}
        self.assigned: set[TP] = set()
        self.position: dict[TP, int] = {}
        self.earliest = 0
        self.seen: dict[TP, Seen] = {}
        self.called = False
        self.member = "worker-1"

    async def seek_to_committed(self) -> dict[TP, int]:
        for tp in self.assigned:
            self.position[tp] = self.committed.get(tp, 0)
        return {tp: self.committed.get(tp, -1) for tp in self.assigned}

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        return dict.fromkeys(partitions, self.earliest)

    def seek(self, partition: TP, offset: int) -> None:
        assert self.called, "a seek outside the thread that fetches"
        self.position[partition] = offset

    async def call_thread(self, method: Any, *args: Any) -> Any:
        self.called = True
        try:
            return method(*args)
        finally:
            self.called = False

    def assignment(self) -> set[TP]:
        return set(self.assigned)


class Folding:
    """A hop whose fold is all that it was handed: offsets, in order. It can be cancelled in the middle of a batch."""

    dense = False

    def __init__(self) -> None:
        self.folds: dict[int, list[int]] = {}
        self.interrupt = False

    def begin(self, partition: int, earliest: int, committed: int | None, /) -> int:
        begin = max(earliest, committed or 0)
        self.folds[partition] = list(range(begin))  # by whoever committed
        return begin

    async def handle(self, batch: Batch) -> None:
        if self.interrupt:
            self.interrupt = False
            raise asyncio.CancelledError
        self.folds[batch.partition] += [record.offset for record in batch.records]

    def forget(self, partition: int, /) -> None:
        del self.folds[partition]


def make_consumer() -> Any:
    """A consumer as the worker has it, but for the thread that talks to the broker."""

    async def nothing(*_: Any, **__: Any) -> None:
        return None

    app = new_app(Settings())
    consumer = app.transport.create_consumer(
        callback=nothing, on_partitions_revoked=nothing, on_partitions_assigned=nothing
    )
    assert isinstance(consumer, Consumer)
    consumer._thread = Scripted()
    app.transport.hops = {TOPIC: Folding()}
    app.topics._acking_topics.add(TOPIC)
    return consumer


def raw(tp: TP, offset: int, **more: Any) -> Record:
    """A record that was fetched, from one as aiokafka reads it off the wire."""
    given = {"timestamp": 1_700_000_000_500, "headers": [], "key": b"key", "value": b"value", **more}
    [record] = made_of([SimpleNamespace(offset=offset, **given)])
    return record


def run(coroutine: Any) -> Any:
    """In the loop of the consumer."""
    return asyncio.get_event_loop().run_until_complete(coroutine)

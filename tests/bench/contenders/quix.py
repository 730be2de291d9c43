"""quixstreams: a streaming data frame with its state in a dictionary, which is its fastest way."""

import os
import tempfile
from collections import defaultdict
from typing import Any

import msgspec
from quixstreams import Application

from tests.bench.common import Clock, Pseudonyms

clock, pseudonyms = Clock(), Pseudonyms()
decode = msgspec.json.Decoder().decode
users: dict[tuple[str, ...], set[bytes]] = defaultdict(set)
events: dict[tuple[str, ...], int] = defaultdict(int)


def count(value: bytes) -> None:
    clock.begin()
    event = decode(value)
    day, data = event["time"][:10], event["data"]
    cell = (day, data["feature"], data["platform"], data["app_version"])
    users[cell].add(pseudonyms.of(day, event["subject"]))
    events[cell] += 1


def main() -> None:
    app: Any = Application(
        broker_address=clock.broker,
        consumer_group="bench-quix",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        state_dir=tempfile.mkdtemp(),
        loglevel="ERROR",
        consumer_extra_config={"session.timeout.ms": 6000, "fetch.queue.backoff.ms": 10},
    )
    frame = app.dataframe(app.topic(clock.topic, value_deserializer="bytes", key_deserializer="bytes"))
    frame.update(count)
    app.run(count=clock.events)
    clock.end((*cell, len(who), events[cell]) for cell, who in users.items())


main()
os._exit(0)

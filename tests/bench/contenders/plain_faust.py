"""Faust as its tutorial has it: an agent over a topic, one event after the other."""

import itertools
from collections import defaultdict

import faust
import msgspec

from tests.bench.common import Clock, Pseudonyms

clock, pseudonyms = Clock(), Pseudonyms()
app = faust.App(
    "bench-plain-faust",
    broker=f"kafka://{clock.broker}",
    store="memory://",
    web_enabled=False,
    topic_disable_leader=True,
    topic_allow_declare=False,
    broker_session_timeout=6,
    broker_heartbeat_interval=1,
    consumer_auto_offset_reset="earliest",
    stream_wait_empty=False,
)
users: dict[tuple[str, ...], set[bytes]] = defaultdict(set)
events: dict[tuple[str, ...], int] = defaultdict(int)
counted = itertools.count(1)


@app.agent(app.topic(clock.topic, value_serializer="raw"))
async def count(stream: faust.Stream) -> None:
    async for value in stream:
        clock.begin()
        event = msgspec.json.decode(value)
        day, data = event["time"][:10], event["data"]
        cell = (day, data["feature"], data["platform"], data["app_version"])
        users[cell].add(pseudonyms.of(day, event["subject"]))
        events[cell] += 1
        if next(counted) == clock.events:
            clock.end((*cell, len(who), events[cell]) for cell, who in users.items())


if __name__ == "__main__":
    faust.Worker(app, loglevel="ERROR", redirect_stdouts=False, quiet=True).execute_from_commandline()

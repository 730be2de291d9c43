"""A consumer written by hand for this one job: aiokafka and msgspec, no framework, nothing survives a crash."""

import asyncio
from collections import defaultdict

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.bench.common import Clock, Pseudonyms


class Data(msgspec.Struct, gc=False):
    feature: str
    platform: str
    app_version: str


class Event(msgspec.Struct, gc=False):
    subject: str
    time: str
    data: Data


async def main() -> None:
    clock, pseudonyms = Clock(), Pseudonyms()
    decode = msgspec.json.Decoder(Event).decode
    users: dict[tuple[str, str, str, str], set[bytes]] = defaultdict(set)
    events: dict[tuple[str, str, str, str], int] = defaultdict(int)
    consumer = AIOKafkaConsumer(bootstrap_servers=clock.broker, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    partitions = [TopicPartition(clock.topic, number) for number in range(4)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    left = clock.records
    clock.begin()
    while left:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            left -= len(records)
            for record in records:
                for line in record.value.split(b"\n"):
                    event = decode(line)
                    day, data = event.time[:10], event.data
                    cell = (day, data.feature, data.platform, data.app_version)
                    users[cell].add(pseudonyms.of(day, event.subject))
                    events[cell] += 1
    clock.end((*cell, len(who), events[cell]) for cell, who in users.items())
    await consumer.stop()


asyncio.run(main())

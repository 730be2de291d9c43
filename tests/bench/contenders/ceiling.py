"""The ceiling: aiokafka reads every record and drops it. Whoever uses this client cannot be faster than that."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.bench.common import Clock


async def main() -> None:
    clock = Clock()
    consumer = AIOKafkaConsumer(bootstrap_servers=clock.broker, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    partitions = [TopicPartition(clock.topic, number) for number in range(4)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    left = clock.records
    clock.begin()
    while left:
        left -= sum(map(len, (await consumer.getmany(timeout_ms=1000)).values()))
    clock.end()
    await consumer.stop()


asyncio.run(main())

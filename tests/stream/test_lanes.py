"""Batches of different partitions are under way at once, and those of one partition in their order."""

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.events import Record
from pipeline.stream.lanes import Lanes
from pipeline.stream.topics import EVENTS
from pipeline.stream.transport import Batch
from tests.properties.worlds import examples


def batch(partition: int, offset: int) -> Batch:
    return Batch(EVENTS, partition, offset, [Record(offset, 0.0, (), b"")])


@examples(200)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=30), st.integers(1, 5))
def test_each_partition_keeps_its_order_and_no_more_is_under_way_than_may_be(
    work: list[tuple[int, int]], most: int
) -> None:
    """``work``: for each batch its partition, and how long it takes."""
    begun: list[Batch] = []
    ended: list[Batch] = []
    under_way: Counter[int] = Counter()

    async def handle(given: Batch) -> None:
        begun.append(given)
        under_way[given.partition] += 1
        assert under_way[given.partition] == 1
        assert under_way.total() <= most
        for _ in range(work[given.start][1]):
            await asyncio.sleep(0)
        under_way[given.partition] -= 1
        ended.append(given)

    async def run() -> None:
        lanes = Lanes(handle, most)
        for offset, (partition, _) in enumerate(work):
            await lanes.add(batch(partition, offset))
        while len(ended) < len(work):
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(run(), 30))
    for found in (begun, ended):
        for lane in range(4):
            offsets = [each.start for each in found if each.partition == lane]
            assert offsets == [offset for offset, (partition, _) in enumerate(work) if partition == lane]


def test_a_partition_that_waits_holds_up_no_other_and_is_not_overtaken() -> None:
    ended: list[tuple[int, int]] = []
    broker = asyncio.Event()

    async def handle(given: Batch) -> None:
        if given.partition == 0:
            await broker.wait()
        ended.append((given.partition, given.start))

    async def run() -> None:
        lanes = Lanes(handle, 4)
        for partition, offset in ((0, 0), (0, 1), (1, 0), (1, 1)):
            await lanes.add(batch(partition, offset))
        for _ in range(10):
            await asyncio.sleep(0)
        assert ended == [(1, 0), (1, 1)]
        broker.set()
        for _ in range(10):
            await asyncio.sleep(0)

    asyncio.run(run())
    assert ended == [(1, 0), (1, 1), (0, 0), (0, 1)]


def test_whoever_hands_on_waits_while_as_much_is_under_way_as_may_be() -> None:
    async def run() -> None:
        never = asyncio.Event()
        lanes = Lanes(lambda _: never.wait(), 2)
        await lanes.add(batch(0, 0))
        await lanes.add(batch(1, 0))
        third = asyncio.ensure_future(lanes.add(batch(2, 0)))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not third.done()
        never.set()
        await asyncio.wait_for(third, 5)

    asyncio.run(run())

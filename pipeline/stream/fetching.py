"""The thread that talks to the broker: Faust's, but that it says where each fetch began, holds no more than it may, and
leaves its group at the end.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple

from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from pipeline.stream.unreadable import size_of

LEAVE_SECONDS = 5.0
MAX_HELD = 8 << 20  # bytes of a partition that are fetched and not handled, beyond which no more is fetched
HELD_SECONDS = 0.05  # between two looks at whether there is room
# A partition that is not in the request under way waits for its end, once a hop: Faust's 1.5 s would be the latency.
FETCH_WAIT_MS = 100


class Seen(NamedTuple):
    """What the thread that talks to the broker knows of a partition after a fetch."""

    end: int  # after the last record that was fetched
    position: int  # where the next fetch begins; beyond ``end`` where the log has nothing to give
    highwater: int | None
    asked: float | None  # when the broker answered, seconds since 1970


class Thread(driver.AIOKafkaConsumerThread):
    """Faust's thread that talks to the broker; it also says where each fetch began."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: dict[TP, Seen] = {}
        self._fetched: dict[TP, deque[tuple[int, int]]] = {}  # the end of each batch, and its bytes

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    async def _fetch_records(self, consumer: Any, active_partitions: Any, **kwargs: Any) -> Any:
        if active_partitions:
            active_partitions = {tp for tp in active_partitions if self.held(tp) < MAX_HELD}
            if not active_partitions:  # to Faust's driver none means all
                await asyncio.sleep(HELD_SECONDS)
                return {}
        before = {tp: self._state(consumer, tp) for tp in active_partitions or ()}
        starts = {tp: state.position for tp, state in before.items() if state is not None}
        fetched = await super()._fetch_records(consumer, active_partitions, **kwargs)
        batches = {tp: (starts.get(tp, records[0].offset), records) for tp, records in fetched.items() if records}
        for tp, (start, records) in batches.items():
            self._hold(tp, start, records)
        for tp in before:
            state = self._state(consumer, tp)
            if state is None:
                self.seen.pop(tp, None)
                continue
            asked = None if state.timestamp is None else state.timestamp / 1000
            if tp in batches:
                end = batches[tp][1][-1].offset + 1
            else:
                end = min(self.seen[tp].end, state.position) if tp in self.seen else starts.get(tp, state.position)
            self.seen[tp] = Seen(end, state.position, state.highwater, asked)
        return batches

    def held(self, tp: TP) -> int:
        """The bytes of a partition that are fetched and not handled."""
        fetched, place = self._fetched.get(tp), self.consumer.place_of(tp)
        if not fetched or place is None:
            self._fetched.pop(tp, None)
            return 0
        while fetched and fetched[0][0] <= place:
            fetched.popleft()
        return sum(size for _, size in fetched)

    def _hold(self, tp: TP, start: int, records: list[Any]) -> None:
        fetched = self._fetched.setdefault(tp, deque())
        if fetched and start < fetched[-1][0]:  # it is read again: what was fetched before is dropped
            fetched.clear()
        fetched.append((records[-1].offset + 1, size_of(records)))

    @property
    def member(self) -> str:
        """What the group calls this worker."""
        return str(self._ensure_consumer()._coordinator.member_id)

    def seek(self, partition: TP, offset: int) -> None:
        """Of a partition that was given away meanwhile: nothing."""
        if partition in self.assignment():
            super().seek(partition, offset)

    async def leave(self) -> None:
        """Leaves the group, so that others take over at once; a broker that does not answer is not waited for."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.call_thread(self._leave), LEAVE_SECONDS)

    async def _leave(self) -> None:
        coordinator = self._consumer._coordinator
        member, generation = coordinator.member_id, coordinator.generation
        await coordinator.close()
        if member and generation == 0:  # aiokafka takes it for none, and the embedded broker begins with it
            with suppress(KafkaError):
                await coordinator._send_req(LeaveGroupRequest(coordinator.group_id, member))

    @staticmethod
    def _state(consumer: Any, tp: TP) -> Any:
        """What aiokafka knows of a partition, once it has a position."""
        subscription = consumer._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        state = None if assignment is None else assignment.state_value(tp)
        return state if state is not None and state.has_valid_position else None

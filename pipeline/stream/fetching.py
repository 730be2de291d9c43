"""The thread that talks to the broker: Faust's, but it says where each fetch began, and leaves its group at the end."""

import asyncio
from contextlib import suppress
from typing import Any, NamedTuple

from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

LEAVE_SECONDS = 5.0


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

    async def _fetch_records(self, consumer: Any, active_partitions: Any, **kwargs: Any) -> Any:
        before = {tp: self._state(consumer, tp) for tp in active_partitions or ()}
        starts = {tp: state.position for tp, state in before.items() if state is not None}
        fetched = await super()._fetch_records(consumer, active_partitions, **kwargs)
        batches = {tp: (starts.get(tp, records[0].offset), records) for tp, records in fetched.items() if records}
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

"""A clock that jumps back reopens no window, brings no key back and releases nothing a second time."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.core.contributions import Contributions, decode_contribution
from pipeline.core.outcomes import Reason
from pipeline.core.tallies import PartitionState, Tally
from pipeline.core.windows import window_named
from pipeline.declarations import Declarations
from pipeline.stream.keys import SharedKeys
from pipeline.stream.keystore import FileKeyStore
from pipeline.stream.keytopic import TopicKeyStore
from pipeline.stream.releasing import Releaser
from pipeline.stream.topics import CONTRIBUTIONS
from pipeline.testing import NoNoise, event, record
from tests.stream.conftest import KEK, PARTITIONS, Sent
from tests.stream.test_ingesting import SOURCES, Ingesting, at
from tests.stream.test_releasing import batch

DAY = window_named("day-2026-05-05")


@pytest.fixture(params=["files", "topic"])
def store(request: pytest.FixtureRequest, tmp_path: Path, kafka: dict[str, Any]) -> SharedKeys:
    return FileKeyStore(tmp_path / "keys", KEK) if request.param == "files" else TopicKeyStore(kafka, KEK)


class Hops:
    """The three hops, in memory but for the keys and the log of releases."""

    def __init__(self, exact: Declarations, keys: SharedKeys, kafka: dict[str, Any]) -> None:
        self.exact, self.keys = exact, keys
        self.sent = Sent()
        self.tallies = [PartitionState(number, PARTITIONS, exact.plan, bounded=False) for number in range(PARTITIONS)]
        self.noise = NoNoise()
        self.releaser = Releaser(exact.accountant, keys, self.noise, kafka)
        self.late = 0
        self.restart()

    def restart(self) -> None:
        """A new worker: what the old one had seen of the time is forgotten."""
        self.ingesting = Ingesting(self.exact, self.keys, self.sent, replay=False)  # type: ignore[arg-type]

    def run(self) -> int:
        """Hands on what was sent; gives how many windows were released."""
        given: list[Any] = []
        for topic, partition, value in self.sent.take():
            if topic == CONTRIBUTIONS:
                contribution, state = decode_contribution(value), self.tallies[partition]
                if isinstance(contribution, Contributions):
                    self.late += [each.reason for each in state.fold(contribution)].count(Reason.LATE)
                else:
                    given += state.advance(contribution)
        self.counted = sum(each.accepted for each in given if isinstance(each, Tally))
        return self.releaser.handle(batch(*given)) if given else 0


def test_what_was_released_stays_released(exact: Declarations, store: SharedKeys, kafka: dict[str, Any]) -> None:
    hops = Hops(exact, store, kafka)
    some = event(time="2026-05-05T10:00:00Z")
    hops.ingesting.handle(record(some, arrived=at("2026-05-05T10:00")))
    for partition in range(SOURCES):
        hops.ingesting.idle(at("2026-05-09T10:00"), partition=partition)
    assert hops.run() > 0
    assert hops.counted == 1
    assert store.window(DAY) is None
    drawn, states = len(hops.noise.draws), store.states()

    for restarted in (False, True):  # the clocks of workers and brokers jump back four days
        if restarted:
            hops.restart()
        again = event(time="2026-05-05T10:00:00Z", subject="another")
        hops.ingesting.handle(record(again, offset=1 + restarted, arrived=at("2026-05-05T10:01")))
        for partition in range(SOURCES):
            hops.ingesting.idle(at("2026-05-05T10:02"), partition=partition)
        assert hops.run() == 0
        assert hops.late == 1 + restarted
        assert store.window(DAY) is None
        assert store.states() == states
        assert len(hops.noise.draws) == drawn

    for partition in range(SOURCES):  # and forward again
        hops.ingesting.idle(at("2026-05-10T10:00"), partition=partition)
    assert hops.run() > 0
    assert hops.counted == 0
    hops.releaser.close()
    store.close()

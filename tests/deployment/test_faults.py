"""What the faults would find: a pipeline that loses, counts twice or releases twice does not pass their checks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core.contributions import Contributions
from pipeline.core.tallies import PartitionState, Seen
from pipeline.stream.ingesting import IngestHop
from pipeline.stream.releaselog import ReleaseLog
from tests.deployment.apache import Cluster
from tests.faults.workers import nothing
from tests.faults.world import World, cluster_of, run, world_of

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.timeout(200)]

WRITTEN = "after rows are written, before commit"
SEED = 2  # the first commit is the edge: of a later one the keys before it are gone, and nothing can be drawn again
RELEASED = "after acknowledgement, before keys are destroyed"


@pytest.fixture(scope="module")
def cluster(jars: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_of(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def lose() -> None:
    """A worker that begins leaves out the first batch that it gets, and says that it was handled."""
    handle = IngestHop.handle
    left: list[Any] = []

    async def leave(self: Any, batch: Any) -> None:
        if left or not any(record.value for record in batch.records):
            await handle(self, batch)
        left.append(batch)

    IngestHop.handle = leave  # type: ignore[method-assign]


def count_twice() -> None:
    """Nothing that was folded is known, neither by where it stood nor by its token."""
    fold = PartitionState.fold

    def anew(self: PartitionState, batch: Contributions) -> Any:
        self.next.clear()
        return fold(self, batch)

    PartitionState.fold = anew  # type: ignore[method-assign]
    Seen.add = lambda _, tokens, __: np.ones(len(tokens), dtype=bool)  # type: ignore[method-assign, assignment]


def release_twice() -> None:
    """Whoever begins to release does not look at what was released."""
    ReleaseLog.read = lambda _: None  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize(
    ("prepare", "edge", "found"),
    [
        (nothing, WRITTEN, None),
        (nothing, RELEASED, None),
        (lose, None, "accepted of"),
        (count_twice, WRITTEN, "accepted of|rejected {.late"),  # late, where the window was given out by then
        (release_twice, RELEASED, "released twice"),
    ],
)
def test_what_is_wrong_is_found(
    cluster: Cluster, prepare: Callable[[], None], edge: str | None, found: str | None, tmp_path: Path
) -> None:
    def inject(world: World) -> None:
        world.until(lambda: world.workers.reached >= world.workers.wanted, "the edge was not reached")
        world.pause(1.0, 1.0)

    with world_of(cluster, tmp_path, 0, SEED) as world:
        world.workers.prepare = prepare
        world.workers.wanted.update([edge] if edge else [])
        world.workers.add()
        if found is None:
            run(world, inject, 1)
        else:
            with pytest.raises(AssertionError, match=found):
                run(world, inject, 1)

"""On a cluster of three, a node that is killed and comes back changes nothing."""

from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from pipeline.stream.topics import TOPICS
from tests.faults.world import World, cluster_of, run, world_of

pytestmark = [pytest.mark.e2e, pytest.mark.kafka]


def test_a_node_is_killed_and_the_counts_are_those_of_plain_sql(jars: str, tmp_path: Path) -> None:
    def inject(world: World) -> None:
        node = world.source.randrange(1, 4)
        world.pause(1.0, 2.0)
        world.cluster.kill(node)
        world.pause(3.0, 4.0)
        world.cluster.start(node)
        world.until(lambda: in_sync(world), "the node that came back did not catch up")

    with cluster_of(tmp_path / "cluster", nodes=3) as cluster, world_of(cluster, tmp_path, 2, seed=3) as world:
        run(world, inject, 1)
        assert in_sync(world)


def in_sync(world: World) -> bool:
    """Whether every partition has three copies that are up to date."""
    admin = KafkaAdminClient(**world.kafka)
    try:
        topics = admin.describe_topics([topic.name for topic in TOPICS])
    finally:
        admin.close()
    return all(len(each["isr_nodes"]) == 3 for topic in topics for each in topic["partitions"])

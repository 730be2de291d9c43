"""A broker for the tests of a module: one that is started here, or the one that the environment names."""

import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient

from pipeline.cli import main
from pipeline.stream.topics import TOPICS
from tests.deployment.apache import Cluster, Unavailable, fetch_jars
from tests.deployment.files import within

REQUIRED = "HEADCOUNT_REQUIRE_KAFKA"  # set by `make test-kafka`: what cannot be started is a failure


@pytest.fixture(scope="session")
def jars() -> str:
    """Where Apache Kafka is; skips where it cannot be had and nobody insists, or where another is named."""
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        pytest.skip("it takes a broker of its own, and KAFKA_BOOTSTRAP_SERVERS names one that is there")
    try:
        return fetch_jars()
    except Unavailable as error:
        if REQUIRED in os.environ:
            pytest.fail(f"Apache Kafka was not started: {error}")
        pytest.skip(f"Apache Kafka was not started: {error}")


@pytest.fixture(scope="module")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker without topics of ours: ``KAFKA_BOOTSTRAP_SERVERS`` where that is set."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        ours = {topic.name for topic in TOPICS}
        with closing(KafkaAdminClient(bootstrap_servers=given)) as admin:
            there = ours & set(admin.list_topics())
            assert not there, f"{given} has topics of ours, and what they hold would be lost: name another broker"
            yield given
            admin.delete_topics(sorted(ours & set(admin.list_topics())))
            assert within(30, lambda: not ours & set(admin.list_topics()))
        return
    request.getfixturevalue("jars")
    with Cluster(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster.bootstrap


@pytest.fixture(scope="module")
def topics(kafka: str) -> list[str]:
    """What `headcount topics` says, twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka)
        results = [CliRunner().invoke(main, ["topics"]) for _ in range(2)]
    assert [result.exit_code for result in results] == [0, 0]
    with closing(KafkaAdminClient(bootstrap_servers=kafka)) as admin:  # a new broker's metadata may name nobody yet
        assert within(30, lambda: bool(admin.describe_cluster()["brokers"]))
    return [result.output for result in results]

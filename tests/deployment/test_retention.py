"""What the table says is gone is gone: from the log, and from the disk. On Apache Kafka, with short times."""

import secrets
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from pipeline.stream.topics import DAY_MS, HOUR_MS, KEYS, RELEASES, TOPICS, create_topics
from tests.deployment.apache import Cluster
from tests.deployment.files import within

pytestmark = [pytest.mark.e2e, pytest.mark.kafka]

PASSING = [topic for topic in TOPICS if topic.config["cleanup.policy"] == "delete"]
DAYS = {"usage.events": 2, "usage.contributions": 35, "usage.tallies": 7, "usage.rejections": 7}  # as designed
KEPT = {RELEASES, KEYS}
SHORT = {"retention.ms": "3000", "segment.ms": "500", "file.delete.delay.ms": "500"}


def test_the_times_are_those_of_the_design_and_whose_clock_counts_is_the_brokers() -> None:
    assert {topic.name: int(topic.config["retention.ms"]) for topic in PASSING} == {
        name: days * DAY_MS for name, days in DAYS.items()
    }
    for topic in PASSING:  # a record from the future would otherwise keep its segment
        assert topic.config["message.timestamp.type"] == "LogAppendTime"
        assert int(topic.config["segment.ms"]) <= HOUR_MS


def test_what_has_had_its_time_is_on_no_disk_any_more_even_where_nothing_follows(jars: str, tmp_path: Path) -> None:
    settings = {"KAFKA_LOG_RETENTION_CHECK_INTERVAL_MS": "500"}
    with Cluster(tmp_path, settings=settings) as cluster:
        kafka = {"bootstrap_servers": cluster.bootstrap}
        create_topics(kafka)
        shorten(kafka)
        marker = secrets.token_hex(16).encode()
        ahead = 4_000_000_000_000  # a worker whose clock is in the year 2096
        with closing(KafkaProducer(**kafka)) as producer:
            for topic in TOPICS:
                key = topic.name.encode()
                for partition in range(topic.partitions):
                    then = ahead if topic in PASSING else None
                    sent = producer.send(
                        topic.name, partition=partition, key=key, value=key + marker, timestamp_ms=then
                    )
                    sent.get(20)
        assert held(tmp_path, marker) == {topic.name for topic in TOPICS}
        with closing(KafkaConsumer(**kafka)) as consumer:
            passing = [TopicPartition(t.name, number) for t in PASSING for number in range(t.partitions)]
            assert within(60, lambda: consumer.beginning_offsets(passing) == consumer.end_offsets(passing))
            assert set(consumer.end_offsets(passing).values()) == {1}
        assert within(60, lambda: held(tmp_path, marker) == KEPT)


def shorten(kafka: dict[str, str]) -> None:
    """The times of the table, but in seconds."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name, configs=SHORT) for topic in PASSING]
    with closing(KafkaAdminClient(**kafka)) as admin:
        said = admin.alter_configs(resources)
    assert {text for each in said.values() for text in each.values()} == {"OK"}


def held(directory: Path, marker: bytes) -> set[str]:
    """The topics of which any file of the broker holds the marker."""
    found = set()
    for path in directory.glob("data/**/*"):
        try:
            if path.is_file() and marker in path.read_bytes():
                found |= {topic.name for topic in TOPICS if topic.name.encode() + marker in path.read_bytes()}
        except FileNotFoundError:
            continue  # deleted meanwhile
    return found

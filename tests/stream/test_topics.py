"""The topics, as they are made and as they are declared."""

from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from pipeline.settings import Settings
from pipeline.stream.app import topic_sizes
from pipeline.stream.broker import embedded_broker
from pipeline.stream.topics import (
    CONTRIBUTIONS,
    DAY_MS,
    EVENTS,
    HOUR_MS,
    KEYS,
    REJECTIONS,
    RELEASES,
    TALLIES,
    TOPICS,
    create_topics,
)

NAMES = [EVENTS, CONTRIBUTIONS, TALLIES, RELEASES, REJECTIONS, KEYS]


def sizes(kafka: dict[str, Any]) -> dict[str, int]:
    admin = KafkaAdminClient(**kafka)
    try:
        return {each["name"]: len(each["partitions"]) for each in admin.describe_topics(NAMES)}
    finally:
        admin.close()


@pytest.mark.parametrize(("partitions", "expected"), [(None, 4), (7, 7), (1, 1)])
def test_all_are_made_once_with_their_partitions(partitions: int | None, expected: int) -> None:
    with embedded_broker() as address:
        kafka = {"bootstrap_servers": [address]}
        assert create_topics(kafka, partitions=partitions) == NAMES
        several = {EVENTS: expected, CONTRIBUTIONS: expected}
        assert sizes(kafka) == dict.fromkeys(NAMES, 1) | several
        assert create_topics(kafka, partitions=partitions) == []
        assert create_topics(kafka, partitions=9) == []  # what is there is left as it is
        assert sizes(kafka)[EVENTS] == expected


def test_only_the_topics_that_are_missing_are_made() -> None:
    with embedded_broker() as address:
        kafka = {"bootstrap_servers": [address]}
        admin = KafkaAdminClient(**kafka)
        admin.create_topics([NewTopic(EVENTS, 2, 1)])
        admin.close()
        assert create_topics(kafka) == NAMES[1:]
        assert sizes(kafka)[EVENTS] == 2


def test_the_worker_learns_the_sizes_from_the_broker_and_says_which_topics_are_missing() -> None:
    with embedded_broker() as address:
        settings = Settings(bootstrap_servers=address)
        with pytest.raises(Exception, match=r"topics are missing: .*headcount topics.* makes them"):
            topic_sizes(settings, [EVENTS, TALLIES])
        create_topics(settings.kafka(), partitions=3)
        assert topic_sizes(settings, [EVENTS, TALLIES]) == {EVENTS: 3, TALLIES: 1}


def test_what_names_people_is_gone_soonest_and_only_what_names_nobody_is_kept() -> None:
    retention = {topic.name: int(topic.config["retention.ms"]) for topic in TOPICS}
    assert retention[EVENTS] <= 2 * DAY_MS
    assert retention[CONTRIBUTIONS] >= (31 + 2) * DAY_MS  # the longest window and its lateness
    assert retention[TALLIES] == retention[REJECTIONS] == 7 * DAY_MS
    assert [name for name, kept in retention.items() if kept == -1] == [RELEASES, KEYS]
    assert {topic.name for topic in TOPICS if topic.config["cleanup.policy"] != "delete"} == {RELEASES, KEYS}


def test_what_is_left_of_a_destroyed_key_is_compacted_within_the_hour() -> None:
    (keys,) = (topic for topic in TOPICS if topic.name == KEYS)
    assert keys.partitions == 1  # who is first in the log has drawn the key
    assert keys.config["cleanup.policy"] == "compact"  # a key that is deleted by its age would be drawn again
    assert int(keys.config["segment.ms"]) < int(keys.config["max.compaction.lag.ms"]) <= HOUR_MS
    assert float(keys.config["min.cleanable.dirty.ratio"]) < 0.01
    assert keys.config["message.timestamp.type"] == "LogAppendTime"


def test_the_broker_s_clock_says_when_an_event_arrived() -> None:
    (events,) = (topic for topic in TOPICS if topic.name == EVENTS)
    assert events.config["message.timestamp.type"] == "LogAppendTime"

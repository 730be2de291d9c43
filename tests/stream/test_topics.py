"""The topics, as they are made and as they are declared."""

from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from pipeline.settings import Settings
from pipeline.stream.app import topic_sizes
from pipeline.stream.broker import embedded_broker
from pipeline.stream.topics import CONTRIBUTIONS, DAY_MS, EVENTS, REJECTIONS, RELEASES, TALLIES, TOPICS, create_topics

NAMES = [EVENTS, CONTRIBUTIONS, TALLIES, RELEASES, REJECTIONS]


def sizes(kafka: dict[str, Any]) -> dict[str, int]:
    admin = KafkaAdminClient(**kafka)
    try:
        return {each["name"]: len(each["partitions"]) for each in admin.describe_topics(NAMES)}
    finally:
        admin.close()


@pytest.mark.parametrize(("partitions", "expected"), [(None, 4), (7, 7), (1, 1)])
def test_all_five_are_made_once_with_their_partitions(partitions: int | None, expected: int) -> None:
    with embedded_broker() as address:
        kafka = {"bootstrap_servers": [address]}
        assert create_topics(kafka, partitions=partitions) == NAMES
        assert sizes(kafka) == {EVENTS: expected, CONTRIBUTIONS: expected, TALLIES: 1, RELEASES: 1, REJECTIONS: 1}
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
            topic_sizes(settings)
        create_topics(settings.kafka(), partitions=3)
        assert topic_sizes(settings) == {EVENTS: 3, CONTRIBUTIONS: 3, TALLIES: 1}


def test_what_names_people_is_gone_soonest_and_only_what_names_nobody_is_kept() -> None:
    retention = {topic.name: int(topic.config["retention.ms"]) for topic in TOPICS}
    assert retention[EVENTS] <= 2 * DAY_MS
    assert retention[CONTRIBUTIONS] >= (31 + 2) * DAY_MS  # the longest window and its lateness
    assert retention[TALLIES] == retention[REJECTIONS] == 7 * DAY_MS
    assert [name for name, kept in retention.items() if kept == -1] == [RELEASES]
    assert {topic.name for topic in TOPICS if topic.config["cleanup.policy"] != "delete"} == {RELEASES}


def test_the_broker_s_clock_says_when_an_event_arrived() -> None:
    (events,) = (topic for topic in TOPICS if topic.name == EVENTS)
    assert events.config["message.timestamp.type"] == "LogAppendTime"

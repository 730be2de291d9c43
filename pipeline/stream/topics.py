"""The topics, their retention and how they are made. The same table is in the compose file and in the AsyncAPI
document.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

EVENTS: Final = "usage.events"
CONTRIBUTIONS: Final = "usage.contributions"
TALLIES: Final = "usage.tallies"
RELEASES: Final = "usage.releases"
REJECTIONS: Final = "usage.rejections"
KEYS: Final = "usage.keys"

# Kafka deletes whole segments and rolls one a week by default: on a quiet topic an identifier would outlive its time.
# The broker's clock, not the sender's, says when a record came: one from the future would keep its segment for ever.
_ROLLED: Final = {
    "cleanup.policy": "delete",
    "segment.ms": str(HOUR_MS),
    "message.timestamp.type": "LogAppendTime",
}

# A record holds a whole window's cells, or what came of a record of events, of which each may be megabytes.
_LARGE: Final = {"max.message.bytes": "16777216"}


@dataclass(frozen=True)
class Topic:
    """A topic. ``config``: as Kafka names its settings."""

    name: str
    partitions: int
    purpose: str
    config: Mapping[str, str] = field(default_factory=dict)


TOPICS: Final = (
    Topic(
        EVENTS,
        4,
        "what applications emit; the only topic with identifiers",
        {"retention.ms": str(48 * HOUR_MS), **_ROLLED},
    ),
    Topic(
        CONTRIBUTIONS,
        4,
        "pseudonyms and sealed cells, until the longest window has closed",
        {"retention.ms": str(35 * DAY_MS), **_ROLLED, **_LARGE},
    ),
    Topic(
        TALLIES,
        1,
        "exact counts of closed windows, until they are released",
        {"retention.ms": str(7 * DAY_MS), **_ROLLED, **_LARGE},
    ),
    Topic(
        RELEASES,
        1,
        "noisy results, for ever",
        {"retention.ms": "-1", "cleanup.policy": "compact", **_LARGE},
    ),
    Topic(
        REJECTIONS,
        1,
        "why and where an event was not counted, never what it said",
        {"retention.ms": str(7 * DAY_MS), **_ROLLED, **_LARGE},
    ),
    Topic(
        KEYS,
        1,
        "windows' keys, wrapped, where HEADCOUNT_KEYS is kafka:",
        # How long the bytes of a destroyed key are on a broker's disk: docs/decisions/0006-keys-in-a-topic.md.
        {
            "cleanup.policy": "compact",
            "retention.ms": "-1",
            "segment.ms": str(HOUR_MS // 6),
            "min.cleanable.dirty.ratio": "0.001",
            "max.compaction.lag.ms": str(HOUR_MS),
            "delete.retention.ms": str(DAY_MS),
            # By the broker's clock, so that no worker's clock decides when a segment is rolled.
            "message.timestamp.type": "LogAppendTime",
        },
    ),
)


def create_topics(kafka: Mapping[str, Any], *, replication: int = 1, partitions: int | None = None) -> list[str]:
    """Makes the topics that are not there yet; gives their names. ``partitions``: of events and contributions."""
    # `acks=all` waits for the copies that are up to date, were it one: two have to be, where there are so many.
    safe = {"min.insync.replicas": str(replication - 1)} if replication > 2 else {}
    admin = KafkaAdminClient(**kafka)
    made = []
    try:
        for topic in TOPICS:
            count = partitions if partitions and topic.partitions > 1 else topic.partitions
            try:
                admin.create_topics([NewTopic(topic.name, count, replication, topic_configs={**topic.config, **safe})])
                made.append(topic.name)
            except TopicAlreadyExistsError:
                continue
    finally:
        admin.close()
    return made

"""What no embedded broker proves: the whole job, and one writer of releases, on Apache Kafka."""

import base64
import secrets
from datetime import date
from pathlib import Path

import msgspec
import pytest
from kafka import TopicPartition

from pipeline.core.release import Release, encode_release
from pipeline.core.tallies import FOREVER
from pipeline.core.windows import date_of
from pipeline.declarations import read_declarations
from pipeline.replay import Sender, wait_for_releases
from pipeline.settings import SCHEMAS, Settings
from pipeline.sources import Lines
from pipeline.stack import Stack
from pipeline.stream.releaselog import Fenced, ReleaseLog, read_log
from pipeline.stream.topics import RELEASES
from pipeline.testing import declarations, record, run
from pipeline.testing import event as anything
from pipeline.warehouse.projector import rebuild
from pipeline.warehouse.reader import Statistics
from tests.deployment.files import within

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.usefixtures("topics")]

USERS, EVENTS, DAYS = 300, 2000, 3
_RELEASES = TopicPartition(RELEASES, 0)


def event(number: int) -> bytes:
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": str(number),
            "source": "test",
            "type": "usage.feature.used.v1",
            "subject": f"u{number % USERS}",
            "time": f"2026-05-{1 + number % DAYS:02}T10:00:00Z",
            "data": {"feature": "search", "platform": "web"},
        }
    )


def test_two_workers_count_what_was_sent(kafka: str, tmp_path: Path) -> None:
    policy = SCHEMAS / "exact.toml"
    plan = read_declarations(Settings(policy=policy), date(2026, 5, 1)).plan
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "HEADCOUNT_CLOCK": "replay",
        "HEADCOUNT_POLICY": str(policy),
        "HEADCOUNT_KEYS": str(tmp_path / "keys"),
        "HEADCOUNT_KEK": base64.b64encode(secrets.token_bytes(32)).decode(),
        "HEADCOUNT_SESSION_TIMEOUT": "6",
    }
    stack = Stack(kafka={"bootstrap_servers": kafka}, environment=environment, logs=tmp_path)
    try:
        for _ in range(2):
            stack.start_worker()
        sender = Sender(stack.kafka)
        lines = [b"\n".join(map(event, range(start, start + 100))) for start in range(0, EVENTS, 100)]
        list(sender.send(Lines(value, 100, 0, 0) for value in lines))
        sender.tell(date_of(FOREVER))
        watch = wait_for_releases(stack, plan, report=lambda *_: None)
        keys = tmp_path / "keys"
        assert within(20, lambda: [path.name for path in keys.glob("*.key")] == ["route.key"])
    finally:
        stack.stop()
    assert (watch.accepted_events(), watch.rejected()) == (EVENTS, {})
    rebuild(tmp_path / "statistics", stack.kafka)
    with pytest.warns(match="nobody"), Statistics(tmp_path / "statistics") as statistics:
        month = statistics.frame("feature_use", window="month")
    assert month[["feature", "users", "events"]].to_numpy().tolist() == [["search", USERS, EVENTS]]


def named(number: int) -> Release:
    some = run(declarations(), [record(anything())]).releases[0]
    return msgspec.structs.replace(some, statistic="tested", number=number)


def test_a_second_writer_of_releases_fences_the_first(kafka: str) -> None:
    first = ReleaseLog({"bootstrap_servers": kafka})
    first.commit([named(1)])
    second = ReleaseLog({"bootstrap_servers": kafka})
    with pytest.raises(Fenced, match="another worker releases now"):
        first.commit([named(2)])
    second.commit([named(3)])
    second.close()
    committed = [key for key, _ in read_log({"bootstrap_servers": kafka}, _RELEASES) if key.startswith("tested/")]
    assert committed == [named(1).key, named(3).key]


def test_what_was_not_committed_was_never_seen(kafka: str) -> None:
    log = ReleaseLog({"bootstrap_servers": kafka})
    log._producer.begin_transaction()
    log._producer.send(RELEASES, partition=0, key=named(4).key.encode(), value=encode_release(named(4))).get(10)
    log._producer.abort_transaction()
    log.close()
    assert named(4).key not in {key for key, _ in read_log({"bootstrap_servers": kafka}, _RELEASES)}
    assert named(4).key not in ReleaseLog({"bootstrap_servers": kafka}).keys

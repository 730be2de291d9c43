"""The projector: the log of releases, folded and published, and never past what it cannot read."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from duckdb import DuckDBPyConnection
from kafka import KafkaProducer

from pipeline.core.release import Release, encode_release
from pipeline.warehouse.errors import BusyError, WarehouseError
from pipeline.warehouse.projector import Projector, rebuild
from pipeline.warehouse.reader import Statistics
from pipeline.warehouse.snapshots import LINK, published
from pipeline.warehouse.tables import apply
from pipeline.warehouse.work import open_work

from .conftest import build_open_release, build_release
from .test_tables import HISTORY

Kafka = dict[str, Any]
Content = Callable[[DuckDBPyConnection], dict[str, Any]]


def write(kafka: Kafka, topic: str, releases: Sequence[Release | bytes | None]) -> None:
    """Append records to the log, spread over its three partitions."""
    producer = KafkaProducer(**kafka, max_request_size=16 << 20)
    for place, release in enumerate(releases):
        value = encode_release(release) if isinstance(release, Release) else release
        key = release.key.encode() if isinstance(release, Release) else b"key"
        producer.send(topic, key=key, value=value, partition=place % 3)
    producer.flush()
    producer.close()


def days(*numbers: int) -> list[Release]:
    return [build_release(day=f"2026-05-{number:02}") for number in numbers]


def windows(directory: Path) -> int:
    with Statistics(directory) as statistics:
        return int(statistics.sql("SELECT count(*) AS n FROM released.release")["n"][0])


def read(path: Path, content: Content) -> dict[str, Any]:
    with duckdb.connect(str(path.resolve()), read_only=True) as connection:
        return content(connection)


@contextmanager
def following(projector: Projector, every: float = 0.05) -> Iterator[threading.Thread]:
    """The projector follows the log in a thread for as long as the block lasts."""
    stop, errors = threading.Event(), list[BaseException]()

    def follow() -> None:
        try:
            projector.run(stop, every)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_the_log_holds_is_folded_and_published(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    write(kafka, topic, days(1, 2, 3, 4, 5))
    with Projector(tmp_path, kafka, topic=topic) as projector:
        assert projector.catch_up() == 5
        assert windows(tmp_path) == 5
        assert projector.catch_up() == 0
        assert len(published(tmp_path)) == 1
        write(kafka, topic, days(5, 6))
        assert projector.catch_up() == 1
        assert windows(tmp_path) == 6


def test_an_empty_log_gives_an_empty_file(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    with Projector(tmp_path, kafka, topic=topic) as projector:
        assert projector.catch_up() == 0
    with Statistics(tmp_path) as statistics:
        assert statistics.names() == []


def test_a_new_projector_goes_on_where_the_last_one_stopped(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    write(kafka, topic, days(1, 2, 3, 4))
    with Projector(tmp_path, kafka, topic=topic) as projector:
        projector.catch_up()
    write(kafka, topic, days(5))
    with Projector(tmp_path, kafka, topic=topic) as projector:
        assert projector.catch_up() == 1
    assert windows(tmp_path) == 5


def test_what_was_folded_before_a_crash_is_published_after_it(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    write(kafka, topic, days(1))
    with open_work(tmp_path / "work.duckdb") as connection:
        apply(connection, days(1), {0: 1})
    with Projector(tmp_path, kafka, topic=topic) as projector:
        assert projector.catch_up() == 0
    assert windows(tmp_path) == 1


def test_many_releases_and_large_ones_come_through(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    cells = [(f"feature-{n}", "web") for n in range(100_000)]
    large = build_open_release(cells=cells, values=[list(range(100_000))] * 2)
    many = [build_release(f"s{n % 50}", day=f"20{n // 50:02}-02-03") for n in range(50 * 40)]
    write(kafka, topic, [*many, large])
    with Projector(tmp_path, kafka, topic=topic) as projector:
        assert projector.catch_up() == 2_001
    assert windows(tmp_path) == 2_001


def test_a_rebuild_gives_what_following_the_log_gave(
    kafka: Kafka, topic: str, tmp_path: Path, content: Content
) -> None:
    with Projector(tmp_path, kafka, topic=topic) as projector, following(projector):
        for release in HISTORY:
            write(kafka, topic, [release])
        until(lambda: (tmp_path / LINK).exists() and windows(tmp_path) == len(HISTORY))
    live = read(tmp_path / LINK, content)
    before = (tmp_path / LINK).resolve()
    assert rebuild(tmp_path, kafka, topic=topic) == len(HISTORY)
    assert (tmp_path / LINK).resolve() != before
    assert read(tmp_path / LINK, content) == live


def test_following_publishes_what_is_new_and_no_more_often_than_asked(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    write(kafka, topic, days(1))
    with Projector(tmp_path, kafka, topic=topic) as projector, following(projector, every=3600):
        until((tmp_path / LINK).exists)
        write(kafka, topic, days(2, 3))
        until(lambda: len(projector.folded) == 2)
        write(kafka, topic, days(4))  # once this is folded too, the moment to publish the others has passed
        until(lambda: projector.folded[0] == 3)
        assert windows(tmp_path) == 1
    # the rest is published on the way out
    assert windows(tmp_path) == 4
    assert len(published(tmp_path)) == 2


def test_nothing_is_published_before_the_log_was_read_to_its_end(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    write(kafka, topic, days(1, 2, 3, 4, 5, 6))
    slow = kafka | {"max_poll_records": 1}
    with Projector(tmp_path, slow, topic=topic) as projector, following(projector, every=0.01):
        until(lambda: sum(projector.folded.values()) == 6)
    assert len(published(tmp_path)) == 1
    assert windows(tmp_path) == 6


def test_of_what_is_released_together_readers_see_all_or_nothing(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    slow = kafka | {"max_poll_records": 1}
    with Projector(tmp_path, slow, topic=topic) as projector, following(projector, every=0.01):
        until((tmp_path / LINK).exists)
        producer = KafkaProducer(**kafka, transactional_id=topic, acks="all")
        producer.init_transactions()
        producer.begin_transaction()
        for release in days(*range(1, 9)):
            producer.send(topic, key=release.key.encode(), value=encode_release(release), partition=0).get(30)
        producer.commit_transaction()
        producer.close()
        until(lambda: windows(tmp_path) == 8)
        assert [number for number, _ in published(tmp_path)] == [1, 2]


def test_what_a_crash_left_is_removed_at_the_next_start(kafka: Kafka, tmp_path: Path) -> None:
    leftover = tmp_path / "snapshots" / "statistics-000007.duckdb.partial"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half a file")
    Projector(tmp_path, kafka).close()
    assert not leftover.exists()


def test_while_nothing_is_new_nothing_is_published(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    write(kafka, topic, days(1, 2, 3))
    with Projector(tmp_path, kafka, topic=topic) as projector, following(projector):
        until((tmp_path / LINK).exists)
        write(kafka, topic, days(3, 1, 2))
        until(lambda: sum(projector.folded.values()) == 6)
    assert len(published(tmp_path)) == 1


SECRET = "jan.jansen@example.org"


@pytest.mark.parametrize(
    "record",
    [
        b'{"statistic": "' + SECRET.encode() + b'"}',
        SECRET.encode(),
        b"\xff\xfe",
        b"",
        None,
        encode_release(build_release(cells=[(SECRET,)], values=[[1], [1]])),
    ],
    ids=["no release", "no JSON", "no text", "empty", "deleted", "contradictory"],
)
def test_a_record_that_cannot_be_folded_stops_the_projector_and_is_not_quoted(
    kafka: Kafka, topic: str, tmp_path: Path, record: bytes | None
) -> None:
    write(kafka, topic, days(1, 2, 3))
    with Projector(tmp_path, kafka, topic=topic) as projector:
        projector.catch_up()
        write(kafka, topic, [record, *days(4)])
        for _ in range(2):  # it is not skipped the second time either
            with pytest.raises(WarehouseError, match="offset 1 of partition 0") as caught:
                projector.catch_up()
            assert SECRET not in str(caught.value)
            assert caught.value.__suppress_context__
        with (
            pytest.raises(WarehouseError, match="offset 1 of partition 0"),
            following(projector) as thread,
        ):
            until(lambda: not thread.is_alive())
    assert windows(tmp_path) == 3


def test_a_second_projector_is_told_who_is_there(kafka: Kafka, tmp_path: Path) -> None:
    with Projector(tmp_path, kafka), pytest.raises(BusyError, match=rf"process {os.getpid()}\b.*end it first"):
        Projector(tmp_path, kafka)
    Projector(tmp_path, kafka).close()


def test_another_log_is_not_taken_for_the_one_that_was_folded(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    with open_work(tmp_path / "work.duckdb") as connection:
        apply(connection, days(1, 2), {0: 1, 1: 1})
    write(kafka, topic, days(8, 2))  # as long, and not the same
    with (
        Projector(tmp_path, kafka, topic=topic) as projector,
        pytest.raises(WarehouseError, match="headcount rebuild"),
    ):
        projector.catch_up()
    assert rebuild(tmp_path, kafka, topic=topic) == 2


def test_a_log_that_is_shorter_than_what_was_folded_is_another_one(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    with open_work(tmp_path / "work.duckdb") as connection:
        apply(connection, days(1), {0: 500})
    write(kafka, topic, days(1))
    with (
        Projector(tmp_path, kafka, topic=topic) as projector,
        pytest.raises(WarehouseError, match="headcount rebuild"),
    ):
        projector.catch_up(patience=10)


def test_a_topic_that_is_not_there_is_named(kafka: Kafka, tmp_path: Path) -> None:
    with (
        Projector(tmp_path, kafka, topic="releases-of-nobody") as projector,
        pytest.raises(WarehouseError, match="no topic releases-of-nobody"),
    ):
        projector.catch_up()


def test_a_broker_that_is_not_there_is_an_error_that_says_where_to_look(tmp_path: Path) -> None:
    nowhere = {"bootstrap_servers": "127.0.0.1:9", "bootstrap_timeout_ms": 500}
    with Projector(tmp_path, nowhere) as projector, pytest.raises(WarehouseError, match="KAFKA_BOOTSTRAP"):
        projector.catch_up()


def test_a_work_file_of_another_version_is_made_anew(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    write(kafka, topic, days(1, 2))
    with Projector(tmp_path, kafka, topic=topic) as projector:
        projector.catch_up()
    with duckdb.connect(str(tmp_path / "work.duckdb")) as connection:
        connection.execute("UPDATE projector.format SET digest = 'of an older version'")
        connection.execute("DROP VIEW catalogue")
    with Projector(tmp_path, kafka, topic=topic) as projector:
        assert projector.catch_up() == 2
    with Statistics(tmp_path) as statistics:
        assert statistics.names() == ["by_platform"]


def test_readers_keep_what_was_published_until_a_rebuild_is_through(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    write(kafka, topic, days(1, 2))
    with Projector(tmp_path, kafka, topic=topic) as projector:
        projector.catch_up()
    with Projector(tmp_path, kafka, topic=topic, fresh=True):
        assert windows(tmp_path) == 2

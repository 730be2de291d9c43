"""A lost disk costs minutes: the file is made anew from the log of releases, and is the one that was lost."""

import shutil
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner
from duckdb import DuckDBPyConnection
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from pipeline.cli import main
from pipeline.core.release import Release, encode_release
from pipeline.stream.topics import RELEASES
from pipeline.testing import declarations, event, record, run
from pipeline.warehouse.projector import Projector
from pipeline.warehouse.snapshots import LINK

SINCE, DAYS, FEATURES = date(2025, 1, 1), 365, 60
PLATFORMS = ("ios", "android", "web")


@pytest.fixture(scope="module")
def year() -> tuple[Release, ...]:
    """Every release of a year: each day, week and month of each statistic that ships, nothing held back."""
    show_all = declarations(delta=1.0, max_epsilon=1e9)
    events = [
        event(
            id=f"{day}-{feature}",
            subject=f"u-{feature}",
            time=f"{SINCE + timedelta(days=day)}T10:00:00Z",
            feature=f"feature-{feature}",
            platform=PLATFORMS[(day + feature) % 3],
        )
        for day in range(DAYS)
        for feature in range(FEATURES)
    ]
    records = [record(*events[at : at + 500], offset=at) for at in range(0, len(events), 500)]
    return run(show_all, records, since=SINCE, until=SINCE + timedelta(days=DAYS)).releases


@pytest.mark.timeout(300)
def test_a_year_that_was_followed_and_its_rebuild_are_the_same_but_for_the_order_of_the_file(
    kafka: dict[str, Any],
    year: tuple[Release, ...],
    tmp_path: Path,
    content: Callable[[DuckDBPyConnection], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admin = KafkaAdminClient(**kafka)
    admin.create_topics([NewTopic(RELEASES, 1, 1)])
    admin.close()
    producer = KafkaProducer(**kafka, max_request_size=16 << 20)
    quarter = -(-len(year) // 4)
    for at in range(0, len(year), quarter):  # as they came, with a projector that was started again and again
        for release in year[at : at + quarter]:
            producer.send(RELEASES, key=release.key.encode(), value=encode_release(release), partition=0)
        producer.flush()
        with Projector(tmp_path, kafka) as projector:
            projector.catch_up()
    producer.close()

    def seen() -> dict[str, Any]:
        with duckdb.connect(str((tmp_path / LINK).resolve()), read_only=True) as connection:
            return content(connection)

    live = seen()
    shutil.rmtree(tmp_path)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", str(kafka["bootstrap_servers"]))
    monkeypatch.setenv("HEADCOUNT_DATA", str(tmp_path))
    began = time.monotonic()
    result = CliRunner().invoke(main, ["rebuild"])
    seconds = time.monotonic() - began
    assert result.exit_code == 0, result.output
    assert f"{len(year):,} releases" in result.output
    assert seen() == live
    cells = sum(len(release.cells) for release in year)
    print(f"a year, {len(year):,} releases with {cells:,} cells, was rebuilt in {seconds:.1f} s")

"""Snapshots: complete or not there, and no reader waits for the writer or the writer for a reader."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest
from duckdb import DuckDBPyConnection

from pipeline.warehouse.snapshots import KEEP, LINK, clean, publish, published
from pipeline.warehouse.tables import apply
from pipeline.warehouse.work import open_work

from .conftest import build_open_release, build_release

ROOT = Path(__file__).parents[2]


def count(path: Path) -> int:
    with duckdb.connect(str(path.resolve()), read_only=True) as connection:
        [(rows,)] = connection.execute("SELECT count(*) FROM by_platform").fetchall()
        return int(rows)


def test_the_file_holds_releases_and_nothing_else(work: DuckDBPyConnection, tmp_path: Path) -> None:
    apply(work, [build_release(), build_open_release()], {0: 17})
    with duckdb.connect(str(publish(work, tmp_path)), read_only=True) as snapshot:
        found = snapshot.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE NOT internal UNION ALL "
            "SELECT schema_name || '.' || view_name FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
        ).fetchall()
        schemas = snapshot.execute("SELECT schema_name FROM duckdb_schemas() WHERE NOT internal ORDER BY 1").fetchall()
    assert [name for (name,) in found] == [
        "main.by_platform",
        "main.catalogue",
        "main.feature_use",
        "main.feature_use_total",
        "main.ledger",
        "main.noise",
        "main.policies",
        "released.by_platform",
        "released.dimension",
        "released.feature_use",
        "released.form",
        "released.measure",
        "released.release",
        "released.shown",
    ]
    assert [name for (name,) in schemas] == ["released"]  # besides main


def test_what_is_not_committed_is_not_published(work: DuckDBPyConnection, tmp_path: Path) -> None:
    apply(work, [build_release()])
    other = work.cursor()
    other.execute("BEGIN TRANSACTION")
    other.execute("DELETE FROM released.by_platform")
    assert count(publish(work, tmp_path)) == 4
    other.execute("ROLLBACK")


def test_a_snapshot_cannot_be_written_to(work: DuckDBPyConnection, tmp_path: Path) -> None:
    apply(work, [build_release()])
    snapshot = publish(work, tmp_path)
    assert snapshot.stat().st_mode & 0o777 == 0o444
    assert not list(snapshot.parent.glob("*.wal"))


def test_older_versions_of_duckdb_can_read_a_snapshot(work: DuckDBPyConnection, tmp_path: Path) -> None:
    with duckdb.connect(str(publish(work, tmp_path)), read_only=True) as snapshot:
        [(tags,)] = snapshot.execute("SELECT tags FROM duckdb_databases() WHERE NOT internal").fetchall()
    assert tags["storage_version"].startswith("v1.2")


def test_the_last_three_are_kept_and_the_link_names_the_newest(work: DuckDBPyConnection, tmp_path: Path) -> None:
    apply(work, [build_release()])
    paths = [publish(work, tmp_path) for _ in range(5)]
    assert [path for _, path in published(tmp_path)] == paths[-KEEP:]
    assert (tmp_path / LINK).resolve() == paths[-1].resolve()
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("work")) == [
        "snapshots",
        "statistics.duckdb",
    ]


def test_the_directory_can_be_moved(work: DuckDBPyConnection, tmp_path: Path) -> None:
    apply(work, [build_release()])
    publish(work, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert count(tmp_path / "there" / LINK) == 4


def test_a_work_file_can_be_published_by_its_path(tmp_path: Path) -> None:
    with open_work(tmp_path / "work.duckdb") as connection:
        apply(connection, [build_release()])
    assert count(publish(tmp_path / "work.duckdb", tmp_path)) == 4


def test_an_open_reader_goes_on_while_ten_snapshots_are_published(work: DuckDBPyConnection, tmp_path: Path) -> None:
    apply(work, [build_release()])
    first = publish(work, tmp_path)
    with duckdb.connect(str(first), read_only=True) as reader:
        for day in range(2, 12):
            apply(work, [build_release(day=f"2026-05-{day:02}")])
            publish(work, tmp_path)
            assert reader.execute("SELECT count(*) FROM by_platform").fetchall() == [(4,)]
            assert count(tmp_path / LINK) == 4 * day
        assert not first.exists()
        assert reader.execute("SELECT sum_of(users) FROM by_platform").fetchall() == [(442,)]


READER = """
import sys, time
from pipeline.warehouse.reader import Statistics
print("ready", flush=True)
queries, slowest, before = 0, 0.0, 0
while True:
    started = time.monotonic()
    with Statistics(sys.argv[1]) as statistics:
        rows = len(statistics.sql("SELECT * FROM by_platform"))
    slowest = max(slowest, time.monotonic() - started)
    assert rows % 4 == 0 and rows >= before, (rows, before)
    before, queries = rows, queries + 1
    if rows == 4 * 12:
        break
print(queries, slowest)
"""


def test_no_writer_and_no_reader_waits_for_the_other(work: DuckDBPyConnection, tmp_path: Path) -> None:
    apply(work, [build_release()])
    publish(work, tmp_path)
    readers = [
        subprocess.Popen([sys.executable, "-c", READER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
        slowest = 0.0
        for day in range(2, 13):
            apply(work, [build_release(day=f"2026-05-{day:02}")])
            started = time.monotonic()
            publish(work, tmp_path)
            slowest = max(slowest, time.monotonic() - started)
        for reader in readers:
            output, _ = reader.communicate(timeout=60)
            queries, waited = output.split()
            assert reader.returncode == 0
            assert int(queries) > 3
            assert float(waited) < 5
        assert slowest < 5
    finally:
        for reader in readers:
            reader.kill()


def test_the_link_points_to_a_complete_file_at_every_instant(work: DuckDBPyConnection, tmp_path: Path) -> None:
    apply(work, [build_release()])
    publish(work, tmp_path)
    done, failures, looks = threading.Event(), list[str](), 0

    def look() -> None:
        nonlocal looks
        while not done.is_set():
            try:
                target = os.readlink(tmp_path / LINK)
                if not re.fullmatch(r"snapshots/statistics-\d{6}\.duckdb", target):
                    failures.append(target)
                if (tmp_path / LINK).stat().st_mode & 0o777 != 0o444:
                    failures.append("not finished")
            except OSError as error:
                failures.append(repr(error))
            looks += 1

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(20):
            publish(work, tmp_path)
    finally:
        done.set()
        watcher.join()
    assert failures == []
    assert looks > 100


def test_what_a_crash_left_is_removed(work: DuckDBPyConnection, tmp_path: Path) -> None:
    apply(work, [build_release()])
    publish(work, tmp_path)
    leftovers = [
        tmp_path / "snapshots" / "statistics-000002.duckdb.partial",
        tmp_path / "snapshots" / "statistics-000002.duckdb.partial.wal",
    ]
    for path in leftovers:
        path.write_bytes(b"half a file")
        path.chmod(0o444)
    (tmp_path / "statistics.duckdb.partial").symlink_to("snapshots/statistics-000002.duckdb")
    clean(tmp_path)
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["statistics-000001.duckdb"]
    assert not (tmp_path / "statistics.duckdb.partial").is_symlink()
    assert count(tmp_path / LINK) == 4


def test_publishing_goes_on_where_a_crash_left_things(work: DuckDBPyConnection, tmp_path: Path) -> None:
    apply(work, [build_release()])
    publish(work, tmp_path)
    (tmp_path / "snapshots" / "statistics-000002.duckdb.partial").write_bytes(b"half a file")
    (tmp_path / "statistics.duckdb.partial").symlink_to("snapshots/nowhere")
    assert count(publish(work, tmp_path)) == 4
    assert count(tmp_path / LINK) == 4


WRITER = """
import sys
from pathlib import Path
from pipeline.warehouse.snapshots import publish
from pipeline.warehouse.work import open_work
directory = Path(sys.argv[1])
connection = open_work(directory / "work.duckdb")
print("ready", flush=True)
while True:
    publish(connection, directory)
"""


@pytest.mark.parametrize("milliseconds", [3, 11, 23, 38, 57])
def test_a_writer_that_is_killed_leaves_a_readable_file(
    tmp_path: Path, work: DuckDBPyConnection, milliseconds: int
) -> None:
    apply(work, [build_release()])
    publish(work, tmp_path)
    work.close()
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    time.sleep(milliseconds / 1000)  # the point is to hit it anywhere
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert count(tmp_path / LINK) == 4
    assert count(publish(tmp_path / "work.duckdb", tmp_path)) == 4
    assert not list(tmp_path.rglob("*.partial*"))

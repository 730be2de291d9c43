"""The next snapshot is an older one with what came since: at the price of what is new, and never under a reader."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pytest
from duckdb import DuckDBPyConnection
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.release import Release
from pipeline.warehouse.errors import UnusableReleaseError
from pipeline.warehouse.making import KEEP, is_unread
from pipeline.warehouse.snapshots import LINK, publish, published
from pipeline.warehouse.tables import apply
from pipeline.warehouse.work import open_work

from .conftest import build_release, dimension
from .test_tables import HISTORY

ROOT = Path(__file__).parents[2]
Content = Callable[[DuckDBPyConnection], dict[str, Any]]


def day(number: int, **more: Any) -> Release:
    return build_release(day=f"2026-05-{number:02}", **more)


def publish_days(work: DuckDBPyConnection, directory: Path, *numbers: int) -> list[int]:
    """One after the other; gives the file (inode) that each became."""
    files = []
    for number in numbers:
        apply(work, [day(number)])
        files.append(publish(work, directory).stat().st_ino)
    return files


@pytest.fixture(scope="module")
def seen(content: Content) -> Content:
    """What an analyst could see in a file, but for the texts of views: older formats spell them otherwise."""

    def read(connection: DuckDBPyConnection) -> dict[str, Any]:
        return {name: what for name, what in content(connection).items() if name != "views"}

    return read


def read(path: Path, seen: Content) -> dict[str, Any]:
    with duckdb.connect(str(path.resolve()), read_only=True) as connection:
        return seen(connection)


def test_the_oldest_of_those_that_are_kept_takes_its_turn(
    work: DuckDBPyConnection, tmp_path: Path, seen: Content
) -> None:
    files = publish_days(work, tmp_path, *range(1, 3 * KEEP + 1))
    assert len(set(files)) == KEEP
    assert files[KEEP:] == files[:-KEEP]
    assert read(tmp_path / LINK, seen) == seen(work)
    with duckdb.connect(str((tmp_path / LINK).resolve()), read_only=True) as reader:
        rows = reader.execute("SELECT start, platform FROM released.by_platform").fetchall()
    assert rows == work.execute("SELECT start, platform FROM released.by_platform").fetchall()  # in their order, too


def test_a_file_does_not_grow_by_being_written_to_again(work: DuckDBPyConnection, tmp_path: Path) -> None:
    publish_days(work, tmp_path, *range(1, 3 * KEEP))
    before = (tmp_path / LINK).stat().st_size
    for _ in range(5 * KEEP):
        publish(work, tmp_path)
    assert (tmp_path / LINK).stat().st_size < 2 * before


def test_a_file_that_this_process_reads_is_not_written_to(work: DuckDBPyConnection, tmp_path: Path) -> None:
    [first] = publish_days(work, tmp_path, 1)
    with duckdb.connect(str((tmp_path / LINK).resolve()), read_only=True) as reader:
        assert reader.execute("SELECT count(*) FROM by_platform").fetchall() == [(4,)]
        assert first not in publish_days(work, tmp_path, *range(2, 4 * KEEP))
        assert reader.execute("SELECT count(*), sum_of(users) FROM by_platform").fetchall() == [(4, 442)]


def test_whether_a_file_is_read_is_known_within_a_process_too(work: DuckDBPyConnection, tmp_path: Path) -> None:
    publish_days(work, tmp_path, 1)
    path = (tmp_path / LINK).resolve()
    with duckdb.connect(str(path), read_only=True):
        assert not is_unread(path)
    assert is_unread(path)


READER = """
import duckdb, sys
reader = duckdb.connect(sys.argv[1], read_only=True)
print("ready", flush=True)
sys.stdin.readline()
print(reader.execute("SELECT count(*) FROM by_platform").fetchall()[0][0])
"""


def test_a_file_that_another_process_reads_is_not_written_to(work: DuckDBPyConnection, tmp_path: Path) -> None:
    [first] = publish_days(work, tmp_path, 1)
    path = str((tmp_path / LINK).resolve())
    command = [sys.executable, "-c", READER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        assert first not in publish_days(work, tmp_path, *range(2, 4 * KEEP))
        assert reader.communicate("go on\n", timeout=30)[0] == "4\n"


def test_a_file_with_another_name_is_not_written_to(work: DuckDBPyConnection, tmp_path: Path) -> None:
    publish_days(work, tmp_path, 1)
    kept = tmp_path / "kept.duckdb"
    os.link((tmp_path / LINK).resolve(), kept)
    before = sha256(kept.read_bytes()).digest()
    publish_days(work, tmp_path, *range(2, 4 * KEEP))
    assert sha256(kept.read_bytes()).digest() == before


def test_snapshots_of_another_work_file_are_not_gone_on_with(
    work: DuckDBPyConnection, tmp_path: Path, seen: Content
) -> None:
    files = publish_days(work, tmp_path, 1, 2, 3)
    with open_work(tmp_path / "new.duckdb") as other:
        files += publish_days(other, tmp_path, 3)
        assert len(set(files)) == 4
        apply(other, [day(2), day(1)])
        publish(other, tmp_path)
        assert read(tmp_path / LINK, seen) == seen(work)


def test_a_table_of_another_shape_is_written_anew_and_then_gone_on_with(
    work: DuckDBPyConnection, tmp_path: Path, seen: Content
) -> None:
    publish_days(work, tmp_path, *range(1, KEEP + 1))
    more = dimension("platform", "ios", "tv", "android", "web", "other")
    for number in range(10, 10 + 2 * KEEP):
        apply(work, [day(number, dimensions=[more])])
        publish(work, tmp_path)
        assert read(tmp_path / LINK, seen) == seen(work)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_what_is_published_bit_by_bit_is_what_is_published_at_once(data: st.DataObject, seen: Content) -> None:
    order = data.draw(st.permutations(HISTORY))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(order) - 1), min_size=3, max_size=9)))
    refused = data.draw(st.sets(st.integers(0, 9)))
    with TemporaryDirectory() as temporary, open_work(Path(":memory:")) as at_once:
        directory = Path(temporary)
        with open_work(directory / "work.duckdb") as work:
            for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(order)], strict=True)):
                if number in refused:  # what is rolled back leaves no gap
                    with pytest.raises(UnusableReleaseError):
                        apply(work, [day(28), day(29, cells=[("amiga",)], values=[[1], [1]])])
                apply(work, order[start:end])
                publish(work, directory)
        apply(at_once, order)
        assert read(directory / LINK, seen) == seen(at_once)


WRITER = """
import sys
from pathlib import Path
from pipeline.warehouse.snapshots import publish
from pipeline.warehouse.tables import apply
from pipeline.warehouse.work import open_work
from tests.warehouse.conftest import build_release
directory = Path(sys.argv[1])
connection = open_work(directory / "work.duckdb")
print("ready", flush=True)
for number in range(1000):
    day = f"20{number // 28 // 12 + 10:02}-{number // 28 % 12 + 1:02}-{number % 28 + 1:02}"
    apply(connection, [build_release(day=day)], {0: number + 1})
    publish(connection, directory)
"""


@pytest.mark.parametrize("milliseconds", [150, 290, 430, 610])
def test_a_crash_in_the_middle_of_a_publication_loses_nothing(tmp_path: Path, seen: Content, milliseconds: int) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(milliseconds / 1000)  # the point is to hit it anywhere
        writer.send_signal(signal.SIGKILL)
    with open_work(tmp_path / "work.duckdb") as work:
        for _ in range(2 * KEEP):
            publish(work, tmp_path)
            assert read(tmp_path / LINK, seen) == seen(work)
        [(releases,)] = work.execute("SELECT count(*) FROM released.release").fetchall()
        assert work.execute("SELECT next_offset FROM projector.position").fetchall() in ([(releases,)], [])
    assert len(published(tmp_path)) == KEEP
    assert not list(tmp_path.rglob("*.partial*"))

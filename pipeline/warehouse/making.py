"""The file of the next snapshot: an older one with what came since, so that it costs what is new and not what is old.

Of the snapshots that are kept the oldest takes its turn, if nobody reads it: it loses its name, so that nobody comes to
it any more, and gets the rows that it lacks. While it is read, a copy of the newest takes its place. Where a table has
another shape than it had, or the work file is another, everything is written anew.
"""

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from pipeline.warehouse.views import literal, quoted

KEEP = 3  # snapshots: one that is read, one that may just be opened, and one to write the next in

_CHANGING = ("dimension", "form", "shown")  # rows of all other tables stay as they are, and in their order


def make(work: DuckDBPyConnection, known: Sequence[tuple[int, Path]], path: Path) -> None:
    """Write what is committed in the work file to ``path``; nothing of it is in DuckDB's log beside the file.

    ``known``: the snapshots that are kept, oldest first, with their numbers. One that gave up its place is gone.
    """
    alike = {number for (number,) in work.execute("SELECT number FROM projector.snapshot").fetchall()}
    if len(known) >= KEEP and known[0][0] in alike:
        known[0][1].rename(path)
        if is_unread(path) and _advance(work, path):
            return
        path.unlink()
    if known and known[-1][0] in alike and _duplicate(known[-1][1], path):
        if _advance(work, path):
            return
        path.unlink()
    _copy(work, path)


def is_unread(path: Path) -> bool:
    """Whether nobody has the file open in DuckDB, this process included, and it has no other name.

    DuckDB locks the files that it opens, other processes out. Within one process only a lock of the open file, as
    Linux has it, meets its lock; where there is none, nobody can say, and the answer is no.
    """
    if path.stat().st_nlink > 1 or not hasattr(fcntl, "F_OFD_SETLK"):
        return False
    path.chmod(0o644)
    descriptor = os.open(path, os.O_RDWR)
    try:
        # struct flock: kind, from where, start, length (0: all), process
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _duplicate(path: Path, to: Path) -> bool:
    # In a process of its own: whoever closes a file that he also has open in DuckDB loses DuckDB's lock on it.
    done = subprocess.run(["/bin/cp", path, to], check=False, capture_output=True).returncode == 0
    if done:
        to.chmod(0o644)
    else:
        to.unlink(missing_ok=True)
    return done


def _advance(work: DuckDBPyConnection, path: Path) -> bool:
    """Append what the file lacks; false when somebody opened it meanwhile."""
    try:
        with _attached(work, path) as here:
            work.execute("BEGIN TRANSACTION")
            try:
                for statement in _rows_since(work, here):
                    work.execute(statement).fetchall()
            except BaseException:
                work.execute("ROLLBACK")
                raise
            work.execute("COMMIT")
            work.execute("CHECKPOINT snapshot").fetchall()
    except duckdb.IOException as error:
        if "lock" in str(error).lower():
            return False
        raise
    return True


def _rows_since(work: DuckDBPyConnection, here: str) -> Iterator[str]:
    """What brings the attached snapshot up to the work file, which is called ``here``."""
    query = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'snapshot' AND schema_name = 'released'"
    tables = [name for (name,) in work.execute(query).fetchall() if name not in _CHANGING]
    counts = " UNION ALL ".join(f"SELECT count(*) FROM snapshot.released.{quoted(name)}" for name in tables)
    since = dict(zip(tables, (rows for (rows,) in work.execute(counts).fetchall()), strict=True))
    for name, rows in since.items():
        table = f"released.{quoted(name)}"
        yield f"INSERT INTO snapshot.{table} SELECT * FROM {here}.{table} WHERE rowid >= {rows}"
    new = f"SELECT statistic, period, start FROM {here}.released.release WHERE rowid >= {since['release']}"
    yield f"DELETE FROM snapshot.released.shown WHERE (statistic, period, start) IN ({new})"
    yield (
        f"INSERT INTO snapshot.released.shown SELECT * FROM {here}.released.shown "
        f"WHERE (statistic, period, start) IN ({new}) ORDER BY rowid"
    )
    for name in ("dimension", "form"):
        yield f"DELETE FROM snapshot.released.{name}"
        yield f"INSERT INTO snapshot.released.{name} FROM {here}.released.{name}"


def _copy(work: DuckDBPyConnection, path: Path) -> None:
    with _attached(work, path) as here:
        work.execute(f"COPY FROM DATABASE {here} TO snapshot").fetchall()
        work.execute("DROP SCHEMA snapshot.projector CASCADE").fetchall()
        work.execute("CHECKPOINT snapshot").fetchall()


@contextmanager
def _attached(work: DuckDBPyConnection, path: Path) -> Iterator[str]:
    """The file is there as ``snapshot`` for as long as the block lasts; gives the name of the work file."""
    [(name,)] = work.execute("SELECT current_database()").fetchall()
    work.execute(f"ATTACH {literal(str(path))} AS snapshot (STORAGE_VERSION 'v1.2.0')")
    try:
        yield quoted(name)
    finally:
        work.execute("DETACH snapshot")

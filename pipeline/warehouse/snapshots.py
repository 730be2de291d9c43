"""Immutable files for readers: a snapshot has no name before it is complete, and the link always has one."""

import os
import re
from pathlib import Path

from duckdb import DuckDBPyConnection

from pipeline.warehouse.making import KEEP, make
from pipeline.warehouse.work import open_work

LINK = "statistics.duckdb"

_SNAPSHOT = re.compile(r"statistics-(\d+)\.duckdb")
_PARTIAL = ".partial"  # what carries this suffix has no reader and may be deleted at any time


def publish(work: DuckDBPyConnection | Path, directory: Path) -> Path:
    """Publish what is committed in the work file as ``DIR/snapshots/statistics-<number>.duckdb``.

    Returns its path. The last three are kept, and none is changed while it has its name; readers keep the one they
    have open, even when it is gone. A crash leaves the link on the snapshot before, and rubbish for :func:`clean`. One
    process at a time.
    """
    if isinstance(work, Path):
        with open_work(work) as connection:
            return publish(connection, directory)
    folder = directory / "snapshots"
    folder.mkdir(parents=True, exist_ok=True)
    clean(directory)
    known = published(directory)
    number = (known[-1][0] if known else 0) + 1
    snapshot = folder / f"statistics-{number:06d}.duckdb"
    partial = folder / (snapshot.name + _PARTIAL)
    make(work, known[-KEEP:], partial)
    partial.chmod(0o444)
    _sync(partial)
    partial.rename(snapshot)
    _sync(folder)
    # The link is never absent: a new one takes its place. It is relative, so that the directory can be moved.
    link = directory / (LINK + _PARTIAL)
    link.symlink_to(snapshot.relative_to(directory))
    link.replace(directory / LINK)
    _sync(directory)
    work.execute("INSERT INTO projector.snapshot VALUES (?)", [number])
    for _, path in published(directory)[:-KEEP]:
        path.unlink()
    return snapshot


def published(directory: Path) -> list[tuple[int, Path]]:
    """The snapshots in a directory, oldest first, with their numbers."""
    found = ((_SNAPSHOT.fullmatch(path.name), path) for path in (directory / "snapshots").glob("statistics-*"))
    return sorted((int(match[1]), path) for match, path in found if match)


def clean(directory: Path) -> None:
    """Remove what a crash in the middle of a publication left."""
    for folder in (directory, directory / "snapshots"):
        for path in folder.glob(f"statistics*{_PARTIAL}*"):
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file or a directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""A7: all that an analyst can see beside the numbers: two runs that differ in one subject.

The releases of each pair are compared in everything but their noisy values; then both are folded into files with
every value masked by 0, and the files compared in everything: names, modes, sizes, tables, types, comments, SQL of
views, enumerations, order of rows, row counts, statistics that DuckDB keeps of columns. Masked, since values are
compressed: a file's size may follow from its values, as anything may that is worked out from what was released (post-
processing), and gives nothing more away. Of the real replays no value is masked: there sizes are left out, and
numbers; the rest is compared as it is.

Open cells are by noise alone shown or not (A3); the worlds here keep them far from the threshold, so that they must
agree.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import msgspec

from pipeline.audit.findings import Finding, Report, at_most
from pipeline.audit.worlds import line, records
from pipeline.core.release import Release, encode_release
from pipeline.noise import OpenDPNoise
from pipeline.replay import replay
from pipeline.settings import Settings
from pipeline.testing import declarations
from pipeline.testing import run as count
from pipeline.warehouse.snapshots import publish
from pipeline.warehouse.tables import apply
from pipeline.warehouse.work import open_work

SINCE, UNTIL = date(2026, 4, 30), date(2026, 5, 2)
OTHERS = 450  # far over every threshold, in each cell that they are in
REAL = 20  # pairs from which on one is replayed through broker, workers and projector


def run(n: int, _: int, report: Report) -> Iterator[Finding]:
    """``n`` pairs through the core and the warehouse; one through the whole stack where there are enough."""
    differ = files = 0
    declared = declarations()
    for pair in range(n):
        seen = []
        for lines in neighbours(pair):
            result = count(declared, records(lines), noise=OpenDPNoise(), since=SINCE, until=UNTIL)
            seen.append([masked(release) for release in result.releases])
        differ += [encode_release(r) for r in seen[0]] != [encode_release(r) for r in seen[1]]
        if pair % 4 == 0:
            files += folded(seen[0]) != folded(seen[1])
        report(pair + 1, n)
    yield at_most("A7 views: releases", "pairs whose releases differ in anything but numbers", n, differ, 0)
    yield at_most("A7 views: files", "pairs whose files of masked releases differ in anything", (n + 3) // 4, files, 0)
    if n >= REAL:
        one, other = (replayed(lines) for lines in neighbours(0))
        parts = sum(one[name] != other[name] for name in one.keys() | other.keys())
        tried = "things beside the numbers that differ between two replays through the whole stack"
        yield at_most("A7 views: replays", tried, len(one), parts, 0)


def neighbours(pair: int) -> tuple[list[bytes], list[bytes]]:
    """Everybody, and everybody but one, who is alone on a platform, with a feature and a version and as often."""
    days = ("2026-04-30", "2026-05-01")
    others = [
        line(
            f"u-{i}",
            f"{day}T10:00:00Z",
            f"{day}/{i}",
            feature="search",
            platform="web",
            app_version="1.0",
            duration_ms=5,
        )
        for day in days
        for i in range(OTHERS)
    ]
    place = ("ios", "android", "windows", "macos", "linux", "no platform")[pair % 6]
    times = (1, 3, 20, 60)[pair % 4]
    mine = [
        line(
            "target",
            f"{days[1]}T11:00:00Z",
            f"t/{i}",
            feature="search" if pair % 3 else f"own.{'abcdefgh'[i % 8]}",
            platform=place,
            app_version=f"9.{pair}",
            duration_ms=1_000_000,
        )
        for i in range(times)
    ]
    half = len(others) // 2
    return others[:half] + mine + others[half:], others


def masked(release: Release) -> Release:
    """The release with 0 for every number that noise is in."""
    return msgspec.structs.replace(
        release,
        values=[[0] * len(column) for column in release.values],
        total=None if release.total is None else [0] * len(release.total),
    )


def folded(releases: Sequence[Release]) -> dict[str, Any]:
    """All that can be seen of the directory that these releases make."""
    with TemporaryDirectory(prefix="headcount-audit-") as name:
        directory = Path(name)
        with open_work(directory / "work.duckdb") as work:
            apply(work, releases, {0: len(releases)})
            publish(work, directory)
        return visible(directory, numbers=True)


def replayed(lines: list[bytes]) -> dict[str, Any]:
    """All that can be seen of a replay of these events through the whole stack, numbers and sizes apart."""
    with TemporaryDirectory(prefix="headcount-audit-") as name:
        directory = Path(name)
        events = directory / "events.ndjson"
        events.write_bytes(b"\n".join(lines) + b"\n")
        settings = Settings(since=SINCE.isoformat(), until=UNTIL.isoformat())
        replay([events], directory / "out", settings)
        return visible(directory / "out", numbers=False)


def visible(directory: Path, *, numbers: bool) -> dict[str, Any]:
    """By name, what an analyst can read of a directory: its files, and everything in the newest snapshot."""
    # work.duckdb and the workers' logs are the operators'.
    paths = sorted(p for p in directory.rglob("statistics*") if p.is_file())
    seen: dict[str, Any] = {
        f"file {path.relative_to(directory)}": (oct(path.stat().st_mode), path.stat().st_size if numbers else None)
        for path in paths
    }
    with duckdb.connect(str(directory / "statistics.duckdb"), read_only=True) as connection:
        for name, query in CATALOGUE.items():
            seen[name] = connection.execute(query).fetchall()
        tables = connection.execute("SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal").fetchall()
        for schema, table in tables:
            columns = connection.execute(
                "SELECT column_name FROM duckdb_columns() WHERE schema_name = ? AND table_name = ? ORDER BY ALL",
                [schema, table],
            ).fetchall()
            plain = [f'"{c}"' for (c,) in columns if numbers or c not in NOISY]
            seen[f"rows of {schema}.{table}"] = connection.execute(
                f'SELECT {", ".join(plain)} FROM "{schema}"."{table}"'
            ).fetchall()
            if numbers:
                stored = f"SELECT * EXCLUDE (block_id, block_offset) FROM pragma_storage_info('{schema}.{table}')"
                seen[f"storage of {schema}.{table}"] = connection.execute(stored).fetchall()
    return seen


# Noisy numbers, and what follows from them alone.
NOISY = frozenset({"users", "events", "total", "digest", "cells_sum"}) | {
    f"{measure}_{of}" for measure in ("users", "events") for of in ("sum", "total")
}
CATALOGUE = {
    "tables": "SELECT schema_name, table_name, comment, sql, estimated_size FROM duckdb_tables() WHERE NOT internal",
    "columns": (
        "SELECT schema_name, table_name, column_name, data_type, comment FROM duckdb_columns() WHERE NOT internal"
    ),
    "views": "SELECT schema_name, view_name, comment, sql FROM duckdb_views() WHERE NOT internal",
    "types": "SELECT type_name, labels, comment FROM duckdb_types() WHERE NOT internal",
    "macros": "SELECT function_name, parameters, comment, macro_definition FROM duckdb_functions() WHERE NOT internal",
}

"""``python -m tests.bench.serving``: one more day published into years of releases, and the queries of a dashboard.

The releases are made up (`tests.bench.years`) and go through the projector's fold and publication; the log and the
broker are not in it (`tests.bench.latency` has them). Beside each figure stands what DuckDB takes for the bare work.
"""

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
import duckdb
from duckdb import DuckDBPyConnection

from pipeline.core.release import Release
from pipeline.core.windows import Window, date_of
from pipeline.warehouse.snapshots import LINK, publish
from pipeline.warehouse.tables import apply
from pipeline.warehouse.work import open_work
from tests.bench.common import peak_rss_mb
from tests.bench.running import ROOT
from tests.bench.years import after, cells_of, releases_of, windows_from

CELLS = 10_000_000
FEW = 50_000
DAYS = 21  # published one by one and measured
WARM = 4  # published before: until every snapshot is one that took its turn
RUNS = 50
BATCH = 200_000  # cells folded in one transaction while the file is made

BOUNDS = "sum_of(events) AS events, sum_lower(events, events_variance) AS low, sum_upper(events, events_variance) AS up"
QUERIES = {
    "90 days of events by platform": f"""
        SELECT start, platform, {BOUNDS} FROM feature_use
        WHERE period = 'day' AND start >= DATE '{{last}}' - 90 GROUP BY ALL ORDER BY ALL""",
    "90 days of users by version": """
        SELECT start, app_version, users, users_lower, users_upper FROM active_users_by_app_version
        WHERE period = 'day' AND start >= DATE '{last}' - 90 ORDER BY ALL""",
    "top 20 of a month": """
        SELECT feature, platform, users, users_lower, users_upper, users_grade FROM feature_use
        WHERE period = 'month' AND start = date_trunc('month', DATE '{last}' - 45) ORDER BY users DESC LIMIT 20""",
    "a year of daily users": """
        SELECT start, users, users_lower, users_upper FROM active_users
        WHERE period = 'day' AND start >= DATE '{last}' - 365 ORDER BY start""",
    "90 days of totals and what is held back": """
        SELECT start, cells, events, events_held_back, events_held_back_lower FROM feature_use_total
        WHERE period = 'day' AND start >= DATE '{last}' - 90 ORDER BY start""",
}
# The same answers without bounds from tables that hold nothing else, sorted for it.
BARE = {
    "90 days of events by platform": "SELECT start, platform, sum(events) FROM feature_use "
    "WHERE period = 'day' AND start >= DATE '{last}' - 90 GROUP BY ALL ORDER BY ALL",
    "90 days of users by version": "SELECT start, app_version, users FROM active_users_by_app_version "
    "WHERE period = 'day' AND start >= DATE '{last}' - 90 ORDER BY ALL",
    "top 20 of a month": "SELECT feature, platform, users FROM feature_use WHERE period = 'month' "
    "AND start = date_trunc('month', DATE '{last}' - 45) ORDER BY users DESC LIMIT 20",
    "a year of daily users": "SELECT start, users FROM active_users "
    "WHERE period = 'day' AND start >= DATE '{last}' - 365 ORDER BY start",
}

Row = dict[str, object]


def build(directory: Path, cells: int) -> tuple[DuckDBPyConnection, Window]:
    """A work file with so many cells; gives the window that closed last."""
    directory.mkdir(parents=True)
    work = open_work(directory / "work.duckdb")
    work.execute("SET enable_progress_bar = false")
    folded, batch = 0, list[Release]()
    with click.progressbar(length=cells, label=f"{cells:,} cells", file=sys.stderr) as bar:
        for window in windows_from():
            batch += releases_of(window)
            new = cells_of(batch)
            if new >= BATCH or folded + new >= cells:
                apply(work, batch)
                bar.update(new)
                folded, batch = folded + new, []
            if folded >= cells:
                break
    return work, window


class Times:
    """Seconds of each of several runs, and CPU seconds of them all."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.cpu = 0.0

    def take(self, run: Callable[[], object]) -> None:
        cpu, began = time.process_time(), time.perf_counter()
        run()
        self.seconds.append(time.perf_counter() - began)
        self.cpu += time.process_time() - cpu

    def at(self, share: float) -> float:
        """In milliseconds: the least that so large a share of the runs does not exceed."""
        return 1e3 * sorted(self.seconds)[max(0, -(-int(share * 1000) * len(self.seconds) // 1000) - 1)]

    @property
    def median(self) -> float:
        return 1e3 * statistics.median(self.seconds)


def publish_days(work: DuckDBPyConnection, directory: Path, last: Window) -> tuple[Times, int]:
    """One day after the other, folded and published; gives the times and the cells of all of them."""
    times, cells = Times(), 0
    days = (window for window in after(last) if window.kind == "day")
    for number, window in enumerate(islice(days, WARM + DAYS)):
        releases = releases_of(window)

        def run(releases: list[Release] = releases) -> None:
            apply(work, releases, {0: 1})
            publish(work, directory)

        if number < WARM:
            run()
        else:
            times.take(run)
            cells += cells_of(releases)
    return times, cells


def insert_days(directory: Path, last: Window) -> Times:
    """The ceiling: as many rows as the days have, inserted into one bare table, each day written."""
    times = Times()
    with duckdb.connect(str(directory / "bare.duckdb")) as bare:
        bare.execute("CREATE TABLE cells (start DATE, feature VARCHAR, platform VARCHAR, users BIGINT, events BIGINT)")
        for window in islice((window for window in after(last) if window.kind == "day"), DAYS):
            releases = releases_of(window)
            rows = cells_of(releases)
            bare.execute(
                "CREATE OR REPLACE TEMP TABLE new AS SELECT DATE '2026-01-01' AS start, 'feature-' || i % 900 "
                f"AS feature, 'web' AS platform, i AS users, 3 * i AS events FROM range({rows}) AS t(i)"
            )
            times.take(lambda: (bare.execute("INSERT INTO cells FROM new"), bare.execute("CHECKPOINT")))
    return times


def ask(path: Path, queries: dict[str, str], last: Window) -> Iterator[tuple[str, Times, Times]]:
    """Each query on a fresh connection every time (opening included), and on one that stays open."""

    def answer(connection: DuckDBPyConnection, query: str) -> int:
        return len(connection.execute(query).fetchall())

    def anew(query: str) -> None:
        with duckdb.connect(str(path), read_only=True) as connection:
            answer(connection, query)

    for name, text in queries.items():
        query, fresh, warm = text.format(last=date_of(last.end)), Times(), Times()
        for _ in range(RUNS):
            fresh.take(lambda query=query: anew(query))  # type: ignore[misc]
        with duckdb.connect(str(path), read_only=True) as connection:
            if not answer(connection, query):
                raise SystemExit(f"{name}: no rows")
            for _ in range(RUNS):
                warm.take(lambda query=query, connection=connection: answer(connection, query))  # type: ignore[misc]
        yield name, fresh, warm


def bare_tables(published: Path, path: Path) -> None:
    """What the queries need and no more, sorted by window."""
    with duckdb.connect(str(path)) as bare:
        bare.execute(f"ATTACH '{published}' AS s (READ_ONLY)")
        for name in ("feature_use", "active_users_by_app_version", "active_users"):
            bare.execute(
                f"CREATE TABLE {name} AS SELECT * EXCLUDE (release) FROM s.released.{name} ORDER BY period, start"
            )


def measure(cells: int = CELLS) -> tuple[str, list[Row]]:
    """A section of RESULTS.md, and rows for var/bench.json."""
    directory = ROOT / "var" / "bench" / "serving"
    shutil.rmtree(directory, ignore_errors=True)
    work, last = build(directory / "years", cells)
    small, early = build(directory / "days", FEW)
    with work, small:
        began = time.perf_counter()
        publish(work, directory / "years")
        anew = time.perf_counter() - began
        publish(small, directory / "days")
        years, rows = publish_days(work, directory / "years", last)
        days, _ = publish_days(small, directory / "days", early)
    inserted = insert_days(directory, last)
    published = (directory / "years" / LINK).resolve()
    bare_tables(published, directory / "sorted.duckdb")
    bare = {name: (fresh, warm) for name, fresh, warm in ask(directory / "sorted.duckdb", BARE, last)}
    lines = [
        "## Serving",
        "",
        f"`python -m tests.bench.serving`: {cells:,} cells in a file ({published.stat().st_size >> 20} MiB), and",
        f"{DAYS} days more, {rows // DAYS:,} cells each in six statistics, folded and published for readers. In ms.",
        "",
        "| publishing one day | median | worst | CPU |",
        "|---|---|---|---|",
        f"| into {cells:,} cells | {years.median:.0f} | {years.at(1):.0f} | {1e3 * years.cpu / DAYS:.0f} |",
        f"| into {FEW:,} cells | {days.median:.0f} | {days.at(1):.0f} | {1e3 * days.cpu / DAYS:.0f} |",
        f"| ratio | {years.median / days.median:.2f} | {years.at(1) / days.at(1):.2f} | {years.cpu / days.cpu:.2f} |",
        (
            f"| the ceiling: as many rows into a bare table | {inserted.median:.0f} | {inserted.at(1):.0f} "
            f"| {1e3 * inserted.cpu / DAYS:.0f} |"
        ),
        "",
        f"Writing the whole file anew, as when a table has changed its shape: {anew:.1f} s.",
        "",
        f"Queries, {RUNS} runs each; fresh includes opening the file. Ceiling: no bounds, from sorted tables.",
        "",
        "| query | fresh p50 | fresh p95 | warm p50 | warm p95 | ceiling, warm p50 | p95 |",
        "|---|---|---|---|---|---|---|",
    ]
    results: list[Row] = [_row("headcount, publishes a day into ten million cells", years, rows, inserted, 1.0)]
    for name, fresh, warm in ask(published, QUERIES, last):
        figures: list[Any] = [fresh.median, fresh.at(0.95), warm.median, warm.at(0.95)]
        if name in bare:
            figures += [bare[name][1].median, bare[name][1].at(0.95)]
        lines.append(f"| {name} | {' | '.join(f'{figure:.1f}' for figure in figures)} |" + " |" * (6 - len(figures)))
        results.append(_row(f"headcount, {name}", warm, RUNS, bare.get(name, (None, None))[1], 0.95))
    shutil.rmtree(directory)
    return "\n".join([*lines, ""]), results


def _row(name: str, times: Times, things: int, ceiling: Times | None, share: float) -> Row:
    """``events_per_s``: cells, or queries; ``ratio``: the ceiling's median time over ours."""
    return {
        "name": name,
        "events_per_s": round(things / sum(times.seconds)),
        "ratio": None if ceiling is None else round(ceiling.median / times.median, 3),
        "cpu_s_per_million": round(1e6 * times.cpu / things, 2),
        "peak_rss_mb": round(peak_rss_mb()),
        "p95_ms" if share < 1 else "worst_ms": round(times.at(share), 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving", description=__doc__)
    parser.add_argument("--cells", type=int, default=CELLS)
    print(measure(parser.parse_args().cells)[0])

"""Hundreds of thousands of real events against an independent count in plain SQL: every cell, and all bounds."""

import random
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from pipeline.replay import Summary, replay
from pipeline.settings import SCHEMAS, Settings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

DAILY = """
version = "reviews"
[statistics.feature_use]
description = "Users and events by feature."
dimensions = ["feature"]
measures = ["users", "events"]
windows = ["day"]
max_cells = 3
max_events = 5
"""


def truth(connection: duckdb.DuckDBPyConnection, reviews: Path) -> None:
    connection.execute(
        "CREATE VIEW truth AS SELECT date_trunc('day', date)::DATE AS day, 'vendor' || vendorId AS feature, "
        f"reviewerId AS who FROM read_csv('{reviews}')"
    )


def replay_exactly(reviews: Path, mapping: Path, directory: Path, workers: int) -> Summary:
    statistics = directory / "statistics.toml"
    directory.mkdir()
    statistics.write_text(DAILY)
    settings = replace(Settings(), policy=SCHEMAS / "exact.toml", statistics=statistics)
    return replay([reviews], directory, settings, workers=workers, mapping=mapping)


def assert_every_cell_is_exact(reviews: Path, directory: Path) -> None:
    with duckdb.connect() as connection:
        truth(connection, reviews)
        connection.execute(f"ATTACH '{directory / 'statistics.duckdb'}' AS s (READ_ONLY)")
        cells, wrong = connection.execute(
            "SELECT count(*), count(*) FILTER (t.users IS DISTINCT FROM r.users OR t.events IS DISTINCT FROM r.events) "
            "FROM (SELECT day, feature, count(DISTINCT who) AS users, count(*) AS events FROM truth GROUP BY ALL) t "
            "FULL JOIN s.feature_use r ON t.day = r.start AND t.feature = r.feature"
        ).fetchall()[0]
    assert cells > 5_000
    assert wrong == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_every_cell_of_day_and_feature_equals_plain_sql(
    reviews: Path, mapping: Path, tmp_path: Path, workers: int
) -> None:
    summary = replay_exactly(reviews, mapping, tmp_path / "out", workers)
    assert summary.balanced
    assert summary.rejected == {}
    assert not summary.protects
    assert_every_cell_is_exact(reviews, tmp_path / "out")


def test_shuffled_with_duplicates_and_two_workers_every_cell_is_the_same(
    reviews: Path, mapping: Path, tmp_path: Path
) -> None:
    header, *rows = reviews.read_text().splitlines()
    numbered = [f"{number},{row}" for number, row in enumerate(rows)]
    source = random.Random(11)
    again = source.sample(numbered, len(numbered) // 20)
    mixed = numbered + again
    source.shuffle(mixed)
    path = tmp_path / "shuffled.csv"
    path.write_text("\n".join([f"number,{header}", *mixed, ""]))
    by_number = tmp_path / "map.toml"
    by_number.write_text(mapping.read_text().replace('id = "row"', 'id = "number"'))

    summary = replay_exactly(path, by_number, tmp_path / "two", workers=2)

    assert summary.balanced
    assert summary.rejected == {"duplicate": len(again)}
    assert_every_cell_is_exact(reviews, tmp_path / "two")


def test_under_the_shipped_policy_95_percent_bounds_hold_the_truth_19_times_in_20(
    reviews: Path, mapping: Path, tmp_path: Path
) -> None:
    summary = replay([reviews], tmp_path, Settings(), mapping=mapping)
    assert summary.balanced
    assert summary.protects
    with duckdb.connect() as connection:
        truth(connection, reviews)
        connection.execute(f"ATTACH '{tmp_path / 'statistics.duckdb'}' AS s (READ_ONLY)")
        connection.execute(
            "CREATE VIEW days AS SELECT 'day' AS period, day AS start, * FROM truth UNION ALL "
            "SELECT 'week', date_trunc('week', day)::DATE, * FROM truth UNION ALL "
            "SELECT 'month', date_trunc('month', day)::DATE, * FROM truth"
        )
        # Declared cells and totals whose exact count is what the statistic counts: nobody was cut by a bound in them.
        connection.execute(
            """
            CREATE TABLE compared AS
            WITH users AS (SELECT period, start, who, count(*) AS n FROM days GROUP BY ALL),
            extent AS (SELECT period, start, count(*) AS n FROM users GROUP BY ALL),
            bucketed AS (
                SELECT period, start, CASE WHEN n < 3 THEN n::VARCHAR WHEN n < 5 THEN '3-4' WHEN n < 9 THEN '5-8'
                    WHEN n < 17 THEN '9-16' WHEN n < 33 THEN '17-32' ELSE '33+' END AS bucket, count(*) AS n
                FROM users GROUP BY ALL)
            SELECT 'total' AS what, users, users_lower, users_upper, coalesce(n, 0) AS exact
                FROM s.active_users LEFT JOIN extent USING (period, start)
            UNION ALL SELECT 'total of features', users, users_lower, users_upper, coalesce(n, 0)
                FROM s.feature_use_total LEFT JOIN extent USING (period, start)
            UNION ALL SELECT 'events of features', events, events_lower, events_upper, coalesce(n, 0)
                FROM s.feature_use_total LEFT JOIN
                (SELECT period, start, count(*) AS n FROM days GROUP BY ALL) USING (period, start)
            UNION ALL SELECT 'platform', users, users_lower, users_upper,
                    CASE WHEN platform = 'unknown' THEN coalesce(n, 0) ELSE 0 END
                FROM s.active_users_by_platform LEFT JOIN extent USING (period, start)
            UNION ALL SELECT 'intensity', users, users_lower, users_upper, coalesce(n, 0)
                FROM s.intensity r LEFT JOIN bucketed b
                ON r.period = b.period AND r.start = b.start AND r.events_per_user::VARCHAR = b.bucket
            """
        )
        per_kind = connection.execute(
            "SELECT what, count(*), avg((exact BETWEEN users_lower AND users_upper)::INT) FROM compared GROUP BY what"
        ).fetchall()
        cells, held = connection.execute(
            "SELECT count(*), avg((exact BETWEEN users_lower AND users_upper)::INT) FROM compared"
        ).fetchall()[0]
        published, derived = connection.execute(
            """
            SELECT count(*), count(*) FILTER (
                abs(c.users_upper - (c.users + 1.959964 * m.sigma)) < 1e-6
                AND abs(c.users_lower - (c.users - 1.959964 * m.sigma)) < 1e-6)
            FROM s.feature_use c
            JOIN s.noise m ON m.statistic = 'feature_use' AND m.measure = 'users' AND m.period = c.period
            """
        ).fetchall()[0]
    print(f"\n{cells:,} cells, {held:.4f} of them in their bounds; {per_kind}")
    assert cells >= 4_000
    assert 0.94 <= held <= 0.96
    assert published == derived > 0

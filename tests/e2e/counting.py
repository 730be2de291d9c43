"""An independent count of every shipped statistic, in SQL: for exact runs, to be compared cell by cell."""

from pathlib import Path
from typing import Any

import duckdb

Cells = dict[tuple[str, ...], tuple[int, ...]]
Counts = dict[tuple[str, str], Cells]  # (statistic, window) → cell → one number a measure

# Of an event's fields as they are counted: what the registry makes of them, written a second time and in SQL.
EVENTS = """
CREATE TABLE events AS
SELECT CAST(CAST(time AS TIMESTAMP) AS DATE) AS day, subject AS who, data.feature AS feature,
  CASE WHEN data.platform IS NULL THEN 'unknown' WHEN data.platform IN
    ('ios', 'android', 'web', 'windows', 'macos', 'linux', 'unknown') THEN data.platform ELSE 'other' END AS platform,
  CASE WHEN data.app_version IS NULL THEN 'unknown' ELSE
    split_part(data.app_version, '.', 1) || '.' || split_part(data.app_version, '.', 2) END AS app_version,
  CASE WHEN data.duration_ms < 1000 THEN 'under 1 s' WHEN data.duration_ms < 10000 THEN '1-10 s'
    WHEN data.duration_ms < 60000 THEN '10-60 s' WHEN data.duration_ms < 600000 THEN '1-10 min'
    WHEN data.duration_ms >= 600000 THEN 'over 10 min' END AS duration
FROM read_json($file, format = 'newline_delimited', columns = {
  time: 'VARCHAR', id: 'VARCHAR', source: 'VARCHAR', subject: 'VARCHAR',
  data: 'STRUCT(feature VARCHAR, platform VARCHAR, app_version VARCHAR, duration_ms BIGINT)'})
QUALIFY row_number() OVER (PARTITION BY day, source, id, subject) = 1
"""
PLATFORMS = ("ios", "android", "web", "windows", "macos", "linux", "other", "unknown")
BUCKETS = {
    "1": (1, 1),
    "2": (2, 2),
    "3-4": (3, 4),
    "5-8": (5, 8),
    "9-16": (9, 16),
    "17-32": (17, 32),
    "33+": (33, 10**9),
}
BUCKET = " ".join(f"WHEN n BETWEEN {low} AND {high} THEN '{name}'" for name, (low, high) in BUCKETS.items())

# The window, the cell, and one number a measure. START is the window's first day.
QUERIES = {
    "active_users": "SELECT START, count(DISTINCT who) FROM events GROUP BY ALL",
    "active_users_by_platform": "SELECT START, platform, count(DISTINCT who) FROM events GROUP BY ALL",
    "active_users_by_app_version": "SELECT START, app_version, count(DISTINCT who) FROM events GROUP BY ALL",
    "intensity": f"SELECT w, CASE {BUCKET} END AS bucket, count(*) FROM (SELECT START AS w, who, count(*) AS n "
    "FROM events WHERE who IS NOT NULL GROUP BY ALL) GROUP BY ALL",
    "feature_use": "SELECT START, feature, platform, count(DISTINCT who), count(*) FROM events GROUP BY ALL",
    "duration_by_feature": "SELECT START, feature, duration, count(DISTINCT who) FROM events "
    "WHERE duration IS NOT NULL GROUP BY ALL",
}
TOTALS = "SELECT START, 'total', count(DISTINCT who), count(*) FROM events GROUP BY ALL"
MEASURES = {"feature_use": 2}  # of the others: one

# The cells that are declared, and so are shown where nobody is in them; of the others, those that anybody is in.
DECLARED: dict[str, list[tuple[str, ...]]] = {
    "active_users": [()],
    "active_users_by_platform": [(each,) for each in PLATFORMS],
    "intensity": [(each,) for each in BUCKETS],
}


def count_in_sql(events: Path) -> Counts:
    """Every shipped statistic of every window that has an event, counted without bounds by DuckDB alone."""
    counts: Counts = {}
    with duckdb.connect() as connection:
        connection.execute(EVENTS, {"file": str(events)})
        for kind in ("day", "week", "month"):

            def rows(query: str, kind: str = kind) -> list[Any]:
                start = f"strftime(date_trunc('{kind}', day), '{kind}-%Y-%m-%d')"
                return connection.execute(query.replace("START", start)).fetchall()

            for (window,) in rows("SELECT DISTINCT START FROM events"):
                counts |= {(name, window): dict.fromkeys(DECLARED.get(name, []), (0,)) for name in QUERIES}
            for name, query in QUERIES.items():
                measures = MEASURES.get(name, 1)
                for window, *row in rows(query):
                    cell, numbers = tuple(row[:-measures]), tuple(row[-measures:])
                    if numbers[0] or cell in counts[name, window]:
                        counts[name, window][cell] = numbers
            for window, *row in rows(TOTALS):
                counts["feature_use", window]["total",] = (row[1], row[2])
    return counts


def difference(actual: Counts, expected: Counts) -> dict[Any, Any]:
    """Where two counts differ: what each says."""
    wrong: dict[Any, Any] = {}
    for key in sorted(actual.keys() | expected.keys()):
        here, there = actual.get(key, {}), expected.get(key, {})
        wrong |= {
            (key, c): (here.get(c), there.get(c)) for c in here.keys() | there.keys() if here.get(c) != there.get(c)
        }
    return wrong

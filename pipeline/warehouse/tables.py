"""The fold of releases: in any order, in any batches, any number of times, with the same outcome."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import chain

import numpy as np
import pandas as pd
from duckdb import DuckDBPyConnection

from pipeline.core.release import Release, encode_release
from pipeline.warehouse import views
from pipeline.warehouse.checks import check
from pipeline.warehouse.errors import UnusableReleaseError
from pipeline.warehouse.shapes import note_forms, shape_of
from pipeline.warehouse.work import Transaction, query_rows


def apply(connection: DuckDBPyConnection, releases: Sequence[Release], reached: Mapping[int, int] | None = None) -> int:
    """Fold releases into the work file, in one transaction with ``reached``; returns how many were new.

    ``reached``: per partition, the next offset to read. A release that is there already changes nothing.
    Raises ``TypeError`` for anything but a ``Release``, and :class:`UnusableReleaseError` for one that contradicts
    itself or another release under its key; then nothing is changed.
    """
    fresh = _fresh(connection, releases)
    with Transaction(connection):
        if fresh:
            statistics = sorted({release.statistic for release in fresh.values()})
            before = {name: shape_of(connection, name) for name in statistics}
            _insert_releases(connection, fresh)
            note_forms(connection, fresh.values())
            for name in statistics:
                shape = shape_of(connection, name)
                if shape is not None and shape != before[name]:
                    for statement in views.statements(before[name], shape):
                        connection.execute(statement)
                    connection.execute("DELETE FROM projector.snapshot")
            _insert_cells(connection, fresh.values())
        for partition, offset in (reached or {}).items():
            connection.execute("DELETE FROM projector.position WHERE partition = ?", [partition])
            connection.execute("INSERT INTO projector.position VALUES (?, ?)", [partition, offset])
    return len(fresh)


def holds(connection: DuckDBPyConnection, release: Release) -> bool:
    """Whether this very release was folded."""
    query = "SELECT 1 FROM released.release WHERE key = ? AND digest = ?"
    return bool(connection.execute(query, [release.key, _digest(release)]).fetchall())


def _digest(release: Release) -> str:
    return sha256(encode_release(release)).hexdigest()


def _fresh(connection: DuckDBPyConnection, releases: Sequence[Release]) -> dict[str, Release]:
    """The releases that are not there yet, by digest."""
    digests: dict[str, str] = {}
    fresh: dict[str, Release] = {}
    for position, release in enumerate(releases):
        check(release, position)
        digest = _digest(release)
        if digests.setdefault(release.key, digest) != digest:
            raise UnusableReleaseError(position, "two releases with one key differ")
        fresh[digest] = release
    known = query_rows(
        connection,
        pd.DataFrame({"key": list(digests)}, dtype=object),
        "SELECT r.key, r.digest FROM released.release AS r SEMI JOIN batch USING (key)",
    )
    for key, digest in known:
        if digests[key] != digest:
            position = next(place for place, release in enumerate(releases) if release.key == key)
            raise UnusableReleaseError(position, "another release with its key was folded before, and differs")
        del fresh[digest]
    return fresh


def _insert_releases(connection: DuckDBPyConnection, fresh: Mapping[str, Release]) -> None:
    rows = [
        {
            "key": r.key,
            "statistic": r.statistic,
            "description": r.description,
            "period": r.window,
            "start": r.start,
            "end_date": r.end,
            "number": r.number,
            "dimensions": [d.name for d in r.dimensions],
            "cells": len(r.cells),
            "max_cells": r.max_cells,
            "rho": r.rho,
            "policy": r.policy,
            "protects": r.protects,
            "epsilon": r.epsilon,
            "delta": r.delta,
            "contact": r.contact,
            "digest": digest,
        }
        for digest, r in fresh.items()
    ]
    frame = pd.DataFrame(rows, dtype=object)
    query_rows(connection, frame, "INSERT INTO released.release BY NAME SELECT * FROM batch")

    measures = [
        {
            "release": r.key,
            "measure": m.name,
            "description": m.description,
            "sigma": m.sigma,
            "bound": m.bound,
            "rho": m.rho,
            "threshold": m.threshold,
            "total": None if r.total is None else r.total[place],
            "total_sigma": None if r.total is None else m.total_sigma,
            "cells_sum": str(sum(r.values[place])),  # a sum may take more than 64 bits
        }
        for r in fresh.values()
        for place, m in enumerate(r.measures)
    ]
    frame = pd.DataFrame(measures, dtype=object).astype(_NULLABLE)
    query_rows(connection, frame, "INSERT INTO released.measure BY NAME SELECT * FROM batch")

    keys = pd.DataFrame({"key": [r.key for r in fresh.values()]}, dtype=object)
    query_rows(connection, keys, _SUPERSEDE)
    query_rows(connection, keys, _SHOW)


def _insert_cells(connection: DuckDBPyConnection, releases: Iterable[Release]) -> None:
    """Insert all cells, one statement for each set of columns."""
    layouts: dict[tuple[str, ...], list[Release]] = defaultdict(list)
    for release in releases:
        if release.cells:
            columns = [*(d.name for d in release.dimensions), *(m.name for m in release.measures)]
            layouts[release.statistic, *columns].append(release)
    for (statistic, *columns), group in layouts.items():
        width = len(group[0].dimensions)
        # cells: (_place of the release in the group, dimension values…, measures…)
        cells = pd.DataFrame({"_place": np.repeat(np.arange(len(group)), [len(r.cells) for r in group])})
        for place, name in enumerate(columns[:width]):
            values = [cell[place] for release in group for cell in release.cells]
            cells[name] = pd.Series(values, dtype=object)
        for place, name in enumerate(columns[width:]):
            numbers = chain.from_iterable(release.values[place] for release in group)
            cells[name] = np.fromiter(numbers, np.int64, len(cells))
        connection.register("cells", cells)
        try:
            keys = pd.DataFrame([(r.key, r.window, r.start, r.end) for r in group], dtype=object)
            keys.columns = pd.Index(["release", "period", "start", "end_date"])
            keys["_place"] = np.arange(len(group))
            names = ", ".join(views.quoted(column) for column in columns)
            query_rows(
                connection,
                keys,
                f"INSERT INTO released.{views.quoted(statistic)} (release, period, start, end_date, {names}) "
                f"SELECT release, period, start, end_date, {names} FROM cells JOIN batch USING (_place)",
            )
        finally:
            connection.unregister("cells")


_NULLABLE = {"threshold": "Float64", "total": "Int64", "total_sigma": "Float64"}

_SUPERSEDE = """
DELETE FROM released.shown AS old
USING (SELECT * FROM released.release SEMI JOIN batch USING (key)) AS new
WHERE old.statistic = new.statistic AND old.period = new.period AND old.start = new.start AND old.number < new.number
"""

_SHOW = """
INSERT INTO released.shown BY NAME
WITH number AS (
  SELECT
    release,
    list(measure ORDER BY measure DESC) AS measures,
    bool_or(total IS NOT NULL) AS has_total,
    max(sigma) FILTER (measure = 'users') AS users_sigma,
    max(bound) FILTER (measure = 'users') AS users_bound,
    max(threshold) FILTER (measure = 'users') AS users_threshold,
    max(cells_sum) FILTER (measure = 'users') AS users_sum,
    max(total) FILTER (measure = 'users') AS users_total,
    max(total_sigma) FILTER (measure = 'users') AS users_total_sigma,
    max(sigma) FILTER (measure = 'events') AS events_sigma,
    max(bound) FILTER (measure = 'events') AS events_bound,
    max(threshold) FILTER (measure = 'events') AS events_threshold,
    max(cells_sum) FILTER (measure = 'events') AS events_sum,
    max(total) FILTER (measure = 'events') AS events_total,
    max(total_sigma) FILTER (measure = 'events') AS events_total_sigma
  FROM released.measure
  SEMI JOIN batch ON batch.key = release
  GROUP BY release
),
new AS (
  SELECT *
  FROM released.release
  SEMI JOIN batch USING (key)
  QUALIFY row_number() OVER (PARTITION BY statistic, period, start ORDER BY number DESC) = 1
)
SELECT
  r.key, r.statistic, r.description, r.period, r.start, r.end_date, r.number, r.dimensions, r.cells, r.max_cells,
  n.* EXCLUDE (release, users_total_sigma, events_total_sigma),
  n.users_sigma ^ 2 AS users_variance,
  n.users_total_sigma ^ 2 AS users_total_variance,
  n.events_sigma ^ 2 AS events_variance,
  n.events_total_sigma ^ 2 AS events_total_variance
FROM new AS r
JOIN number AS n ON n.release = r.key
ANTI JOIN released.shown AS better
  ON better.statistic = r.statistic AND better.period = r.period AND better.start = r.start
ORDER BY r.end_date, r.period, r.key
"""

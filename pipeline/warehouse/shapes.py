"""The shape of a statistic's table follows from all its releases together, in whatever order they came.

Policies change: values, dimensions and measures come and go. A shape is their union, so that old and new
windows stand in one table; what a release does not have is NULL in its rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd
from duckdb import DuckDBPyConnection

from pipeline.core.release import Release
from pipeline.warehouse.work import query_rows


@dataclass(frozen=True)
class Column:
    """A dimension. ``values``: the catalogue in its natural order; ``None``: any text."""

    name: str
    values: tuple[str, ...] | None
    description: str


@dataclass(frozen=True)
class Shape:
    """What the table and the views of a statistic look like. ``measures``: names and descriptions."""

    statistic: str
    description: str
    dimensions: tuple[Column, ...]
    measures: tuple[tuple[str, str], ...]
    has_total: bool

    @property
    def open(self) -> bool:
        """Whether cells may be held back."""
        return any(column.values is None for column in self.dimensions)


def shape_of(connection: DuckDBPyConnection, statistic: str) -> Shape | None:
    """The shape that the folded releases of a statistic give it; ``None`` before the first.

    From its forms alone: there are a few, however many releases there are.
    """
    forms = connection.execute(_FORMS, [statistic]).fetchall()
    if not forms:
        return None
    description, *_ = forms[-1]
    names = merged((dimensions, start) for _, dimensions, _, _, _, start in forms)
    columns = connection.execute(_DIMENSION_FORMS, [statistic]).fetchall()
    measures: dict[str, str] = {}
    for _, _, those, explanations, _, _ in forms:  # the newest form is the last
        measures |= zip(those, explanations, strict=True)
    return Shape(
        statistic=statistic,
        description=description,
        dimensions=tuple(_column(name, [form[1:] for form in columns if form[0] == name]) for name in names),
        measures=tuple(sorted(measures.items(), reverse=True)),
        has_total=any(form[4] for form in forms),
    )


def note_forms(connection: DuckDBPyConnection, releases: Iterable[Release]) -> None:
    """Keep the forms that these releases have, with the newest window of each."""
    columns: dict[tuple[Any, ...], str] = {}
    forms: dict[tuple[Any, ...], tuple[str, str, int]] = {}
    for r in releases:
        for d in r.dimensions:
            column = (r.statistic, d.name, d.kind, d.values, d.description)
            columns[column] = max(columns.get(column, r.start), r.start)
        names, texts = tuple(m.name for m in r.measures), tuple(m.description for m in r.measures)
        form = (r.statistic, r.description, tuple(d.name for d in r.dimensions), names, texts, r.total is not None)
        forms[form] = max(forms.get(form, ("", "", 0)), (r.start, r.end, r.number))
    _merge(connection, [(*form, *newest) for form, newest in forms.items()], _FORM, _MERGE_FORMS)
    _merge(connection, [(*column, start) for column, start in columns.items()], _DIMENSION, _MERGE_DIMENSIONS)


def _merge(connection: DuckDBPyConnection, rows: list[tuple[Any, ...]], names: Sequence[str], query: str) -> None:
    if rows:
        lists = [[list(part) if isinstance(part, tuple) else part for part in row] for row in rows]
        query_rows(connection, pd.DataFrame(lists, columns=list(names), dtype=object), query)


def merged(lists: Iterable[tuple[Sequence[str], date]]) -> tuple[str, ...]:
    """All values of several lists in one order: the newest list's, older values behind their old neighbours.

    ``lists``: each with the date of its newest use. The result does not depend on their order.

    >>> merged([(["ios", "web", "other"], date(2026, 6, 1)), (["ios", "symbian", "other"], date(2026, 1, 1))])
    ('ios', 'symbian', 'web', 'other')
    """
    order: list[str] = []
    for values, _ in sorted(((tuple(v), day) for v, day in lists), key=lambda pair: (pair[1], pair[0]), reverse=True):
        place = 0
        for value in values:
            if value in order:
                place = order.index(value) + 1
            else:
                order.insert(place, value)
                place += 1
    return tuple(order)


def _column(name: str, forms: list[tuple[str, list[str], str, date]]) -> Column:
    # forms: (kind, declared values, description, newest use). Once open, always text: any value may be there.
    newest = max(forms, key=lambda form: (form[3], form[0], form[1], form[2]))
    if any(kind == "open" for kind, *_ in forms):
        return Column(name, None, newest[2])
    return Column(name, merged((declared, day) for _, declared, _, day in forms), newest[2])


_FORMS = """
SELECT description, dimensions, measures, explanations, has_total, start
FROM released.form
WHERE statistic = ?
ORDER BY start, end_date, number
"""

_DIMENSION_FORMS = "SELECT dimension, kind, declared, description, newest FROM released.dimension WHERE statistic = ?"

_DIMENSION = ("statistic", "dimension", "kind", "declared", "description", "newest")

_MERGE_DIMENSIONS = """
MERGE INTO released.dimension AS known
USING (
  SELECT * REPLACE (CAST(declared AS VARCHAR[]) AS declared, CAST(newest AS DATE) AS newest) FROM batch
) AS form
ON known.statistic = form.statistic AND known.dimension = form.dimension AND known.kind = form.kind
  AND known.declared = form.declared AND known.description = form.description
WHEN MATCHED AND known.newest < form.newest THEN UPDATE SET newest = form.newest
WHEN NOT MATCHED THEN INSERT BY NAME
"""

_FORM = (
    "statistic", "description", "dimensions", "measures", "explanations", "has_total", "start", "end_date", "number",
)  # fmt: skip

_MERGE_FORMS = """
MERGE INTO released.form AS known
USING (
  SELECT * REPLACE (
    CAST(dimensions AS VARCHAR[]) AS dimensions,
    CAST(measures AS VARCHAR[]) AS measures,
    CAST(explanations AS VARCHAR[]) AS explanations,
    CAST(has_total AS BOOLEAN) AS has_total,
    CAST(start AS DATE) AS start,
    CAST(end_date AS DATE) AS end_date,
    CAST(number AS BIGINT) AS number
  ) FROM batch
) AS form
ON known.statistic = form.statistic AND known.description = form.description AND known.dimensions = form.dimensions
  AND known.measures = form.measures AND known.explanations = form.explanations AND known.has_total = form.has_total
WHEN MATCHED AND (known.start, known.end_date, known.number) < (form.start, form.end_date, form.number)
  THEN UPDATE SET start = form.start, end_date = form.end_date, number = form.number
WHEN NOT MATCHED THEN INSERT BY NAME
"""

"""The shape of a statistic's table follows from all its releases together, in whatever order they came.

Policies change: values, dimensions and measures come and go. A shape is their union, so that old and new
windows stand in one table; what a release does not have is NULL in its rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from duckdb import DuckDBPyConnection


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
    """The shape that the folded releases of a statistic give it; ``None`` before the first."""
    [(description, has_total)] = connection.execute(_NEWEST, [statistic]).fetchall()
    if description is None:
        return None
    names = merged(connection.execute(_DIMENSION_LISTS, [statistic]).fetchall())
    forms = connection.execute(_DIMENSION_FORMS, [statistic]).fetchall()
    return Shape(
        statistic=statistic,
        description=description,
        dimensions=tuple(_column(name, [form[1:] for form in forms if form[0] == name]) for name in names),
        measures=tuple(connection.execute(_MEASURES, [statistic]).fetchall()),
        has_total=has_total,
    )


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


_NEWEST = """
SELECT
  max_by(r.description, (r.start, r.end_date, r.number)),
  bool_or(EXISTS (SELECT 1 FROM released.measure AS m WHERE m.release = r.key AND m.total IS NOT NULL))
FROM released.release AS r
WHERE r.statistic = ?
"""

_DIMENSION_LISTS = "SELECT dimensions, max(start) FROM released.release WHERE statistic = ? GROUP BY dimensions"

_DIMENSION_FORMS = "SELECT dimension, kind, declared, description, newest FROM released.dimension WHERE statistic = ?"

_MEASURES = """
SELECT m.measure, max_by(m.description, (r.start, r.end_date, r.number))
FROM released.release AS r
JOIN released.measure AS m ON m.release = r.key
WHERE r.statistic = ?
GROUP BY m.measure
ORDER BY m.measure DESC
"""

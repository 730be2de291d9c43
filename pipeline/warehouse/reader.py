"""Reading the statistics from Python: a snapshot, never waited for, with bounds in every frame."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from pipeline.core.windows import KINDS, Kind
from pipeline.warehouse.errors import NothingPublishedError, WarehouseError
from pipeline.warehouse.snapshots import LINK
from pipeline.warehouse.views import quoted

PROTECTS_NOBODY = "protects nobody: for tests only"


class ProtectsNobody(UserWarning):
    """The file holds releases that were made under a policy for tests."""


class Statistics:
    """The newest published statistics, opened read-only.

    ``source``: the directory of the projector, its ``statistics.duckdb``, or one snapshot. Raises
    :class:`NothingPublishedError` while there is no file.

    >>> with Statistics("data") as statistics:  # doctest: +SKIP
    ...     statistics.frame("feature_use", window="month")
    """

    def __init__(self, source: Path | str) -> None:
        self._link = Path(source) / LINK if Path(source).is_dir() else Path(source)
        self._open()
        if self.warning:
            warnings.warn(self.warning, ProtectsNobody, stacklevel=2)

    def __enter__(self) -> "Statistics":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def path(self) -> Path:
        """The snapshot that is open."""
        return self._path

    @property
    def warning(self) -> str | None:
        """A sentence if any release protects nobody, else ``None``."""
        policies = self._rows("SELECT DISTINCT policy FROM policies WHERE NOT protects ORDER BY policy")
        if not policies:
            return None
        return f"policy {', '.join(policy for (policy,) in policies)} {PROTECTS_NOBODY}"

    def refresh(self) -> bool:
        """Open the newest snapshot if there is a newer one than this; returns whether there was."""
        if _identity(self._link) == self._identity:
            return False
        self.close()
        self._open()
        return True

    def names(self) -> list[str]:
        """The statistics."""
        return [name for (name,) in self._rows("SELECT statistic FROM catalogue")]

    def describe(self, name: str) -> pd.DataFrame:
        """The columns of a statistic: name, type and comment."""
        query = "SELECT column_name AS column, data_type AS type, comment FROM duckdb_columns() "
        where = "WHERE schema_name = 'main' AND table_name = ? ORDER BY column_index"
        return self.sql(query + where, [self._known(name)])

    def dimensions(self, name: str) -> list[str]:
        """The dimensions of a statistic, in the order of its columns."""
        return [column for (column,) in self._rows(_DIMENSIONS, [self._known(name)])]

    def frame(self, name: str, window: Kind = "day", total: bool = False) -> pd.DataFrame:
        """All windows of one kind, oldest first: a row per cell, or with ``total`` a row per window.

        Every number has its bounds and its grade. Dates are ``datetime64``, catalogue dimensions ordered
        ``Categorical``, counts ``int64`` (``Int64`` with gaps).
        """
        if window not in KINDS:
            raise ValueError(f"a window is one of {', '.join(KINDS)}")
        view, order = self._known(name), ["start", *map(quoted, self.dimensions(name))]
        if total:
            view, order = f"{name}_total", ["start"]
            if not self._rows("SELECT 1 FROM duckdb_views() WHERE schema_name = 'main' AND view_name = ?", [view]):
                raise WarehouseError(f"{name} has no totals")
        return self.sql(f"SELECT * FROM {quoted(view)} WHERE period = ? ORDER BY {', '.join(order)}", [window])

    def catalogue(self) -> pd.DataFrame:
        """What there is to know: a row per statistic."""
        return self.sql("SELECT * FROM catalogue")

    def ledger(self) -> pd.DataFrame:
        """What was spent of the privacy budget: a row per month and kind of window."""
        return self.sql("SELECT * FROM ledger")

    def policies(self) -> pd.DataFrame:
        """The versions of the policy under which releases were made."""
        return self.sql("SELECT * FROM policies")

    def sql(self, query: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """The result of any query. Whole numbers stay whole: sums, and those with gaps, are ``Int64``."""
        result = self._connection.execute(query, list(parameters))
        types = [(place, str(column[1])) for place, column in enumerate(result.description)]
        frame = result.df()
        for place, type_ in types:
            column = frame.iloc[:, place]
            # Gaps and sums arrive as float64, which is exact below 2^53.
            if type_ in _WHOLE and column.dtype == "float64" and not column.abs().max() >= 2**53:
                frame.isetitem(place, column.astype("Int64").array)
        return frame

    def _known(self, name: str) -> str:
        names = self.names()
        if name not in names:
            raise WarehouseError(f"there is no statistic of that name; there are: {', '.join(names) or 'none yet'}")
        return name

    def _rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, list(parameters)).fetchall()

    def _open(self) -> None:
        for last in (False, False, True):
            try:
                # Not the link: a process that has its path open already would be given the old file again.
                path = self._link.resolve(strict=True)
                self._identity = _identity(path)
                self._connection = duckdb.connect(str(path), read_only=True, config=_CONFIG)
                self._path = path
                return
            except (FileNotFoundError, duckdb.IOException):
                # Three publications between two lines of this function delete the file it was about to open.
                if last and self._link.exists():
                    raise
        raise NothingPublishedError(
            f"there are no statistics at {self._link} yet: "
            "run `make demo` for an example, or `headcount project` to publish those of a log"
        )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


_CONFIG: dict[str, Any] = {"enable_external_access": False, "lock_configuration": True}

_WHOLE = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
)

_DIMENSIONS = """
SELECT v.column_name
FROM duckdb_columns() AS v
SEMI JOIN duckdb_columns() AS t
  ON t.schema_name = 'released' AND t.table_name = v.table_name AND t.column_name = v.column_name
WHERE v.schema_name = 'main' AND v.table_name = ?
  AND v.column_name NOT IN ('period', 'start', 'end_date', 'users', 'events')
ORDER BY v.column_index
"""

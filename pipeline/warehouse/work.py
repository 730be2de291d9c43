"""The work file: the one DuckDB file that is written to. It is a fold over the log and may be deleted."""

from hashlib import sha256
from pathlib import Path

import duckdb
import pandas as pd
from duckdb import DuckDBPyConnection

from pipeline.warehouse.errors import BusyError, WarehouseError

_SCHEMA = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
_FORMAT = sha256(f"1 {_SCHEMA}".encode()).hexdigest()  # raise the number when the fold changes and the schema does not


def open_work(path: Path) -> DuckDBPyConnection:
    """Open the work file for writing, made if need be.

    A file of another version of the schema is thrown away, and its positions with it, so that the log is read
    again from its beginning. Raises :class:`BusyError` while another process has it open.
    """
    connection = _connect(path)
    if _format_of(connection) not in (None, _FORMAT):
        connection.close()
        remove_work(path)
        connection = _connect(path)
    if _format_of(connection) is None:
        with Transaction(connection):
            connection.execute(_SCHEMA)
            connection.execute("INSERT INTO projector.format VALUES (?)", [_FORMAT])
    return connection


def remove_work(path: Path) -> None:
    """Delete the work file and what DuckDB keeps beside it."""
    for name in (path, path.with_name(path.name + ".wal")):
        name.unlink(missing_ok=True)


def positions(connection: DuckDBPyConnection) -> dict[int, int]:
    """Per partition, the offset of the next record to fold."""
    return dict(connection.execute("SELECT partition, next_offset FROM projector.position").fetchall())


def uncommented(connection: DuckDBPyConnection) -> list[str]:
    """The tables, views, columns, types and macros that lack a comment (DuckDB has none for schemas)."""
    return [name for (name,) in connection.execute(_UNCOMMENTED).fetchall()]


def _connect(path: Path) -> DuckDBPyConnection:
    try:
        return duckdb.connect(str(path))
    except duckdb.IOException as error:
        if "lock" in str(error).lower():
            raise BusyError(f"another process has {path} open: end it first") from None
        raise


def _format_of(connection: DuckDBPyConnection) -> str | None:
    try:
        rows = connection.execute("SELECT digest FROM projector.format").fetchall()
    except duckdb.CatalogException:
        return None
    return str(rows[0][0]) if rows else None


def query_rows(connection: DuckDBPyConnection, batch: pd.DataFrame, query: str) -> list[tuple[str, ...]]:
    """Run a query over a frame, which it calls ``batch``: one statement, however many rows."""
    connection.register("batch", batch)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.unregister("batch")


class Transaction:
    """All or nothing; an error of DuckDB is told without its text, which may quote a value."""

    def __init__(self, connection: DuckDBPyConnection) -> None:
        self.connection = connection

    def __enter__(self) -> None:
        self.connection.execute("BEGIN TRANSACTION")

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.connection.execute("COMMIT")
            return
        self.connection.execute("ROLLBACK")
        if isinstance(error, duckdb.Error) and not isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException):
            raise WarehouseError(f"DuckDB refused the releases ({type(error).__name__}); nothing was changed") from None


_UNCOMMENTED = """
WITH things AS (
  SELECT schema_name || '.' || table_name AS name, comment FROM duckdb_tables()
  WHERE NOT internal AND NOT temporary
  UNION ALL
  SELECT schema_name || '.' || view_name, comment FROM duckdb_views() WHERE NOT internal AND NOT temporary
  UNION ALL
  SELECT schema_name || '.' || table_name || '.' || column_name, comment FROM duckdb_columns()
  WHERE NOT internal AND database_name = current_database()
  UNION ALL
  SELECT schema_name || '.' || type_name, comment FROM duckdb_types() WHERE NOT internal
  UNION ALL
  SELECT schema_name || '.' || function_name, comment FROM duckdb_functions() WHERE NOT internal
)
SELECT name FROM things WHERE coalesce(comment, '') = '' ORDER BY name
"""

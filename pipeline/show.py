"""``headcount show``: the statistics in a terminal, with their bars."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.core.windows import KINDS, Kind
from pipeline.settings import Settings
from pipeline.warehouse.errors import WarehouseError

if TYPE_CHECKING:  # a worker is a command as well, and starts without DuckDB and pandas
    import pandas as pd

    from pipeline.warehouse.reader import Statistics

_COLOURS = {"precise": "green", "good": "cyan", "rough": "yellow", "noise": "dim"}
_BLOCKS = "▁▂▃▄▅▆▇█"
_WINDOWS_IN_A_LINE = 60


@click.command(context_settings={"show_default": True})
@click.argument("statistic", required=False)
@click.option(
    "--from",
    "source",
    default=lambda: Settings.from_environment().data,
    show_default="HEADCOUNT_DATA, or var/statistics",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where statistics.duckdb is.",
)
@click.option("--window", type=click.Choice(KINDS), default="day", help="The kind of window.")
@click.option(
    "--by",
    multiple=True,
    metavar="DIM",
    help="Keep this dimension, add events up over the others; repeat it.",
)
@click.option("--sparkline", is_flag=True, help="A line per cell over time instead of a row per window.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="At most so many rows.  [default: 30, with --json all]",
    show_default=False,
)
def show(
    *,
    statistic: str | None,
    source: Path,
    window: Kind,
    by: tuple[str, ...],
    sparkline: bool,
    as_json: bool,
    limit: int | None,
) -> None:
    """Show the statistics; with the name of one, its numbers, newest first.

    Every number is printed with its 95 % bar and a grade: precise (up to 5 % of the value), good (15 %),
    rough (50 %), or noise. Numbers may be negative: the noise was not cut off.

    \b
    Examples:
      headcount show                                     what there is
      headcount show active_users --window month         users per month
      headcount show active_users --sparkline            the same as a line over time
      headcount show feature_use --by feature            events per feature, added over platforms
      headcount show feature_use --window week --json    for a script
    """
    from pipeline.warehouse.reader import ProtectsNobody, Statistics

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ProtectsNobody)
            statistics = Statistics(source)
        with statistics:
            if statistic is None:
                _show_catalogue(statistics, as_json, limit)
            else:
                _show_statistic(
                    statistics,
                    name=statistic,
                    window=window,
                    by=by,
                    sparkline=sparkline,
                    as_json=as_json,
                    limit=limit,
                )
    except WarehouseError as error:
        raise click.ClickException(str(error)) from None


def _show_catalogue(statistics: Statistics, as_json: bool, limit: int | None) -> None:
    frame = statistics.catalogue()
    if as_json:
        _print_json({"warning": statistics.warning, "statistics": _records(frame.head(limit or len(frame)))})
        return
    table = Table("statistic", "by", "counts", "windows", "from", "to", "what it tells")
    for row in _records(frame.head(limit or len(frame))):
        lists = [", ".join(row[name]) or "–" for name in ("dimensions", "measures", "periods")]
        table.add_row(row["statistic"], *lists, row["first_start"], row["last_end"], row["description"])
    _print(statistics, table, "`headcount show STATISTIC` shows the numbers of one.")


def _show_statistic(
    statistics: Statistics,
    *,
    name: str,
    window: Kind,
    by: Sequence[str],
    sparkline: bool,
    as_json: bool,
    limit: int | None,
) -> None:
    frame, dimensions, measures = _cells(statistics, name, window, by)
    if as_json:
        rows = _records(frame.head(limit or len(frame)))
        _print_json({"statistic": name, "window": window, "warning": statistics.warning, "rows": rows})
        return
    limit = limit or 30
    table = (_lines if sparkline else _rows)(frame, dimensions, measures, limit)
    table.title = f"{name} by {window}"
    notes = _notes(statistics, name, window)
    shown = len(frame.drop_duplicates(list(dimensions))) if sparkline and dimensions else len(frame)
    if frame.empty:
        notes.insert(0, f"There is no {window} of it in which a cell was shown.")
    elif shown > limit and not (sparkline and not dimensions):
        notes.insert(0, f"{shown - limit} more: --limit {shown}")
    _print(statistics, table, *notes)


def _cells(
    statistics: Statistics, name: str, window: Kind, by: Sequence[str]
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The cells, newest window first, with the dimensions and the measures that they have."""
    frame = statistics.frame(name, window)
    dimensions = statistics.dimensions(name)
    measures = [measure for measure in ("users", "events") if measure in frame]
    if unknown := set(by) - set(dimensions):
        known = ", ".join(dimensions) or "none"
        raise WarehouseError(f"{name} has no dimension {', '.join(sorted(unknown))}; it has: {known}")
    if by and set(by) != set(dimensions):
        # One user may be in many cells: their sum counts nobody knows what.
        if "events" not in measures:
            raise WarehouseError(f"users cannot be added up over cells: use --by for all of {', '.join(dimensions)}")
        dimensions, measures = [d for d in dimensions if d in by], ["events"]
        from pipeline.warehouse.views import quoted

        keys = ", ".join(["period", "start", "end_date", *map(quoted, dimensions)])
        frame = statistics.sql(
            f"SELECT {keys}, sum_of(events) AS events, sum_lower(events, events_variance) AS events_lower, "
            "sum_upper(events, events_variance) AS events_upper, sum(events_variance) AS events_variance, "
            "sum_grade(events, events_variance) AS events_grade "
            f"FROM {quoted(name)} WHERE period = ? GROUP BY {keys} ORDER BY {keys}",
            [window],
        )
    return frame.sort_values("start", ascending=False, kind="stable", ignore_index=True), dimensions, measures


def _rows(frame: pd.DataFrame, dimensions: list[str], measures: list[str], limit: int) -> Table:
    table = Table("from", *dimensions)
    for measure in measures:
        table.add_column(measure, justify="right", no_wrap=True)
        table.add_column("grade")
    for row in _records(frame.head(limit)):
        table.add_row(row["start"], *_values(row, dimensions), *(t for m in measures for t in _number(row, m)))
    return table


def _lines(frame: pd.DataFrame, dimensions: list[str], measures: list[str], limit: int) -> Table:
    """A row per cell: the line over all windows, and the newest number. Where a cell is held back, a dot."""
    import pandas as pd

    table = Table(*dimensions, *(title for m in measures for title in (f"{m} over time", "newest", "grade")))
    starts = sorted(frame["start"].unique())[-_WINDOWS_IN_A_LINE:]
    groups = frame.groupby(dimensions, observed=True, sort=False) if dimensions else [((), frame)]
    for _, group in list(groups)[:limit]:
        newest = _records(group.head(1))[0]
        cells: list[Any] = _values(newest, dimensions)
        for measure in measures:
            values = group.set_index("start")[measure].reindex(starts)
            cells += [_line([None if pd.isna(v) else float(v) for v in values]), *_number(newest, measure)]
        table.add_row(*cells)
    return table


def _line(values: list[float | None]) -> str:
    known = [max(0.0, value) for value in values if value is not None]
    top = max(known, default=0.0) or 1.0
    last = len(_BLOCKS) - 1
    return "".join("·" if v is None else _BLOCKS[round(last * max(0.0, v) / top)] for v in values)


def _values(row: dict[str, Any], dimensions: list[str]) -> list[Any]:
    return ["–" if row[dimension] is None else row[dimension] for dimension in dimensions]


def _number(row: dict[str, Any], measure: str) -> tuple[str, Text]:
    if row[measure] is None:
        return "–", Text("")
    grade = str(row[f"{measure}_grade"])
    bar = row[f"{measure}_upper"] - row[measure]
    return f"{row[measure]:,} ± {bar:,.0f}", Text(grade, _COLOURS[grade])


def _notes(statistics: Statistics, name: str, window: Kind) -> list[str]:
    """What the rows do not tell: the total of the newest window, and what of it no cell shows."""
    if not statistics.catalogue().set_index("statistic").loc[name, "has_total"]:
        return []
    notes = []
    for row in _records(statistics.frame(name, window, total=True).tail(1)):
        notes += [
            f"All {measure} of {row['start']}: {_number(row, measure)[0]}"
            for measure in ("users", "events")
            if row.get(measure) is not None
        ]
        if row.get("events_held_back") is not None:
            notes.append(f"In no cell that is shown: {_number(row, 'events_held_back')[0]} events (too few users each)")
    return notes


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: dates as ISO dates, gaps as null."""
    dates = {str(c): frame[c].dt.strftime("%Y-%m-%d") for c in frame.select_dtypes("datetime")}
    records: list[dict[str, Any]] = json.loads(frame.assign(**dates).to_json(orient="records", double_precision=12))
    return records


def _print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def _print(statistics: Statistics, table: Table, *notes: str) -> None:
    console = Console()
    if statistics.warning:
        console.print(statistics.warning, style="bold red", highlight=False)
    console.print(table)
    for note in notes:
        console.print(note, style="dim", highlight=False, markup=False)

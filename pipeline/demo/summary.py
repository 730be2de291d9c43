"""The end of the demo in a terminal: what came in, what it cost, and what an analyst sees."""

import warnings
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.demo.plots import bars, columns
from pipeline.demo.running import PICTURE, DemoSummary
from pipeline.simulation.world import RARE_FEATURE
from pipeline.warehouse.reader import ProtectsNobody, Statistics
from pipeline.warehouse.snapshots import LINK

_COLOURS = {"precise": "green", "good": "cyan", "rough": "yellow", "noise": "dim"}
_NUMBERS = """
WITH month AS (SELECT max(start) AS start FROM active_users WHERE period = 'month'),
week AS (  -- the newest whole one
  SELECT max(start) AS start FROM active_users
  WHERE period = 'week' AND end_date <= (SELECT max(end_date) FROM active_users WHERE period = 'day')
)
SELECT 'users in ' || strftime(start, '%B') AS what,
  users AS value, users_lower AS lower, users_upper AS upper, users_grade AS grade
FROM active_users JOIN month USING (start) WHERE period = 'month'
UNION ALL
SELECT 'users in the last whole week', users, users_lower, users_upper, users_grade
FROM active_users JOIN week USING (start) WHERE period = 'week'
UNION ALL
SELECT * FROM (
  SELECT '  of them on version ' || app_version, users, users_lower, users_upper, users_grade
  FROM active_users_by_app_version JOIN week USING (start) WHERE period = 'week' ORDER BY app_version DESC LIMIT 1
)
UNION ALL
SELECT * FROM (
  SELECT '  of them on ' || platform, users, users_lower, users_upper, users_grade
  FROM active_users_by_platform JOIN week USING (start) WHERE period = 'week' ORDER BY users DESC LIMIT 1
)
UNION ALL
SELECT 'events in ' || strftime(start, '%B') || ', up to their bound a user',
  events, events_lower, events_upper, events_grade
FROM feature_use_total JOIN month USING (start) WHERE period = 'month'
UNION ALL
SELECT '  of them in cells held back',
  events_held_back, events_held_back_lower, events_held_back_upper, events_held_back_grade
FROM feature_use_total JOIN month USING (start) WHERE period = 'month'
"""
_DAYS = "SELECT start, users, bar95(users_variance) AS bar FROM active_users WHERE period = 'day' ORDER BY start"
_TOP = """
SELECT feature || ' on ' || platform AS cell, users, users_lower, users_upper
FROM feature_use
WHERE period = 'month' AND start = (SELECT max(start) FROM feature_use WHERE period = 'month')
ORDER BY users DESC LIMIT 10
"""


def print_demo(console: Console, summary: DemoSummary, directory: Path, program: str, *, default: bool) -> None:
    """Everything; the plots and numbers need the shipped statistics. ``default``: the notebook looks here by itself."""
    _print_figures(console, summary)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProtectsNobody)  # the figures have said so
        statistics = Statistics(directory)
    with statistics:
        try:
            _print_statistics(console, statistics)
        except duckdb.Error:
            console.print("\n[dim]No plots: they need the shipped statistics.[/]")
    _print_next(console, directory, program, default)


def _print_figures(console: Console, summary: DemoSummary) -> None:
    rejected = sum(summary.rejected.values())
    windows = ", ".join(f"{n} {kind}s" if n != 1 else f"1 {kind}" for kind, n in summary.windows.items())
    by_number = sorted(summary.rejected.items(), key=lambda item: -item[1])
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in by_number)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", style="bold", no_wrap=True)
    grid.add_column()
    sign = "=" if summary.balanced else "≠"
    grid.add_row("simulated", f"{summary.users:,} users over {summary.days} days")
    grid.add_row("opted out", f"{summary.opted_out:,} events never left the emitter")
    grid.add_row("in", f"{summary.events_in:,} {sign} {summary.accepted:,} accepted + {rejected:,} rejected")
    grid.add_row("rejected", reasons or "none")
    grid.add_row("released", f"{windows}: {summary.cells_released:,} cells; {summary.cells_held_back:,} were held back")
    grid.add_row(
        "time",
        f"{summary.seconds:.0f} s with {summary.workers} worker{'s' if summary.workers > 1 else ''},"
        f" {summary.events_per_second:,.0f} events a second",
    )
    if summary.protects and summary.epsilon is not None:
        grid.add_row("guarantee", f"ε ≤ {summary.epsilon:.2f} per subject and calendar month, policy {summary.policy}")
    else:
        grid.add_row("guarantee", Text(f"NONE: policy {summary.policy} protects nobody", "bold red"))
    console.print()
    console.print(grid, highlight=False)


def _print_statistics(console: Console, statistics: Statistics) -> None:
    days = statistics.sql(_DAYS).tail(max(20, min(console.width, 120) - 12))
    console.print(f"\n[bold]Users on a day[/]  [dim]± {days['bar'].iloc[-1]:,.0f} (95 %)[/]", highlight=False)
    console.print(columns(_rows(days[["start", "users"]])), highlight=False)
    top = statistics.sql(_TOP)
    if not top.empty:
        console.print("\n[bold]Features by users, last month[/]  [dim]shaded: 95 % bounds[/]", highlight=False)
        console.print(bars(_rows(top)), highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title, side in (("", "left"), ("", "right"), ("95 % bounds", "right"), ("", "left")):
        table.add_column(title, justify=side)  # type: ignore[arg-type]
    for row in statistics.sql(_NUMBERS).to_dict("records"):
        table.add_row(
            str(row["what"]),
            f"{row['value']:,}",
            f"{row['lower']:,.0f} … {row['upper']:,.0f}",
            Text(str(row["grade"]), _COLOURS[str(row["grade"])]),
        )
    console.print("\n[bold]Numbers[/]")
    console.print(table, highlight=False)
    [[shown]] = statistics.sql(f"SELECT count(*) FROM feature_use WHERE feature = '{RARE_FEATURE}'").to_numpy()
    if not shown:
        console.print(
            f"\n[dim]A handful of users used {RARE_FEATURE}: too few, so no released cell names it.[/]", highlight=False
        )


def _rows(frame: pd.DataFrame) -> list[Any]:
    return [tuple(row) for row in frame.itertuples(index=False)]


def _print_next(console: Console, directory: Path, program: str, default: bool) -> None:
    console.print("\n[bold]Next[/]")
    here = "" if default else f"HEADCOUNT_DATA={directory} "
    lines = [
        (f"{program} show --from {directory}", "what there is"),
        (f"{program} show feature_use --from {directory} --window week", "one statistic"),
        (f"{here}jupyter lab notebooks/usage.ipynb", "a notebook to start from"),
        (f"duckdb -readonly {directory}/{LINK} 'FROM catalogue'", "SQL"),
    ]
    if (directory / PICTURE).exists():
        lines.append((f"{directory}/{PICTURE}", "a picture of the above"))
    for command, text in lines:
        console.print(f"  {command}  [dim]{text}[/]", highlight=False, soft_wrap=True)

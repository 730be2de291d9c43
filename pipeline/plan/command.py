"""``headcount plan``: the command line of forecasts and proposals."""

import json
import math
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pipeline.core.budget import Accountant, OverBudget
from pipeline.declarations import read_declarations
from pipeline.settings import Settings, SettingsError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--users", type=click.IntRange(1), help="Users of a month.")
@click.option("--events", metavar="MEAN|zipf:N,q,s,CUT", default="20", help="Events of a user in a month.")
@click.option("--cells", metavar="FILE|zipf:N,q,s", default="zipf:500,5,1.2", help="How popular cells are.")
@click.option("--statistic", help="Which one.  [default: the first with an open dimension]")
@click.option("--policy", type=_FILE, help="The policy; the one in force by default.")
@click.option("--statistics", type=_FILE, help="The statistics; those in force by default.")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw it: a .svg or .png file.")
@click.option(
    "--next",
    "directory",
    type=click.Path(exists=True, path_type=Path),
    help="Propose max_cells and max_events from the releases in this directory, instead of --users and the others.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(
    *,
    users: int | None,
    events: str,
    cells: str,
    statistic: str | None,
    policy: Path | None,
    statistics: Path | None,
    picture: Path | None,
    directory: Path | None,
    as_json: bool,
) -> None:
    """Say beforehand what a budget will let analysts see.

    Given how many users there are, how much they do and what is popular, and under the policy: how many cells will be
    shown, how exact they are, and what is cut off by max_cells and max_events. Events of a user are a mean (geometric
    from 1 on) or Zipf–Mandelbrot, rank^-s after a shift of q, and cut; cells are the same, or a CSV file with a header
    whose last column is a number of events. Every event falls on any day and into any cell independently.

    \b
    headcount plan --users 20000 --events 30 --cells zipf:500,5,1.2
    headcount plan --users 20000 --events zipf:100000,26,6.738,32 --cells counts.csv --picture plan.svg
    headcount plan --next var/statistics        what next month's bounds should be, from releases alone
    """
    from pipeline.plan.population import PopulationError
    from pipeline.warehouse.errors import WarehouseError

    if (users is None) == (directory is None):
        raise click.UsageError("say how many --users there are, or --next with the directory of statistics")
    if picture is not None and picture.suffix not in (".svg", ".png"):
        raise click.UsageError("--picture is a .svg or a .png file")
    try:
        settings = Settings.from_environment()
        settings = replace(settings, policy=policy or settings.policy, statistics=statistics or settings.statistics)
        accountant = read_declarations(settings, datetime.now(UTC).date()).accountant
        name = _chosen(accountant, statistic)
        found = (
            _forecasts(accountant, name, users, events, cells, picture)
            if users is not None
            else _proposals(accountant, name, directory or Path())
        )
    except (SettingsError, OverBudget, PopulationError, WarehouseError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps({key: value for key, value in found.items() if key != "lines"}, ensure_ascii=False))
    else:
        click.echo("\n".join(found["lines"]))


def _chosen(accountant: Accountant, name: str | None) -> str:
    known = {n: s for n, s in accountant.plan.statistics.items() if s.dimensions}
    chosen = name or next((n for n, s in known.items() if s.total), next(iter(known), None))
    if chosen not in known:
        raise click.UsageError(f"--statistic is one of those with dimensions: {', '.join(known) or 'there is none'}")
    return chosen


def _forecasts(
    accountant: Accountant, name: str, users: int, events: str, cells: str, picture: Path | None
) -> dict[str, Any]:
    from pipeline.plan.forecast import Forecast, forecast
    from pipeline.plan.picture import draw_forecasts, sparkline
    from pipeline.plan.population import Population, read_cells, read_events

    shares, names = read_cells(cells)
    population = Population(users, read_events(events), shares, names)
    kinds = accountant.plan.statistics[name].windows
    found: list[Forecast] = [forecast(accountant, name, kind, population) for kind in kinds]
    lines = [f"{name} under policy {accountant.policy.version}: {users:,} users a month, {len(shares):,} cells", ""]
    lines.append(_line("", "users", "shown", "95 % bar", "from", "error", "cut off"))
    for each in found:
        error = "–" if math.isinf(each.relative_error) else f"{each.relative_error:.1%}"
        least = "" if each.threshold is None else f"{each.threshold:.0f}"
        figures = f"{each.users:,.0f}", f"{each.shown:,.1f}", f"± {each.bar95:.0f}", least
        lines.append(_line(f"a {each.kind}", *figures, error, f"{each.users_lost:.1%}"))
    lines += [
        "",
        "shown: cells, in expectation; from: the threshold of users; error: of the median cell, clipping included;",
        "cut off: of all users' cells by max_cells. Of events, max_cells and max_events cut off "
        + ", ".join(f"{each.events_lost:.1%} ({each.kind})" for each in found)
        + ".",
        "",
        "the chance to be shown, from the most popular cell to the least, ranks on a logarithmic axis:",
        *(f"{each.kind:>7} {sparkline(each)}" for each in found),
    ]
    for each in found:
        if names and each.kind == kinds[-1]:
            likely = [n for n, chance in zip(names, _by_cell(each), strict=True) if chance >= 0.5]
            shown = ", ".join(likely[:10]) + (", …" if len(likely) > 10 else "")
            lines += ["", f"in a {each.kind} more likely than not: {shown or 'none'}"]
    month, year = accountant.guarantee(), accountant.guarantee(12)
    lines += ["", f"epsilon {month.epsilon:.2f} a month, {year.epsilon:.1f} a year, all statistics together"]
    if picture is not None:
        draw_forecasts(found, picture)
        lines.append(f"picture: {picture}")
    return {
        "statistic": name,
        "policy": accountant.policy.version,
        "epsilon": {"month": _finite(month.epsilon), "year": _finite(year.epsilon)},
        "windows": [_figures(each, names) for each in found],
        "lines": lines,
    }


def _by_cell(found: Any) -> list[float]:
    """The chance of each cell to be shown, by rank."""
    return [float(c) for c, n in zip(found.chance, found.size, strict=True) for _ in range(round(n))]


def _figures(found: Any, names: tuple[str, ...]) -> dict[str, Any]:
    scalars = {k: v for k, v in vars(found).items() if isinstance(v, str | int | float) or v is None}
    figures: dict[str, Any] = {
        key: _finite(value) if isinstance(value, float) else value for key, value in scalars.items()
    }
    figures |= {"cells": found.cells, "shown": found.shown, "bar95": found.bar95}
    if names:
        figures["chances"] = dict(zip(names, (round(c, 4) for c in _by_cell(found)), strict=True))
    return figures


def _proposals(accountant: Accountant, name: str, directory: Path) -> dict[str, Any]:
    from pipeline.plan.proposal import propose, released_population

    population = released_population(directory, name)
    found = [propose(accountant, name, kind, population) for kind in accountant.plan.statistics[name].windows]
    lines = [f"{name}, from {population.users:,.0f} users of the newest released month:", ""]
    lines.append(_line("", "cells", "now", "events", "now", "error", "now"))
    for each in found:
        bounds = (str(n) for pair in zip(each.proposed, each.now, strict=True) for n in pair)
        lines.append(_line(f"a {each.kind}", *bounds, f"{each.error[0]:,.0f}", f"{each.error_now[0]:,.0f}"))
    for key, place in (("max_cells", 0), ("max_events", 1)):
        values = ", ".join(f"{each.kind} = {each.proposed[place]}" for each in found)
        lines.append(f"{'' if place else chr(10)}{key} = {{ {values} }}")
    lines += [
        "",
        "error: of users, the expected sum over all cells. More cells mean more noise in every statistic of a window;",
        "see `headcount policy --statistics FILE` before you decide. Nothing but releases was read.",
    ]
    return {"statistic": name, "windows": [asdict(each) for each in found], "lines": lines}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _line(name: str, *figures: str) -> str:
    return f"{name:10}" + "".join(f"{figure:>11}" for figure in figures).rstrip()

"""``headcount policy``: what the policy buys and what it costs, every figure worked out anew."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pipeline.core.budget import Accountant, OverBudget
from pipeline.declarations import read_declarations
from pipeline.privacy_loss import pld_epsilon
from pipeline.settings import Settings, SettingsError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SPANS = {"month": 1, "year": 12}


@click.command()
@click.option("--policy", "file", type=_FILE, help="The policy; the one in force by default.")
@click.option("--statistics", type=_FILE, help="The statistics; those in force by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def policy(file: Path | None, statistics: Path | None, as_json: bool) -> None:
    """Show what the policy promises: the noise of every statistic, and the price of a month and of a year.

    Each figure follows from rho in [budget] and from the bounds of the statistics. Epsilon is OpenDP's conversion, with
    which the accountant's own agrees; beside it, where dp-accounting is installed, the tighter figure of privacy-loss
    distributions. A policy that costs more than its max_epsilon is refused.

    \b
    headcount policy
    headcount policy --policy next-month.toml --json
    """
    try:
        settings = Settings.from_environment()
        settings = replace(settings, policy=file or settings.policy, statistics=statistics or settings.statistics)
        accountant = read_declarations(settings, datetime.now(UTC).date()).accountant
    except (SettingsError, OverBudget) as error:
        raise click.ClickException(str(error)) from None
    found = price_list(accountant)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        _print(found)


def price_list(accountant: Accountant) -> dict[str, Any]:
    """Everything that the accountant works out, as JSON has it: what is without bound is null."""
    decided = accountant.policy
    return {
        "policy": decided.version,
        "mechanism": decided.budget.mechanism,
        "protects": accountant.protects,
        "max_epsilon": _finite(decided.budget.max_epsilon),
        "releases": [
            {
                "statistic": charge.statistic,
                "window": charge.kind,
                "windows": charge.windows,
                "measure": charge.measure,
                "max_cells": accountant.plan.statistics[charge.statistic].cells(charge.kind),
                "bound": charge.price.bound,
                "rho": charge.price.rho,
                "sigma": charge.price.sigma,
                "bar95": 1.959964 * charge.price.sigma,
                "threshold": _finite(accountant.threshold(charge.statistic, charge.kind)),
                "total_sigma": charge.price.total_sigma,
            }
            for charge in accountant.charges()
        ],
        **{name: _total(accountant, months) for name, months in _SPANS.items()},
    }


def _total(accountant: Accountant, months: int) -> dict[str, float | None]:
    from pipeline.noise import opendp_epsilon

    cost, converted = accountant.guarantee(months), accountant.policy.budget.delta / 2
    return {
        "rho": cost.rho,
        "epsilon": _finite(opendp_epsilon(cost.rho, converted)),
        "epsilon_accountant": _finite(cost.epsilon),
        "epsilon_pld": pld_epsilon(accountant, converted, months),
        "delta": cost.delta,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _print(found: dict[str, Any]) -> None:
    from pipeline.warehouse.reader import PROTECTS_NOBODY

    click.echo(f"policy {found['policy']}: what is released of a window, and the noise in it\n")
    click.echo(_line("", "cells", "bound", "sigma", "95 %", "from"))
    for each in found["releases"]:
        noise = f"{each['sigma']:.3g}", f"± {each['bar95']:.3g}"
        shown = "" if each["threshold"] is None else f"{each['threshold']:.0f}"
        name = f"{each['statistic']}, {each['measure']}, {each['window']}"
        click.echo(_line(name, str(each["max_cells"]), str(each["bound"]), *noise, shown))
    click.echo()
    if not found["protects"]:
        click.secho(f"policy {found['policy']} {PROTECTS_NOBODY}", fg="red", bold=True)
        return
    click.echo(_line("what it costs one subject", "rho", "epsilon", "(PLD)", "delta"))
    for span in _SPANS:
        total = found[span]
        tighter = "" if total["epsilon_pld"] is None else f"{total['epsilon_pld']:.2f}"
        name = f"a {span}, all statistics and windows"
        click.echo(_line(name, f"{total['rho']:.3g}", f"{total['epsilon']:.2f}", tighter, f"{total['delta']:.2g}"))
    click.echo(f"\nThe policy allows epsilon {found['max_epsilon']:g} a month; nothing caps a year.")
    if found["month"]["epsilon_pld"] is None:
        click.echo("The tighter figure, (PLD), needs dp-accounting: pip install 'headcount[reports]'")


def _line(name: str, *figures: str) -> str:
    return f"{name:42}" + "".join(f"{figure:>8}" for figure in figures).rstrip()

"""``headcount demo``: the options, and what is shown when."""

import os
import shutil
import sys
from datetime import datetime
from pathlib import Path

import click
import msgspec

from pipeline.settings import Settings
from pipeline.simulation.command import FIRST_DAY

EXIT_FAILED = 1
NOTEBOOK_DATA = Path("var/demo")  # where the notebook looks


@click.command(context_settings={"show_default": True})
@click.option("--users", type=click.IntRange(50, 1_000_000), default=7_000, help="How many there will ever be.")
@click.option("--days", type=click.IntRange(3, 730), default=61, help="How many: 61 are June and July.")
@click.option("--seed", type=int, default=1, help="Another seed, other users. The noise is new in every run.")
@click.option("--from", "first_day", type=click.DateTime(["%Y-%m-%d"]), default=FIRST_DAY, help="The first day.")
@click.option(
    "--workers",
    type=click.IntRange(1, 4),
    default=1,
    help="Worker processes.",
)
@click.option(
    "--to",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=NOTEBOOK_DATA,
    help="Where statistics.duckdb and usage.svg are put.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def demo(users: int, days: int, seed: int, first_day: datetime, workers: int, directory: Path, as_json: bool) -> None:
    """Send the events of an invented application through the whole pipeline, and show what can be learnt from them.

    Real topics on an embedded broker, the emitter that applications use, real workers, and the projector,
    which publishes while they run. It takes about half a minute; what an earlier demo left is replaced.

    \b
    Exit code 0: every event was accepted, or rejected for one reason.
    """
    from rich.console import Console

    from pipeline.cli import explained
    from pipeline.demo.picture import draw_picture
    from pipeline.demo.running import run_demo
    from pipeline.demo.summary import print_demo
    from pipeline.demo.watching import watched

    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"{directory} cannot be made: {error.strerror}") from None
    with explained():
        settings = Settings.from_environment()
        with watched(Console(stderr=True), directory, quiet=as_json) as report:
            summary = run_demo(
                directory,
                settings,
                users=users,
                first_day=first_day.date(),
                days=days,
                seed=seed,
                workers=workers,
                report=report,
            )
        draw_picture(directory, Path(summary.picture))
    if as_json:
        click.echo(msgspec.json.encode(summary).decode())
    else:
        print_demo(Console(), summary, directory, _program(), default=directory == NOTEBOOK_DATA)
    if not summary.balanced:
        click.secho("events went missing: in is not accepted + rejected", fg="red", err=True)
        sys.exit(EXIT_FAILED)


def _program() -> str:
    """What to type for ``headcount`` here: `make demo` installs it where no shell looks."""
    return "headcount" if shutil.which("headcount") else os.path.relpath(sys.argv[0])

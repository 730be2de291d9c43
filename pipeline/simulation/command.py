"""``headcount simulate``: invented usage events to try things with."""

import gzip
import sys
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

import click

FIRST_DAY = "2026-06-01"  # a Monday, and the first day of a month


@click.command(context_settings={"show_default": True})
@click.option("--users", type=click.IntRange(1), default=1_000, help="How many there will ever be.")
@click.option("--days", type=click.IntRange(1, 3_650), default=28, help="How many.")
@click.option("--seed", type=int, default=1, help="Another seed, other events; the same seed, the same.")
@click.option("--from", "first_day", type=click.DateTime(["%Y-%m-%d"]), default=FIRST_DAY, help="The first day.")
@click.option(
    "--to",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file, compressed if its name ends in .gz; standard output otherwise.",
)
@click.option("--broken", is_flag=True, help="Also a few lines a day that are no events.")
def simulate(users: int, days: int, seed: int, first_day: datetime, file: Path | None, broken: bool) -> None:
    """Write the usage events of an invented application, one CloudEvent a line.

    Its users come and go, work less on Sundays and opt out; a version rolls out; events come late or twice.

    \b
    headcount simulate --users 3000 --days 30 --to events.ndjson.gz
    headcount replay events.ndjson.gz --to var/replay
    headcount simulate --days 7 | headcount emit -
    """
    from pipeline.simulation.days import simulate as run
    from pipeline.simulation.writing import write_lines

    lines = write_lines(run(seed, users, first_day.date(), days), broken)
    if file is None:
        sys.stdout.buffer.writelines(lines)
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Without a time of writing in it, the same seed gives the same file.
        with gzip.GzipFile(file, "wb", 5, mtime=0) if file.suffix == ".gz" else file.open("wb") as out:
            cast(BinaryIO, out).writelines(lines)
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from None

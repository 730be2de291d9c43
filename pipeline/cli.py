"""``headcount``: one command, a subcommand for each thing that people do."""

import base64
import json
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from pipeline.audit.command import audit
from pipeline.core.budget import OverBudget
from pipeline.demo.command import demo
from pipeline.keys import keys
from pipeline.plan.command import plan
from pipeline.policy import policy
from pipeline.settings import Settings, SettingsError
from pipeline.show import show
from pipeline.simulation.command import simulate

EXIT_FAILED = 1
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_console = Console(stderr=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True})
@click.version_option(package_name="headcount")
def main() -> None:
    """Usage statistics that cannot point at anyone.

    Applications emit events to Kafka, workers take the identifiers out and add the events up, DuckDB serves noisy
    totals.

    \b
    Try it:         make demo                       (or: headcount demo)
    Look:           headcount show
    Run it:         headcount topics; headcount worker; headcount project
    Configure it:   headcount settings              (everything is environment and the files in schemas/)
    """


@contextmanager
def explained() -> Iterator[None]:
    """Errors of ours become one line that says what to do, and exit code 1."""
    from kafka.errors import KafkaError

    from pipeline.stack import StackError
    from pipeline.stream.broker import BrokerError
    from pipeline.stream.keywrapping import KeyStoreError
    from pipeline.warehouse.errors import WarehouseError

    ours = (SettingsError, OverBudget, StackError, BrokerError, KeyStoreError, WarehouseError)
    try:
        yield
    except ours as error:
        raise click.ClickException(str(error)) from None
    except KafkaError as error:
        raise click.ClickException(
            f"the broker did not do what was asked ({type(error).__name__}): "
            "is KAFKA_BOOTSTRAP_SERVERS right, and is it up?"
        ) from None


@main.command()
@click.option("--loglevel", default="WARNING", type=click.Choice(["INFO", "WARNING", "ERROR"]))
@click.option("--roles", help="Some of ingest,tally,release; all by default (HEADCOUNT_ROLES).", show_default=False)
def worker(loglevel: str, roles: str | None) -> None:
    """Run a Faust worker: ingest, tally and release. Start as many as you like; they share the partitions.

    With --roles the hops run apart, each under a principal that may do no more than it has to.
    """
    from pipeline.worker import run_worker

    with explained():
        given = {"HEADCOUNT_ROLES": roles} if roles else {}
        run_worker(Settings.from_environment({**os.environ, **given}), loglevel=loglevel)


@main.command()
@click.option(
    "--partitions",
    type=click.IntRange(1),
    help="Of events and of contributions: that many workers can share the work.",
)
@click.option("--replication", type=click.IntRange(1), default=1, help="Copies of each partition.")
@click.option("--acls", is_flag=True, help="Also the access lists: to each role what it needs, and no more.")
@click.option(
    "--principal", "principals", multiple=True, help="ROLE=NAME, where a principal is not called as its role."
)
@click.option(
    "--passwords",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also a password for each principal without a file in this directory, set at the broker (SCRAM).",
)
def topics(
    partitions: int | None, replication: int, acls: bool, principals: tuple[str, ...], passwords: Path | None
) -> None:
    """Make the topics that are not there yet, with their retention.

    With --acls, run it as the broker's administrator: nobody else may give rights.

    \b
    headcount topics --replication 3
    headcount topics --acls --passwords secrets/passwords
    headcount topics --acls --principal ingest=worker --principal tally=worker --principal release=worker
    """
    from pipeline.stream.acls import allow, grants, principals_of, set_passwords
    from pipeline.stream.topics import create_topics

    with explained():
        settings = Settings.from_environment()
        named = principals_of(principals)
        made = create_topics(settings.kafka(), replication=replication, partitions=partitions)
        click.echo("made: " + ", ".join(made) if made else "all topics were there already")
        if acls:
            added, besides = allow(settings.kafka(), grants(named, settings.group))
            click.echo(f"access: {len(added)} grants added")
            for grant in sorted(besides):
                text = f"{grant.principal} may {grant.operation.name} the {grant.kind.name} {grant.name}"
                click.echo(f"not ours: {text.lower()}", err=True)
        if passwords:
            set_for = set_passwords(settings.kafka(), named.values(), passwords, settings.sasl_mechanism)
            click.echo("passwords: " + (", ".join(set_for) or "each principal has one already"))


@main.command()
@click.argument("file", type=click.File("rb"))
@click.option("--batch", type=click.IntRange(1), default=500, help="Events in a record.")
def emit(file: Any, batch: int) -> None:
    """Send events of an NDJSON FILE, or of standard input for -, to the broker.

    One CloudEvent a line. Lines are sent as they are: it is the worker that accepts or rejects them.
    """
    from pipeline.replay import Sender
    from pipeline.sources import read_stream
    from pipeline.stream.app import topic_sizes
    from pipeline.stream.topics import EVENTS

    with explained():
        settings = Settings.from_environment()
        with closing(Sender(settings.kafka(), topic_sizes(settings, [EVENTS])[EVENTS])) as sender:
            for _ in sender.send(read_stream(file, batch)):
                pass
    click.echo(f"{sender.events - sender.oversized:,} events sent")
    if sender.oversized:
        raise click.ClickException(f"{sender.oversized:,} lines are over the size of an event and were not sent")


@main.command()
@click.option("--once", is_flag=True, help="Publish what there is and stop.")
def project(once: bool) -> None:
    """Fold the releases into DuckDB and publish snapshots, for as long as it runs."""
    from pipeline.health import served
    from pipeline.logs import configure
    from pipeline.warehouse.projector import Projector
    from pipeline.warehouse.vitals import ProjectorVitals

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with explained():
        settings = Settings.from_environment()
        configure(settings.log)
        with Projector(settings.data, settings.kafka()) as projector:
            if once:
                click.echo(f"{projector.catch_up():,} releases folded")
                return
            with served(settings.http, ProjectorVitals(projector)):
                projector.run(stop, settings.snapshot_seconds)


@main.command()
def rebuild() -> None:
    """Throw the DuckDB file away and make it anew from the log of releases. Nothing is drawn again."""
    from pipeline.warehouse.projector import rebuild as run

    with explained():
        settings = Settings.from_environment()
        folded = run(settings.data, settings.kafka())
    click.echo(f"{folded:,} releases folded into {settings.data / 'statistics.duckdb'}")


@main.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option(
    "--to",
    "directory",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where statistics.duckdb is put.",
)
@click.option("--policy", type=FILE, help="The policy; the shipped one by default.")
@click.option("--statistics", type=FILE, help="The statistics; the shipped ones by default.")
@click.option("--fields", "registry", type=FILE, help="The field registry; the shipped one by default.")
@click.option("--map", "mapping", type=FILE, help="For CSV and Parquet: SQL expressions per attribute, in TOML.")
@click.option("--from", "since", type=click.DateTime(["%Y-%m-%d"]), help="The first day; windows exist from here on.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="The first day after it.")
@click.option("--workers", type=click.IntRange(1, 16), default=1, help="Worker processes.")
@click.option("--batch", type=click.IntRange(1), default=500, help="Events in a record.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def replay(
    files: tuple[Path, ...],
    directory: Path,
    policy: Path | None,
    statistics: Path | None,
    registry: Path | None,
    mapping: Path | None,
    since: Any,
    until: Any,
    workers: int,
    batch: int,
    as_json: bool,
) -> None:
    """Run the whole main job over FILES of events on an embedded broker.

    NDJSON CloudEvents, also .gz and .zst, in any order; CSV and Parquet with --map. All windows are closed at the end.
    Without --from and --until, windows exist from the first to the last event: then when there was activity can be read
    from the file, which under a policy that protects is worth declaring instead.

    \b
    Exit code 0: every event was accepted, or rejected for one reason.

    \b
    headcount replay events.ndjson.gz --to var/replay
    headcount replay reviews.csv --map reviews.toml --policy schemas/exact.toml --to var/check --json
    """
    from pipeline.replay import replay as run

    if since and until and until <= since:
        raise click.UsageError("--until is the first day after the replay: it comes after --from")
    with explained():
        settings = Settings.from_environment()
        settings = replace(
            settings,
            policy=policy or settings.policy,
            statistics=statistics or settings.statistics,
            fields=registry or settings.fields,
            since=since.date().isoformat() if since else "",
            until=until.date().isoformat() if until else "",
        )
        with progress_bars(as_json) as report:
            summary = run(files, directory, settings, workers=workers, mapping=mapping, batch=batch, report=report)
    if as_json:
        click.echo(msgspec.json.encode(summary).decode())
    else:
        print_summary(summary)
    if not summary.balanced:
        _console.print("[red]events went missing: in is not accepted + rejected")
        sys.exit(EXIT_FAILED)


@main.command()
def kek() -> None:
    """Print a new key-encryption key, for HEADCOUNT_KEK_FILE. Keep it away from the directory of keys."""
    click.echo(base64.b64encode(secrets.token_bytes(32)).decode())


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def settings(as_json: bool) -> None:
    """List every setting: its environment variable, what it is for and what it is now. Secrets are not shown."""
    with explained():
        current = Settings.from_environment()
    secret = {"kek", "sasl_password"}
    rows = {
        f.metadata["name"]: (
            "(set)" if f.name in secret and getattr(current, f.name) else str(getattr(current, f.name)),
            f.metadata["text"],
        )
        for f in fields(current)
    }
    if as_json:
        click.echo(json.dumps({name: value for name, (value, _) in rows.items()}))
        return
    for name, (value, text) in rows.items():
        click.echo(f"{name:28} {value:40} {text}")


for command in (show, policy, plan, keys, simulate, demo, audit):
    main.add_command(command)


@contextmanager
def progress_bars(quiet: bool) -> Iterator[Callable[[str, int, int | None], None]]:
    """A report function: one bar per stage, on standard error; nothing where nobody looks."""
    if quiet or not _console.is_terminal:
        from pipeline.replay import no_report

        yield no_report
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=_console, transient=True) as progress:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, of: int | None) -> None:
            task = tasks.get(stage)
            if task is None:
                task = tasks[stage] = progress.add_task(stage, total=of)
            progress.update(task, completed=done, total=of)

        yield report


def print_summary(summary: Any) -> None:
    """The figures of a replay, for people."""
    out = Console()
    windows = ", ".join(f"{n:,} {kind}s" for kind, n in summary.windows.items())
    speed = f"{summary.events_per_second:,.0f} a second, {summary.seconds:.1f} s"
    out.print(f"{'events in':>16}  {summary.events_in:,}  ({speed})")
    out.print(f"{'accepted':>16}  {summary.accepted:,}")
    for reason, n in summary.rejected.items():
        out.print(f"{'rejected':>16}  {n:,}  {reason}")
    out.print(f"{'windows':>16}  {windows}")
    out.print(f"{'cells released':>16}  {summary.cells_released:,}  in {summary.releases:,} releases")
    out.print(f"{'held back':>16}  {summary.cells_held_back:,}  open cells under their threshold")
    if summary.protects:
        out.print(
            f"{'guarantee':>16}  epsilon {summary.epsilon:g} per subject and calendar month, policy {summary.policy}"
        )
    else:
        out.print(
            f"{'guarantee':>16}  [bold red]NONE: policy {summary.policy} protects nobody; for tests on public data only"
        )
    out.print(f"{'statistics':>16}  {summary.statistics}")


if __name__ == "__main__":
    main()

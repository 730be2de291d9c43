"""``headcount keys``: which windows have a key, which had one, and a new key-encryption key. Never a byte of any."""

from contextlib import closing
from datetime import datetime
from typing import Any

import click
import msgspec

from pipeline.core.windows import date_of, window_named
from pipeline.settings import Settings


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="A JSON list of objects instead of a table.")
@click.pass_context
def keys(context: click.Context, as_json: bool) -> None:
    """List the windows' keys: live or destroyed, and since when. Never their bytes.

    A window's key is live until the window is released; then it is destroyed, and never drawn again. `route` is no
    window's: by it, rows find their partition. A live key that is wrapped under an older key-encryption key waits for
    `headcount keys rotate`. Of a destroyed key nothing is left, or Kafka has yet to compact the topic.

    \b
    headcount keys
    headcount keys --json
    headcount keys rotate
    """
    if context.invoked_subcommand is not None:
        return
    from pipeline.cli import explained
    from pipeline.stream.keys import open_keys

    with explained(), closing(open_keys(Settings.from_environment(), make=False)) as store:
        rows = [_row(each) for each in store.states()]
    if as_json:
        click.echo(msgspec.json.encode(rows).decode())
        return
    for row in rows:
        click.echo(f"{row['id']:18} {row['state']:10} {_moment(row['drawn'], row['destroyed'])}  {_note(row)}".rstrip())
    live = sum(row["state"] == "live" for row in rows)
    click.echo(f"{live} live, {len(rows) - live} destroyed")


@keys.command()
def rotate() -> None:
    """Wrap every live key anew under the first key-encryption key.

    Put a new key on the first line of HEADCOUNT_KEK_FILE, above the old one, and restart the workers; run this; remove
    the old line, and restart the workers again. However it is broken off, each key can be unwrapped by the one or the
    other: run it again.
    """
    from pipeline.cli import explained
    from pipeline.stream.keys import open_keys

    with explained(), closing(open_keys(Settings.from_environment(), make=False)) as store:
        done = store.rotate()
        older = sum(each.current is False for each in store.states())
    click.echo(f"{done} keys wrapped anew, {older} left under an older key-encryption key")
    if older:
        raise click.ClickException(
            "a worker that was not restarted has drawn a key meanwhile: restart it, run this again"
        )


def _row(key: Any) -> dict[str, Any]:
    """A key as people and machines see it: what the store says, and the window's kind and dates."""
    row = {"id": key.id, "window": None, "start": None, "end": None, **key._asdict()}
    try:
        window = window_named(key.id)
    except ValueError:  # the route
        return row
    return row | {"window": window.kind, "start": date_of(window.start), "end": date_of(window.end)}


def _moment(drawn: datetime | None, destroyed: datetime | None) -> str:
    return f"since {at:%Y-%m-%d %H:%M} UTC" if (at := destroyed or drawn) else ""


def _note(row: dict[str, Any]) -> str:
    if row["current"] is False:
        return "under an older key-encryption key"
    return "its bytes are still in the store" if row["erased"] is False else ""

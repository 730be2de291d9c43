"""The page for operators says what the code does."""

import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import click
import pytest

from pipeline.asyncapi import OPERATIONS
from pipeline.cli import main
from pipeline.core.events import MAX_EVENT, MAX_EVENTS, MAX_RECORD
from pipeline.core.outcomes import Reason
from pipeline.settings import SCHEMAS, Settings, group_of
from pipeline.stream.acls import ROLES
from pipeline.stream.app import EXIT_SOFTWARE
from pipeline.stream.releaselog import TRANSACTIONAL_ID
from pipeline.stream.topics import DAY_MS, HOUR_MS, KEYS, TOPICS, Topic
from tests.deployment.files import ROOT

TEXT = (ROOT / "docs" / "operators.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The rows of the table with this first column, as texts without backticks."""
    lines = TEXT[TEXT.index(f"| {heading} |") :].split("\n\n")[0].strip().splitlines()
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(topics: Iterable[str]) -> str:
    order = [topic.name for topic in TOPICS]
    return " ".join(sorted(set(topics), key=order.index))


def test_the_settings_are_all_there_as_they_are() -> None:
    def shown(default: object) -> str:
        return f"schemas/{default.name}" if isinstance(default, Path) and default.parent == SCHEMAS else str(default)

    expected = [[f.metadata["name"], shown(f.default), f.metadata["text"]] for f in fields(Settings)]
    assert table("variable") == expected


def test_the_reasons_are_all_there_in_their_order() -> None:
    assert [row[0] for row in table("reason")] == [str(reason) for reason in Reason]
    limits = (
        f"more than {MAX_RECORD >> 20} MiB in a record, {MAX_EVENT >> 10} KiB in an event, or {MAX_EVENTS:,} events"
    )
    assert limits in TEXT


def test_the_topics_are_those_that_are_made() -> None:
    def kept(topic: Topic) -> str:
        milliseconds = int(topic.config["retention.ms"])
        if topic.name == KEYS:
            return "until destroyed"
        hours = milliseconds // HOUR_MS
        return "for ever" if milliseconds < 0 else f"{hours} hours" if hours < 72 else f"{milliseconds // DAY_MS} days"

    expected = [[t.name, str(t.partitions), kept(t), t.config["cleanup.policy"]] for t in TOPICS]
    assert table("topic") == expected


def test_principals_get_what_their_operations_need() -> None:
    expected = []
    for principal in ROLES:
        theirs = [each for each in OPERATIONS if each.role == principal]
        writes, reads = (names(e.topic for e in theirs if e.action == action) for action in ("send", "receive"))
        expected.append([principal, writes, reads])
    assert table("principal") == expected
    assert f"`{TRANSACTIONAL_ID}`" in TEXT
    assert f"in the group `{Settings().group}`" in TEXT
    assert f"`{group_of(Settings().group, ['ingest'])}`" in TEXT


def test_the_exit_code_of_a_worker_is_the_one_it_has() -> None:
    assert f"it exits with {EXIT_SOFTWARE}," in TEXT


def commands() -> list[list[str]]:
    blocks = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    written = "\n".join([*blocks, *re.findall(r"`(headcount [^`]+)`", TEXT)])
    return [found.split() for found in re.findall(r"headcount ([a-z][^\n>&|;]*)", written)]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_exists_with_its_options(command: list[str]) -> None:
    found = main.commands[command[0]]
    options = {name for parameter in found.params if isinstance(parameter, click.Option) for name in parameter.opts}
    assert {word for word in command if word.startswith("--")} <= options


def test_what_the_page_points_at_exists() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
    assert (ROOT / "CHANGELOG.md").exists()

"""What goes wrong before anything runs is one line that says what to do, exit code 1, and no traceback."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import main
from pipeline.settings import SCHEMAS
from pipeline.stream.broker import embedded_broker

POLICY = (SCHEMAS / "policy.toml").read_text()
FIELDS = (SCHEMAS / "fields.toml").read_text()
STATISTICS = (SCHEMAS / "statistics.toml").read_text()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command in a directory and an environment of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events.ndjson").write_text('{"specversion": "1.0", "subject": "jan.jansen@voorbeeld.example"}\n')
    (tmp_path / "events.csv").write_text("who\njan.jansen@voorbeeld.example\n")

    def runner(*arguments: str, **environment: str) -> Result:
        return CliRunner(env={"HEADCOUNT_DATA": str(tmp_path / "data"), **environment}).invoke(main, arguments)

    return runner


def assert_explained(result: Result, *words: str) -> None:
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1
    *_, said = lines = result.output.splitlines()  # before it the log may speak: of a broker that is slow to answer
    assert [line for line in lines if line.startswith("Error: ")] == [said]
    assert "Traceback" not in result.output
    assert all(word in result.output for word in words), result.output
    assert "jansen" not in result.output


# The option, the file's content, and what the line must say.
DECLARATIONS = {
    "a policy that is no TOML": ("--policy", "no toml", ["file.toml"]),
    "a policy of bytes": ("--policy", "\udcff\udcfe", ["file.toml"]),
    "an empty policy": ("--policy", "", ["file.toml", "version"]),
    "a policy without budget": ("--policy", POLICY.partition("[budget]")[0], ["file.toml", "budget"]),
    "a budget in words": ("--policy", POLICY.replace("day = 0.010", 'day = "much"'), ["file.toml", "budget.day"]),
    "a negative budget": ("--policy", POLICY.replace("day = 0.010", "day = -1"), ["file.toml", "rho"]),
    "a month over its cap": ("--policy", POLICY.replace("day = 0.010", "day = 0.1"), ["epsilon", "lower rho"]),
    "a time zone that is none": ("--policy", POLICY.replace('"UTC"', '"Europe/Utopia"'), ["file.toml", "timezone"]),
    "statistics that are no TOML": ("--statistics", "[", ["file.toml"]),
    "a statistic of an unknown field": (
        "--statistics",
        STATISTICS.replace('["platform"]', '["shoe_size"]'),
        ["shoe_size"],
    ),
    "a statistic without users": (
        "--statistics",
        STATISTICS.replace('measures = ["users", "events"]', 'measures = ["events"]'),
        ["file.toml", "users"],
    ),
    "a statistic of a window that is none": (
        "--statistics",
        STATISTICS.replace("histogram =", 'windows = ["hour"]\nhistogram ='),
        ["file.toml", "hour"],
    ),
    "a bound for some windows only": (
        "--statistics",
        STATISTICS.replace("{ day = 5, week = 10, month = 20 }", "{ day = 5 }"),
        ["max_events", "week"],
    ),
    "fields that are no TOML": ("--fields", "==", ["file.toml"]),
    "a catalogue without other": ("--fields", FIELDS.replace('"linux", "other"', '"linux"'), ["file.toml", "other"]),
    "a kind of field that is none": (
        "--fields",
        FIELDS.replace('kind = "version"', 'kind = "text"'),
        ["file.toml", "kind"],
    ),
    "a field without an end": ("--fields", FIELDS.replace("until = 2027-12-31\n", "", 1), ["file.toml", "until"]),
    "fields of which one has ended": ("--fields", FIELDS.replace("2028-12-31", "2020-12-31", 1), ["feature"]),
}


@pytest.mark.parametrize("case", DECLARATIONS)
def test_a_replay_explains(run: Callable[..., Result], tmp_path: Path, case: str) -> None:
    option, text, words = DECLARATIONS[case]
    (tmp_path / "file.toml").write_bytes(text.encode(errors="surrogateescape"))
    assert_explained(run("replay", "events.ndjson", "--to", "out", option, "file.toml"), *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "case", ["a policy that is no TOML", "a month over its cap", "a statistic of an unknown field"]
)
def test_the_worker_refuses_to_start_and_explains(run: Callable[..., Result], tmp_path: Path, case: str) -> None:
    option, text, words = DECLARATIONS[case]
    (tmp_path / "file.toml").write_text(text)
    assert_explained(run("worker", **{f"HEADCOUNT_{option[2:].upper()}": "file.toml"}), *words)


def test_the_worker_refuses_to_start_without_a_key(run: Callable[..., Result]) -> None:
    assert_explained(run("worker"), "HEADCOUNT_KEK_FILE", "headcount kek")


COMMANDS = {
    "worker": ["worker"],
    "topics": ["topics"],
    "emit": ["emit", "events.ndjson"],
    "project": ["project", "--once"],
    "rebuild": ["rebuild"],
    "replay": ["replay", "events.ndjson", "--to", "out"],
    "settings": ["settings"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_a_wrong_setting_by_its_name(run: Callable[..., Result], command: str) -> None:
    result = run(*COMMANDS[command], HEADCOUNT_SESSION_TIMEOUT="soon")
    assert_explained(result, "HEADCOUNT_SESSION_TIMEOUT is not a number")


@pytest.mark.parametrize("command", ["worker", "emit", "project", "rebuild"])
def test_every_command_says_that_the_topics_are_missing(run: Callable[..., Result], command: str) -> None:
    kek = run("kek").output.strip()
    with embedded_broker() as address:
        result = run(*COMMANDS[command], KAFKA_BOOTSTRAP_SERVERS=address, HEADCOUNT_KEK=kek, HEADCOUNT_KEYS="keys")
    assert_explained(result, "topic")


def test_a_table_needs_a_mapping(run: Callable[..., Result]) -> None:
    assert_explained(run("replay", "events.csv", "--to", "out"), "events.csv needs --map")


def test_a_damaged_file_is_explained(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "events.ndjson.gz").write_bytes((tmp_path / "events.ndjson").read_bytes())
    assert_explained(run("replay", "events.ndjson.gz", "--to", "out"), "events.ndjson.gz")


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay", "absent.ndjson", "--to", "out"],
        ["replay", "--to", "out"],
        ["replay", "events.ndjson"],
        ["replay", "events.ndjson", "--to", "out", "--policy", "absent.toml"],
        ["replay", "events.ndjson", "--to", "out", "--workers", "0"],
        ["replay", "events.ndjson", "--to", "out", "--from", "May"],
        ["topics", "--partitions", "0"],
        ["emit", "absent.ndjson"],
    ],
)
def test_a_command_that_is_used_wrongly_shows_how_it_is_used(run: Callable[..., Result], arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.output
    assert "Traceback" not in result.output


def test_a_span_that_ends_before_it_begins_is_refused(run: Callable[..., Result]) -> None:
    result = run("replay", "events.ndjson", "--to", "out", "--from", "2026-05-02", "--until", "2026-05-01")
    assert result.exit_code in (1, 2)
    assert "--until" in result.output


def test_secrets_are_never_listed(run: Callable[..., Result]) -> None:
    secrets = {"HEADCOUNT_KEK": "c2VjcmV0LWtleQ==", "KAFKA_SASL_PASSWORD": "hunter2"}
    for arguments in (["settings"], ["settings", "--json"]):
        result = run(*arguments, **secrets)
        assert result.exit_code == 0
        assert "HEADCOUNT_KEK" in result.output
        assert not any(secret in result.output for secret in secrets.values())


def test_a_worker_starts_without_what_analysts_need() -> None:
    code = "import sys, pipeline.cli, pipeline.worker; print(*{'duckdb', 'pandas', 'altair'} & sys.modules.keys())"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert loaded.stdout == "\n"

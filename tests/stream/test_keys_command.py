"""``headcount keys``: what there is, of both kinds of store, and a new key-encryption key; never a byte of any key."""

import base64
import json
import secrets
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import main
from pipeline.core.windows import window_named
from pipeline.settings import Settings
from pipeline.stream.keys import KeyState, SharedKeys, open_keys
from tests.deployment.files import ROOT

DAY, MAY = window_named("day-2026-05-05"), window_named("month-2026-05-01")


def kek() -> str:
    return CliRunner().invoke(main, ["kek"]).output.strip()


OLD, NEW = kek(), kek()


@pytest.fixture(params=["files", "topic"])
def environment(request: pytest.FixtureRequest, tmp_path: Path, kafka: dict[str, Any]) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka["bootstrap_servers"][0],
        "HEADCOUNT_KEYS": "kafka:" if request.param == "topic" else str(tmp_path / "keys"),
        "HEADCOUNT_KEK": OLD,
    }


def opened(environment: dict[str, str]) -> SharedKeys:
    return open_keys(Settings.from_environment(environment))


def run(environment: dict[str, str], *arguments: str) -> Result:
    return CliRunner(env=environment).invoke(main, arguments)


@pytest.fixture
def drawn(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """A store with a live key and a destroyed one; gives all keys that were drawn, in the clear."""
    made: list[bytes] = []
    token_bytes = secrets.token_bytes

    def remembered(size: int) -> bytes:
        made.append(token_bytes(size))
        return made[-1]

    with monkeypatch.context() as patch:
        patch.setattr(secrets, "token_bytes", remembered)
        with closing(opened(environment)) as store:
            store.route()
            store.window(MAY)
            store.window(DAY)
            store.destroy(DAY)
    return [each for each in made if len(each) == 32]


def test_the_keys_are_listed_by_window_and_state(environment: dict[str, str], drawn: list[bytes]) -> None:
    result = run(environment, "keys", "--json")
    assert result.exit_code == 0
    day, month, route = json.loads(result.output)
    in_topic = environment["HEADCOUNT_KEYS"] == "kafka:"
    assert day | {"destroyed": None} == {
        "id": "day-2026-05-05",
        "window": "day",
        "start": "2026-05-05",
        "end": "2026-05-06",
        "state": "destroyed",
        "drawn": None,
        "destroyed": None,
        "current": None,
        "erased": not in_topic,
    }
    assert month | {"drawn": None} == {
        "id": "month-2026-05-01",
        "window": "month",
        "start": "2026-05-01",
        "end": "2026-06-01",
        "state": "live",
        "drawn": None,
        "destroyed": None,
        "current": True,
        "erased": None,
    }
    assert day["destroyed"] >= month["drawn"] or not in_topic
    assert all(at.startswith("20") for at in (day["destroyed"], month["drawn"]))
    assert (route["id"], route["window"], route["state"]) == ("route", None, "live")


def test_the_table_is_for_people_and_shows_no_key(environment: dict[str, str], drawn: list[bytes]) -> None:
    result = run(environment, "keys")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].split()[:3] == ["day-2026-05-05", "destroyed", "since"]
    assert lines[1].split()[:3] == ["month-2026-05-01", "live", "since"]
    assert lines[-1] == "2 live, 1 destroyed"
    assert ("its bytes are still in the store" in lines[0]) == (environment["HEADCOUNT_KEYS"] == "kafka:")
    assert len(drawn) == 3
    for key in (*drawn, base64.b64decode(OLD)):
        for form in (key.hex(), base64.b64encode(key).decode(), repr(key)):
            assert form[:12] not in result.output + run(environment, "keys", "--json").output


def test_a_new_key_encryption_key_takes_over(environment: dict[str, str], drawn: list[bytes]) -> None:
    with closing(opened(environment)) as store:
        key = store.window(MAY)
    both = environment | {"HEADCOUNT_KEK": f"{NEW}\n{OLD}\n"}
    assert "under an older key-encryption key" in run(both, "keys").output
    result = run(both, "keys", "rotate")
    assert (result.exit_code, result.output) == (0, "2 keys wrapped anew, 0 left under an older key-encryption key\n")
    assert run(both, "keys", "rotate").output.startswith("0 keys wrapped anew, 0 left")
    assert "under an older" not in run(both, "keys").output
    with closing(opened(environment | {"HEADCOUNT_KEK": NEW})) as store:
        again = store.window(MAY)
        assert store.window(DAY) is None
    assert key is not None
    assert again is not None
    assert key.pseudonym("somebody") == again.pseudonym("somebody")
    with pytest.raises(Exception, match="cannot be unwrapped"), closing(opened(environment)) as store:
        store.window(MAY)


def test_the_job_does_what_the_command_does(environment: dict[str, str], drawn: list[bytes]) -> None:
    job = subprocess.run(
        [sys.executable, "-m", "jobs.rotate_keys"],
        env=environment | {"HEADCOUNT_KEK": f"{NEW} {OLD}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert job.stdout == "2 keys wrapped anew, 0 left under an older key-encryption key\n"


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "no key-encryption key": ({"HEADCOUNT_KEK": ""}, "HEADCOUNT_KEK_FILE"),
    "a file of it that is not there": ({"HEADCOUNT_KEK_FILE": "absent"}, "HEADCOUNT_KEK_FILE cannot be read"),
    "a directory that is not there": ({"HEADCOUNT_KEYS": "absent"}, "there are no keys in absent: set HEADCOUNT_KEYS"),
    "a topic by its name": ({"HEADCOUNT_KEYS": "kafka:other"}, "HEADCOUNT_KEYS is a directory, or kafka:"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("command", [["keys"], ["keys", "rotate"]], ids=" ".join)
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    changes, says = REFUSED[case]
    result = run({"HEADCOUNT_KEYS": "keys", "HEADCOUNT_KEK": OLD} | changes, *command)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    assert says in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("role", ["tally", "release"])
def test_a_worker_that_does_not_ingest_begins_with_the_keys_of_those_that_do_and_draws_none(
    tmp_path: Path, kafka: dict[str, Any], role: str
) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)  # as where a directory is not the one that is shared
    worker = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "worker", "--roles", role],
        env={
            "KAFKA_BOOTSTRAP_SERVERS": kafka["bootstrap_servers"][0],
            "HEADCOUNT_KEYS": str(tmp_path / "keys"),
            "HEADCOUNT_KEK": OLD,
            "HEADCOUNT_CHECKPOINTS": str(tmp_path / "checkpoints"),
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert worker.returncode == 1
    assert "there are no keys in" in worker.stderr
    assert list(tmp_path.rglob("*")) == [tmp_path / "keys"]


def test_the_wrong_key_encryption_key_is_refused(environment: dict[str, str], drawn: list[bytes]) -> None:
    result = run(environment | {"HEADCOUNT_KEK": NEW}, "keys", "rotate")
    assert result.exit_code == 1
    assert "a key cannot be unwrapped" in result.output
    assert OLD not in result.output


def test_looking_writes_nothing(environment: dict[str, str], drawn: list[bytes], tmp_path: Path) -> None:
    def left() -> list[KeyState]:
        with closing(opened(environment)) as store:
            return store.states()

    before, files = left(), sorted(tmp_path.rglob("*"))
    for arguments in (["keys"], ["keys", "--json"]):
        assert run(environment, *arguments).exit_code == 0
    assert (left(), sorted(tmp_path.rglob("*"))) == (before, files)

"""``headcount simulate``."""

import gzip
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.simulation.command import simulate

SMALL = ["--users", "60", "--days", "3"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(simulate, [*SMALL, *arguments])


def test_events_go_to_standard_output_one_a_line() -> None:
    result = run()
    assert result.exit_code == 0
    assert all(line.startswith('{"specversion":"1.0"') for line in result.stdout.splitlines())
    assert len(result.stdout.splitlines()) > 50


@pytest.mark.parametrize("name", ["events.ndjson", "new/events.ndjson.gz"])
def test_a_file_holds_the_same_compressed_or_not(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    assert run("--to", str(file)).exit_code == 0
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    assert content == run().stdout_bytes


def test_the_same_seed_gives_the_same_compressed_file(tmp_path: Path) -> None:
    files = [tmp_path / name / "events.ndjson.gz" for name in ("one", "two")]
    for file in files:
        run("--to", str(file))
    assert files[0].read_bytes() == files[1].read_bytes()


def test_seed_and_first_day_change_the_events() -> None:
    assert run("--seed", "2").stdout != run().stdout
    assert '"time":"2026-01-05T' in run("--from", "2026-01-05").stdout


def test_broken_lines_come_only_when_asked_for() -> None:
    more = set(run("--broken").stdout.splitlines()) - set(run().stdout.splitlines())
    assert 3 <= len(more) <= 18


def test_a_file_that_cannot_be_written_is_explained_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("--to", str(tmp_path / "file" / "events.ndjson"))
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
    assert len(result.stderr.splitlines()) == 1

"""``headcount demo``: the real pipeline at a small size, against what is known of the simulation."""

import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.core.outcomes import Reason
from pipeline.demo import demo
from pipeline.demo.command import NOTEBOOK_DATA
from pipeline.simulation import Day, reaching, simulate
from pipeline.warehouse.reader import Statistics

FIRST = date(2026, 6, 1)
USERS, DAYS = 800, 10

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def run(directory: Path, users: int, days: int, *more: str) -> Result:
    arguments = ["--users", str(users), "--days", str(days), "--workers", "1", "--to", str(directory), *more]
    return CliRunner().invoke(demo, arguments, catch_exceptions=False)


@pytest.fixture(scope="module")
def days() -> list[Day]:
    """What the demo simulates."""
    return list(simulate(1, USERS, FIRST, DAYS))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "new"


@pytest.fixture(scope="module")
def summary(directory: Path) -> dict[str, Any]:
    """What a small demo prints."""
    result = run(directory, USERS, DAYS, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def test_in_is_accepted_plus_rejected_and_all_that_was_emitted(summary: dict[str, Any], days: list[Day]) -> None:
    assert summary["events_in"] == summary["accepted"] + sum(summary["rejected"].values())
    assert summary["emitted"] == sum(len(day.uses) for day in reaching(days))
    assert summary["broken"] == sum(len(day.broken) for day in days)
    assert summary["events_in"] == summary["emitted"] + summary["broken"]


def test_late_duplicate_and_broken_events_are_each_rejected_for_their_reason(
    summary: dict[str, Any], days: list[Day]
) -> None:
    let_through = list(reaching(days))
    expected = Counter(str(broken.reason) for day in days for broken in day.broken)
    # The policy's lateness is two days: what comes on the third day after its own is late.
    expected[Reason.LATE] = sum((day.date - use.time.date()).days >= 3 for day in let_through for use in day.uses)
    expected[Reason.DUPLICATE] = sum(len(day.uses) - len(set(day.uses)) for day in let_through)
    assert summary["rejected"] == expected
    assert expected[Reason.LATE]
    assert expected[Reason.DUPLICATE]


def test_events_of_subjects_who_opted_out_never_leave_the_emitter(summary: dict[str, Any], days: list[Day]) -> None:
    held_back = sum(len(day.uses) for day in days) - sum(len(day.uses) for day in reaching(days))
    assert summary["opted_out"] == held_back > 0


def test_every_window_of_the_simulated_days_is_published(
    summary: dict[str, Any], directory: Path, days: list[Day]
) -> None:
    assert summary["windows"] == {"day": DAYS, "week": 2, "month": 1}
    with Statistics(directory) as statistics:
        users = statistics.frame("active_users")
        assert statistics.path.parent == directory / "snapshots"
    assert [start.date() for start in users["start"]] == [day.date for day in days]
    # Six standard deviations: a run in a hundred million is wrong.
    exact = [len({use.subject for use in day.uses} - {None}) for day in reaching(days)]
    assert users["users"].tolist() == pytest.approx(exact, abs=6 * 26.7)


def test_the_picture_is_an_svg_that_shows_the_statistics(summary: dict[str, Any]) -> None:
    picture = Path(summary["picture"]).read_text()
    assert picture.startswith("<svg")
    assert "Users on a day" in picture


def test_it_runs_again_and_replaces_what_was_there(
    summary: dict[str, Any], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "mine.txt").write_text("kept")
    monkeypatch.setenv("DO_NOT_TRACK", "1")  # of whoever runs it; the simulated users are nobody
    result = run(directory, 100, 4)
    assert result.exit_code == 0, result.output
    assert "1 of 4 days emitted" in result.stderr.splitlines()[0]
    assert "6 of 6 windows released" in result.stderr.splitlines()[-1]  # four days, a week and a month
    assert "ε ≤ 5.99 per subject and calendar month" in result.stdout
    assert "Users on a day" in result.stdout
    with Statistics(directory) as statistics:
        assert len(statistics.frame("active_users")) == 4
    assert (directory / "mine.txt").read_text() == "kept"


def test_a_second_demo_in_the_same_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    from pipeline.warehouse.projector import Projector

    with Projector(tmp_path, {"bootstrap_servers": ["127.0.0.1:1"]}):
        result = run(tmp_path, 100, 3)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_directory_that_cannot_be_made_is_explained_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run(tmp_path / "file" / "demo", 100, 3)
    assert result.exit_code == 1
    assert "cannot be made" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_its_directory_is_the_one_in_which_the_notebook_looks() -> None:
    notebook = Path(__file__).parents[2] / "notebooks" / "usage.ipynb"
    assert f'"{NOTEBOOK_DATA.as_posix()}"' in notebook.read_text().replace("\\", "")

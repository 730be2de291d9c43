"""``headcount show``: the numbers with their bars, for people and for scripts."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from duckdb import DuckDBPyConnection

from pipeline.show import show
from pipeline.warehouse.snapshots import publish
from pipeline.warehouse.tables import apply
from pipeline.warehouse.work import open_work

from .conftest import build_open_release, build_release, dimension, measure


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(show, arguments)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory with three statistics."""
    directory = tmp_path_factory.mktemp("home")
    alone = [measure("users", 20.0)]
    releases = [build_release("active", window="month", dimensions=[], values=[[12_345], [5]])]
    for day, users in (("2026-05-01", 900), ("2026-05-02", 450), ("2026-05-03", -9)):
        releases += [
            build_release(day=day, values=[[users, 30, 500, 0], [1, 2, 3, 4]]),
            build_open_release(day),
            build_release(
                "active", day, dimensions=[], measures=alone, values=[[users]], description="how many use it"
            ),
        ]
    # on the fourth day two cells are held back
    releases.append(build_open_release("2026-05-04", cells=[("search", "web")], values=[[1_000], [5_000]]))
    with open_work(directory / "work.duckdb") as connection:
        apply(connection, releases)
        publish(connection, directory)
    return str(directory)


def test_without_a_name_it_lists_what_there_is(home: str) -> None:
    output = run("--from", home)
    for text in (
        "active",
        "by_platform",
        "feature_use",
        "feature, platform",
        "users, events",
        "how many use it",
    ):
        assert text in output
    assert "protects nobody" not in output


def test_numbers_are_printed_with_their_bar_and_grade(home: str) -> None:
    output = run("active", "--from", home)
    lines = [line for line in output.splitlines() if "2026" in line]
    assert ["2026-05-03" in lines[0], "2026-05-01" in lines[2]] == [True, True]
    assert "-9 ± 39" in lines[0]
    assert "noise" in lines[0]
    assert "900 ± 39" in lines[2]
    assert "precise" in lines[2]


def test_a_month_is_shown_when_asked_for(home: str) -> None:
    assert "12,345 ± 39" in run("active", "--window", "month", "--from", home)


def test_the_total_and_what_is_held_back_are_told(home: str) -> None:
    output = run("feature_use", "--from", home)
    assert "All users of 2026-05-04: 2,900 ± 59" in output
    assert "In no cell that is shown: 9,700 ± 283 events" in output


def test_by_some_dimensions_events_are_added_with_their_bars(home: str) -> None:
    output = run("feature_use", "--by", "feature", "--from", home)
    assert "4,000 ± 222" in output  # two cells: 1.96 · 80 · √2
    assert "users  " not in output
    rows = json.loads(run("feature_use", "--by", "feature", "--json", "--from", home))["rows"]
    assert [row["feature"] for row in rows] == [
        "search",
        "export",
        "search",
        "export",
        "search",
        "export",
        "search",
    ]
    assert rows[1]["events_variance"] == 2 * 80**2


def test_users_are_never_added_over_cells(work: DuckDBPyConnection, tmp_path: Path) -> None:
    two = [dimension("plan", "free", "paid"), dimension("platform", "ios", "web")]
    apply(work, [build_release(dimensions=two, measures=[measure("users", 20.0)])])
    publish(work, tmp_path)
    assert "users cannot be added up" in run("by_platform", "--by", "plan", "--from", str(tmp_path), code=1)
    assert "100 ± 39" in run("by_platform", "--by", "plan", "--by", "platform", "--from", str(tmp_path))


def test_a_sparkline_shows_a_cell_over_time_and_where_it_was_held_back(home: str) -> None:
    [line] = [line for line in run("active", "--sparkline", "--from", home).splitlines() if "±" in line]
    assert "█▅▁" in line or "█▄▁" in line
    assert "-9 ± 39" in line
    lines = run("feature_use", "--sparkline", "--from", home).splitlines()
    [held] = [line for line in lines if "export" in line and "ios" in line]
    assert "███·" in held


def test_a_limit_says_what_it_left_out(home: str) -> None:
    output = run("by_platform", "--limit", "5", "--from", home)
    assert output.count("2026-05-0") == 5
    assert "7 more: --limit 12" in output


def test_json_is_for_scripts(home: str) -> None:
    found: dict[str, Any] = json.loads(run("active", "--json", "--from", home))
    assert found["statistic"] == "active"
    assert found["warning"] is None
    assert [row["users"] for row in found["rows"]] == [-9, 450, 900]
    assert found["rows"][0]["start"] == "2026-05-03"
    assert found["rows"][0]["users_upper"] == pytest.approx(-9 + 39.2, abs=0.01)
    assert found["rows"][0]["events"] is None
    listed = json.loads(run("--json", "--from", home))
    assert [row["statistic"] for row in listed["statistics"]] == ["active", "by_platform", "feature_use"]
    assert listed["statistics"][2]["dimensions"] == ["feature", "platform"]


def test_a_policy_for_tests_is_announced(work: DuckDBPyConnection, tmp_path: Path) -> None:
    apply(work, [build_release(protects=False, policy="exact")])
    publish(work, tmp_path)
    for arguments in (
        [],
        ["by_platform"],
        ["--json"],
        ["by_platform", "--json"],
        ["by_platform", "--sparkline"],
    ):
        assert "policy exact protects nobody: for tests only" in run(*arguments, "--from", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing_such"], "there are: active, by_platform, feature_use"),
        (["active", "--by", "moon"], "active has no dimension moon; it has: none"),
        (["by_platform", "--window", "week"], ""),
    ],
)
def test_errors_say_what_there_is_instead(home: str, arguments: list[str], message: str) -> None:
    assert message in run(*arguments, "--from", home, code=1 if message else 0)


def test_a_window_without_releases_says_so(home: str) -> None:
    assert "There is no week of it in which a cell was shown." in run("active", "--window", "week", "--from", home)


def test_a_directory_without_statistics_says_what_to_run(tmp_path: Path) -> None:
    assert "make demo" in run("--from", str(tmp_path), code=1)


def test_the_directory_comes_from_the_settings(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADCOUNT_DATA", home)
    assert "feature_use" in run()


def test_the_help_teaches_by_example() -> None:
    output = run("--help")
    assert "headcount show feature_use --by feature" in output

"""docs/analysts.md is run: every query, every line of Python and every command in it works on a file of statistics."""

import re
import shlex
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.warehouse.snapshots import LINK, publish
from pipeline.warehouse.tables import apply
from pipeline.warehouse.work import open_work

from .conftest import build_open_release, build_release, measure

PAGE = (Path(__file__).parents[2] / "docs" / "analysts.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which ``var/statistics`` has what the page speaks of."""
    home = tmp_path_factory.mktemp("home")
    directory = home / "var" / "statistics"
    directory.mkdir(parents=True)
    users = [measure("users", 20.0)]
    with open_work(directory / "work.duckdb") as connection:
        for day in ("2026-05-01", "2026-05-02", "2026-05-08"):
            apply(
                connection, [build_open_release(day), build_release("active_users", day, dimensions=[], measures=users)]
            )
        weekly = build_open_release(window="week")
        apply(connection, [weekly, build_release("active_users", window="month", dimensions=[], measures=users)])
        publish(connection, directory)
    return home


@pytest.mark.parametrize("query", blocks("sql"))
def test_every_query_of_the_page_finds_something(home: Path, query: str) -> None:
    with duckdb.connect(str(home / "var" / "statistics" / LINK), read_only=True) as connection:
        assert connection.execute(query).fetchall()


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_of_the_page_runs(home: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102 - the page's own code
    assert all(len(names[name]) for name in ("weekly", "totals", "monthly"))  # type: ignore[arg-type]


@pytest.mark.parametrize("line", [line for block in blocks("console") for line in block.splitlines()])
def test_every_command_of_the_page_runs(home: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.delenv("HEADCOUNT_DATA", raising=False)
    prompt, program, command, *arguments = shlex.split(line)
    assert (prompt, program) == ("$", "headcount")
    result = CliRunner().invoke(main, [command, *arguments])
    assert result.exit_code == 0, result.output
    assert "There is no" not in result.output


def test_every_macro_of_the_page_exists_and_every_macro_is_told_of(home: Path) -> None:
    with duckdb.connect(str(home / "var" / "statistics" / LINK), read_only=True) as connection:
        rows = connection.execute("SELECT function_name FROM duckdb_functions() WHERE NOT internal").fetchall()
    unmentioned = {name for (name,) in rows if name not in PAGE}
    assert unmentioned <= {"lower95", "upper95"}  # of which the views are made

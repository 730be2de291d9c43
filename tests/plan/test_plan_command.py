"""``headcount plan`` and ``headcount policy``: figures, pictures, and one line for what is wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pipeline.cli import main
from pipeline.core.budget import epsilon
from pipeline.core.windows import KINDS
from pipeline.plan.population import Population, read_cells, read_events
from pipeline.plan.proposal import propose, released_population, with_bounds
from pipeline.settings import SCHEMAS
from pipeline.testing import declarations
from pipeline.warehouse.snapshots import publish
from pipeline.warehouse.tables import apply
from pipeline.warehouse.work import open_work
from tests.plan.simulating import simulate

DECLARED = declarations()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def run_json(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


# -- policy


def test_the_policy_prints_every_charge_and_the_price_of_a_month_and_a_year() -> None:
    found = run_json("policy")
    charges = list(DECLARED.accountant.charges())
    assert [(each["statistic"], each["measure"], each["window"]) for each in found["releases"]] == [
        (charge.statistic, charge.measure, charge.kind) for charge in charges
    ]
    assert [each["sigma"] for each in found["releases"]] == [charge.price.sigma for charge in charges]
    assert found["month"]["rho"] == pytest.approx(0.42)
    assert found["month"]["epsilon"] == pytest.approx(found["month"]["epsilon_accountant"], rel=1e-6)
    assert found["year"]["epsilon"] == pytest.approx(epsilon(12 * 0.42, 5e-10), rel=1e-6)
    text = run("policy").output
    assert "5.99" in text
    assert "24.87" in text


def test_the_tighter_figure_is_tighter_and_near_that_of_one_gaussian() -> None:
    """All noise together is nearly one Gaussian with μ = √(2ρ), whose ε at 5e-10 is 5.714 (Balle and Wang 2018)."""
    pytest.importorskip("dp_accounting")
    found = run_json("policy")
    assert found["month"]["epsilon_pld"] == pytest.approx(5.714, abs=0.005)
    for span in ("month", "year"):
        assert 0.9 * found[span]["epsilon"] < found[span]["epsilon_pld"] < found[span]["epsilon"]


def test_a_policy_that_protects_nobody_says_so() -> None:
    assert "protects nobody" in run("policy", "--policy", str(SCHEMAS / "exact.toml")).output
    assert run_json("policy", "--policy", str(SCHEMAS / "exact.toml"))["month"]["epsilon"] is None


@pytest.mark.parametrize("command", [("policy",), ("plan", "--users", "1000")])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("day = 0.010", "day = 0.1"), ["lower rho"]),
        (("max_epsilon = 6.0", "max_epsilon = 2.0"), ["the policy allows 2", "raise max_epsilon"]),
        (('"discrete_gaussian"', '"laplace"'), ["budget", 'write mechanism = "discrete_gaussian"']),
        (("[budget]", "[budget]\nbudget_for_friends = 1.0"), ["budget_for_friends"]),
    ],
)
def test_a_policy_that_is_not_covered_is_refused_in_one_line(
    tmp_path: Path, command: tuple[str, ...], change: tuple[str, str], words: list[str]
) -> None:
    text = (SCHEMAS / "policy.toml").read_text()
    assert change[0] in text
    (tmp_path / "policy.toml").write_text(text.replace(*change))
    result = run(*command, "--policy", str(tmp_path / "policy.toml"))
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    assert all(word in result.output for word in words), result.output


# -- plan


def test_a_plan_says_what_will_be_shown_and_what_it_costs() -> None:
    found = run_json("plan", "--users", "20000", "--events", "30")
    assert [each["kind"] for each in found["windows"]] == list(KINDS)
    assert [each["cells"] for each in found["windows"]] == [500] * 3
    shown = [each["shown"] for each in found["windows"]]
    assert shown == sorted(shown)
    assert found["epsilon"]["month"] == pytest.approx(5.99, abs=0.005)
    text = run("plan", "--users", "20000", "--events", "30").output
    assert "epsilon 5.99 a month, 24.9 a year" in text
    assert "█" in text


def test_a_file_of_counts_names_the_cells_that_will_be_shown(tmp_path: Path) -> None:
    counts = tmp_path / "counts.csv"
    counts.write_text("feature,platform,events\nsearch,web,60000\nexport,web,30\nlogin,ios,40000\n")
    month = run_json("plan", "--users", "20000", "--events", "5", "--cells", str(counts))["windows"][-1]
    assert list(month["chances"]) == ["search web", "login ios", "export web"]
    assert month["chances"]["search web"] == 1
    assert month["chances"]["export web"] < 0.01
    assert (
        "in a month more likely than not: search web, login ios\n"
        in run("plan", "--users", "20000", "--events", "5", "--cells", str(counts)).output
    )


@pytest.mark.parametrize(("ending", "begins"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_a_plan_has_a_picture(tmp_path: Path, ending: str, begins: bytes) -> None:
    file = tmp_path / f"plan.{ending}"
    assert run("plan", "--users", "20000", "--picture", str(file)).exit_code == 0
    assert file.read_bytes().startswith(begins)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--users"),
        (["--users", "10", "--next", "."], "--users"),
        (["--users", "10", "--events", "many"], "write a number"),
        (["--users", "10", "--events", "0.5"], "1 or more"),
        (["--users", "10", "--cells", "zipf:10"], "zipf:500,5,1.2"),
        (["--users", "10", "--cells", "nothing.csv"], "CSV file"),
        (["--users", "10", "--statistic", "intensity"], "those with dimensions"),
        (["--users", "10", "--picture", "plan.pdf"], ".svg or a .png"),
        (["--next", "."], "no statistics"),
    ],
)
def test_what_is_wrong_with_a_plan_is_said(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("plan", *arguments)
    assert result.exit_code in (1, 2)
    assert words in result.output


# -- next month


@pytest.fixture(scope="module")
def month_of_many_cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published month whose users do ten things each on average, of which max_cells leaves three."""
    directory = tmp_path_factory.mktemp("published")
    population = Population(40_000, read_events("10"), *read_cells("zipf:120,4,1.1"))
    releases = [each.release for each in simulate(DECLARED, population, 1, 5, DECLARED.plan.statistics)]
    with open_work(directory / "work.duckdb") as work:
        apply(work, [release for release in releases if release.window == "month"])
        publish(work, directory)
    return directory


def test_the_population_of_a_month_is_found_in_its_releases(month_of_many_cells: Path) -> None:
    found = released_population(month_of_many_cells, "feature_use")
    assert found.users == pytest.approx(40_000, rel=0.01)
    assert found.events @ np.arange(len(found.events)) == pytest.approx(10, rel=0.1)
    assert found.names[0] == "f0 web"
    assert found.cells[0] == pytest.approx(read_cells("zipf:120,4,1.1")[0][0], rel=0.2)


def test_bounds_are_proposed_that_make_errors_smaller(month_of_many_cells: Path) -> None:
    """Users of ten things each lose most of them to max_cells = 3: more cells are worth their noise."""
    population = released_population(month_of_many_cells, "feature_use")
    found = propose(DECLARED.accountant, "feature_use", "month", population)
    assert found.now == (3, 20)
    assert found.proposed[0] > 3
    assert found.error[0] < 0.7 * found.error_now[0]
    text = run("plan", "--next", str(month_of_many_cells)).output
    assert f"month = {found.proposed[0]} }}" in text


def test_what_is_proposed_is_paid_for_by_noise_and_not_by_budget() -> None:
    accountant = with_bounds(DECLARED.accountant, "feature_use", "month", 8, 5)
    assert accountant.rho_month == pytest.approx(DECLARED.accountant.rho_month)
    before, after = (each.price("active_users", "users", "month").sigma for each in (DECLARED.accountant, accountant))
    assert after == pytest.approx(before * (15 / 10) ** 0.5)
    assert accountant.price("active_users", "users", "day") == DECLARED.accountant.price("active_users", "users", "day")


def test_next_month_is_proposed_from_the_published_file_alone(
    month_of_many_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the file in an empty place is enough, and gives the same."""
    copy = tmp_path / "statistics.duckdb"
    copy.write_bytes((month_of_many_cells / "statistics.duckdb").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert run_json("plan", "--next", str(copy)) == run_json("plan", "--next", str(month_of_many_cells))


def test_a_file_without_a_histogram_has_nothing_to_propose_from(tmp_path: Path) -> None:
    population = Population(2_000, read_events("3"), *read_cells("zipf:10,1,1"))
    releases = [each.release for each in simulate(DECLARED, population, 1, 5)]
    with open_work(tmp_path / "work.duckdb") as work:
        apply(work, releases)
        publish(work, tmp_path)
    result = run("plan", "--next", str(tmp_path))
    assert result.exit_code == 1
    assert "histogram" in result.output

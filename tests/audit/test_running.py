"""The runner: every attack is tried, one that breaks is a violation, and what machines read is five figures a line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.audit import running
from pipeline.audit.attacks import ATTACKS, Attack
from pipeline.audit.findings import Finding, Report, at_least, at_most, no_report
from pipeline.audit.running import Outcome, run_attack, write
from pipeline.cli import main

FIVE = {"attack", "n", "figure", "bound", "ok"}


def attack(*figures: float, error: Exception | None = None) -> Attack:
    """An attack that finds these figures beside a bound of 1, and then raises."""

    def run(n: int, _: int, report: Report) -> Iterator[Finding]:
        for figure in figures:
            report(1, 1)
            yield at_most("AX test: figure", "things", n, figure, 1.0)
        if error:
            raise error

    return Attack("AX", "a test", run, short=3, full=30, weight=1)


def test_the_attacks_are_those_of_the_issue_in_order_and_full_is_no_smaller() -> None:
    assert [each.id for each in ATTACKS] == [f"A{number}" for number in range(10)]
    assert all(each.full >= each.short > 0 for each in ATTACKS)
    sizes = {each.id: each.full for each in ATTACKS}
    assert sizes["A0"] >= 100_000
    assert sizes["A1"] >= 1_000_000
    assert sizes["A3"] >= 1_000_000
    assert sizes["A9"] == 12


@pytest.mark.parametrize(("full", "n"), [(False, 3), (True, 30)])
def test_an_attack_is_run_at_its_size(full: bool, n: int) -> None:
    outcome = run_attack(attack(0.5), full=full, seed=1, report=no_report)
    assert [finding.n for finding in outcome.findings] == [n]
    assert outcome.ok


def test_one_broken_bound_is_a_broken_attack() -> None:
    outcome = run_attack(attack(0.5, 1.5), full=False, seed=1, report=no_report)
    assert [finding.ok for finding in outcome.findings] == [True, False]
    assert not outcome.ok
    assert outcome.findings[1].verdict.startswith("BROKEN at n = 3")


def test_an_attack_that_raises_is_no_pass_and_keeps_what_it_had_found() -> None:
    outcome = run_attack(attack(0.5, error=RuntimeError("no broker")), full=False, seed=1, report=no_report)
    assert [finding.ok for finding in outcome.findings] == [True, False]
    assert "RuntimeError: no broker" in outcome.findings[1].tried


def test_a_figure_at_its_bound_passes_in_either_sense() -> None:
    assert at_most("x", "", 1, 1.0, 1.0).ok
    assert at_least("x", "", 1, 1.0, 1.0).ok
    assert not at_most("x", "", 1, 1.01, 1.0).ok
    assert not at_least("x", "", 1, 0.99, 1.0).ok


def test_what_is_sure_decides_and_not_the_figure() -> None:
    assert at_most("x", "", 1, 1.2, 1.0, sure=0.9).ok
    assert not at_most("x", "", 1, 1.2, 1.0, sure=1.1).ok


def test_a_verdict_says_how_often_and_how_sure() -> None:
    finding = at_most("x", "", 1_500, 0.9, 1.0, lower=0.8)
    assert finding.verdict == "no violation found at n = 1,500, 95 % lower bound 0.8"


def test_machines_read_five_figures_of_each_finding(tmp_path: Path) -> None:
    path = tmp_path / "var" / "audit.json"
    write(path, [run_attack(attack(0.5, 1.5), full=False, seed=1, report=no_report)])
    lines = json.loads(path.read_text())
    assert [set(line) for line in lines] == [FIVE, FIVE]
    assert lines[1] == {"attack": "AX test: figure", "n": 3, "figure": 1.5, "bound": 1.0, "ok": False}


def test_the_command_runs_an_attack_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    result = CliRunner().invoke(main, ["audit", "--only", "a8", "--to", str(path), "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed == json.loads(path.read_text())
    assert all(line["ok"] and set(line) == FIVE for line in printed)
    assert {line["attack"].split()[0] for line in printed} == {"A8"}
    assert "no violation found" in result.stderr


def test_the_command_fails_where_a_bound_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Iterator[Outcome]:
        finding = at_most("A8 randomness: source", "modules", 3, 1, 0)
        yield Outcome("A8", [finding], 0.1)

    monkeypatch.setattr(running, "run_attacks", broken)
    result = CliRunner().invoke(main, ["audit", "--only", "A8", "--to", str(tmp_path / "audit.json")])
    assert result.exit_code == 1
    assert "BROKEN: A8" in result.output


def test_an_attack_that_there_is_not_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["audit", "--only", "A99"])
    assert result.exit_code == 2
    assert "A0 to A9" in result.output

"""The promise says what the code computes, and points at what exists."""

import re
from datetime import date
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.core.budget import PER_MONTH, Accountant, epsilon
from pipeline.core.windows import KINDS, Kind
from pipeline.declarations import read_declarations
from pipeline.settings import Settings
from pipeline.stream.topics import DAY_MS, HOUR_MS, KEYS, TOPICS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "schemas" / "PROMISE.md").read_text()
NAMES: dict[Kind, str] = {"day": "a day", "week": "an ISO week", "month": "a month"}


def row(first: str) -> list[str]:
    """The cells of the table row that begins so, without emphasis."""
    [found] = [line for line in TEXT.splitlines() if line.replace("*", "").startswith(f"| {first} |")]
    return [cell.strip(" *") for cell in found.strip("|").split("|")]


@pytest.fixture(scope="module")
def accountant() -> Accountant:
    return read_declarations(Settings(), date(2026, 12, 1)).accountant


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_of_a_window_are_those_of_the_shipped_policy(accountant: Accountant, kind: Kind) -> None:
    sigma = accountant.price("active_users", "users", kind).sigma
    threshold = accountant.threshold("feature_use", kind)
    assert threshold is not None
    rho = accountant.policy.budget.rho(kind)
    expected = [str(PER_MONTH[kind]), f"{rho:.3f}", f"{sigma:.1f}", f"± {1.96 * sigma:.0f}", f"{threshold:.0f}"]
    assert row(NAMES[kind])[1:] == expected


def test_the_numbers_of_a_month_and_of_a_year_are_those_of_the_shipped_policy(accountant: Accountant) -> None:
    delta = accountant.policy.budget.delta
    rho = accountant.rho_month
    assert accountant.epsilon_month <= 6 == accountant.policy.budget.max_epsilon
    assert row("a subject's month, all together")[2:] == [
        f"{rho:.2f}",
        "",
        "",
        f"ε ≤ 6, δ = {delta:g}".replace("1e-09", "1e-9"),
    ]
    # A year: ρ adds up, and so do the thresholds' halves of δ; the conversion's half is spent once.
    year = f"twelve months are ρ = {12 * rho:.2f}, which is ε ≈ {epsilon(12 * rho, delta / 2):.0f}"
    assert f"{year} with δ ≈ {(12 + 1) * delta / 2 * 1e9:.1f}e-9" in TEXT
    assert f"for two, ε is about {epsilon(4 * rho, delta / 2):.0f} instead of" in TEXT


def test_the_days_that_things_are_kept_are_those_of_the_topics() -> None:
    for topic in (each for each in TOPICS if each.name != KEYS):
        [line] = [line for line in TEXT.splitlines() if line.startswith("|") and f"| `{topic.name}`" in line]
        kept = int(topic.config["retention.ms"])
        days = "for ever" if kept < 0 else f"{kept // HOUR_MS} hours" if kept < 3 * DAY_MS else f"{kept // DAY_MS} days"
        assert line.split("|")[4].strip().startswith(days)


def test_how_long_the_bytes_of_a_destroyed_key_are_in_the_topic_is_what_the_topic_is_made_with() -> None:
    [config] = [topic.config for topic in TOPICS if topic.name == KEYS]
    minutes = int(config["segment.ms"]) // 60_000
    assert int(config["max.compaction.lag.ms"]) == HOUR_MS
    assert f"rolls its segments after {minutes} minutes and has to compact them within the hour" in " ".join(
        TEXT.split()
    )


def test_every_clause_of_the_policy_has_an_answer() -> None:
    answers = re.findall(r"^\| (P\d+) .*? \| (met|partly|not yet|outside) \| ", TEXT, re.MULTILINE)
    assert [clause for clause, _ in answers] == [f"P{n}" for n in range(1, 12)]


def test_the_sentence_that_everything_hangs_on_is_quoted() -> None:
    sentence = (
        "Deze vastlegging van statistische data gebeurt op een wijze waarbij geen enkele relatie naar individuele "
        "gebruikers-gegevens bestaat."
    )
    assert sentence in " ".join(TEXT.replace(">", "").split())


def test_what_the_promise_points_at_exists() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / "schemas" / target).exists(), target
    for command in re.findall(r"`(pytest|make|headcount) ([^`]+)`", TEXT):
        program, arguments = command[0], command[1].split()
        if program == "pytest":
            assert all((ROOT / path).exists() for path in arguments), command
        elif program == "make":
            assert f"\n{arguments[0]}:" in (ROOT / "Makefile").read_text(), command
        else:
            assert arguments[0] in main.commands, command


def test_the_promise_is_short() -> None:
    assert len(TEXT.splitlines()) < 150

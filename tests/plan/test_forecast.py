"""What is said beforehand is what then happens: forecasts beside months that went through the tally and the release."""

import statistics
from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.core.windows import KINDS, Kind
from pipeline.declarations import Declarations
from pipeline.plan.forecast import PART, forecast, grouped
from pipeline.plan.population import Population, read_cells, read_events, zipf_mandelbrot
from pipeline.testing import EXACT, declarations
from tests.plan.simulating import Simulated, simulate

DECLARED = declarations()
MONTHS = 10


def population(users: int = 30_000, events: str = "4", cells: str = "zipf:80,4,1.2") -> Population:
    return Population(users, read_events(events), *read_cells(cells))


# So many that the median of ten months is itself known to 2 %.
MANY = population(40_000, "zipf:100000,26,6.738,12", "zipf:1500,10,1.2")


@pytest.fixture(scope="module")
def ten_months() -> list[Simulated]:
    """Under the shipped policy, where max_cells cuts off a part of weeks and months."""
    return list(simulate(DECLARED, population(), MONTHS, seed=2026))


@pytest.fixture(scope="module")
def ten_months_uncut() -> list[Simulated]:
    """Where hardly anything is cut off, and errors are those of noise."""
    return list(simulate(UNCUT, MANY, MONTHS, seed=7))


UNCUT = declarations(
    statistics="""
version = "uncut"
[statistics.feature_use]
description = "Users and events by feature."
dimensions = ["feature"]
measures = ["users", "events"]
max_cells = 12
max_events = 20
total = true
windows = ["month"]
"""
)


def assert_foreseen(declared: Declarations, who: Population, months: Sequence[Simulated], kind: Kind) -> None:
    found = forecast(declared.accountant, "feature_use", kind, who)
    windows = [each for each in months if each.kind == kind]
    shown = statistics.mean(len(each.release.cells) for each in windows)
    error = statistics.median([e for each in windows for e in each.errors()])
    users, events = (statistics.mean(each.release.total[place] for each in windows) for place in (0, 1))  # type: ignore[index]
    expected = who.users * PART[kind] * float(who.events @ np.arange(len(who.events)))
    assert found.shown == pytest.approx(shown, rel=0.10)
    assert found.relative_error == pytest.approx(error, rel=0.10)
    assert found.users == pytest.approx(users, rel=0.02)
    assert (1 - found.events_lost) * expected == pytest.approx(events, rel=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_ten_months_are_as_foreseen(ten_months: list[Simulated], kind: Kind) -> None:
    assert_foreseen(DECLARED, population(), ten_months, kind)


def test_ten_months_in_which_noise_is_what_errs_are_as_foreseen(ten_months_uncut: list[Simulated]) -> None:
    assert_foreseen(UNCUT, MANY, ten_months_uncut, "month")


# -- what a forecast follows


def test_more_users_show_more_cells_with_smaller_errors() -> None:
    few, many = (forecast(DECLARED.accountant, "feature_use", "week", population(n)) for n in (10_000, 100_000))
    assert few.shown < many.shown
    assert few.bar95 == many.bar95


def test_wider_bounds_cut_off_less_and_cost_noise() -> None:
    shipped = forecast(DECLARED.accountant, "feature_use", "month", population())
    uncut = forecast(UNCUT.accountant, "feature_use", "month", population())
    assert uncut.users_lost < shipped.users_lost
    assert uncut.events_lost < shipped.events_lost


def test_whoever_does_one_thing_loses_nothing() -> None:
    found = forecast(DECLARED.accountant, "feature_use", "month", population(events="1"))
    assert found.users_lost == pytest.approx(0, abs=1e-9)
    assert found.events_lost == pytest.approx(0, abs=1e-9)
    assert found.true @ found.size == pytest.approx(30_000)


def test_declared_cells_are_all_shown_whoever_there_is() -> None:
    found = forecast(DECLARED.accountant, "active_users_by_platform", "day", population(10, cells="zipf:8,1,1"))
    assert found.threshold is None
    assert found.shown == 8


def test_a_policy_without_thresholds_shows_everything() -> None:
    found = forecast(declarations(policy=EXACT).accountant, "feature_use", "day", population(10))
    assert found.shown == pytest.approx(80)


def test_where_nothing_is_shown_there_is_no_error_to_speak_of() -> None:
    found = forecast(DECLARED.accountant, "feature_use", "day", population(20))
    assert found.shown < 0.01
    assert found.relative_error == float("inf")


@pytest.mark.parametrize("cells", [1, 10, 300, 301, 5_000, 1_000_000])
def test_groups_hold_every_cell_once(cells: int) -> None:
    shares = zipf_mandelbrot(cells, 10, 1.2)
    size, popularity = grouped(shares)
    assert size.sum() == cells
    assert size @ popularity == pytest.approx(1)
    assert len(size) <= 800


# -- populations


@pytest.mark.parametrize("fraction", [1 / 30, 7 / 30, 1.0])
def test_thinned_events_add_up(fraction: float) -> None:
    who = population()
    within = who.within(fraction)
    n = np.arange(len(within))
    assert within.sum() == pytest.approx(1)
    assert within @ n == pytest.approx(fraction * (who.events @ n))


def test_the_mean_is_the_mean() -> None:
    for mean in (1, 2.5, 20, 40):
        events = read_events(str(mean))
        assert events.sum() == pytest.approx(1)
        assert events @ np.arange(len(events)) == pytest.approx(mean, rel=1e-3)

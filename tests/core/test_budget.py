"""The accountant: every figure follows from rho, and what is not covered is refused."""

import math
from functools import lru_cache
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from pipeline.core.budget import PER_MONTH, Accountant, OverBudget, epsilon, largest_rho, threshold
from pipeline.core.policy import Budget, Policy
from pipeline.core.windows import KINDS, Kind, day_of, window_of, windows_between
from pipeline.noise import opendp_epsilon
from pipeline.testing import EXACT, declarations

DECLARED = declarations()
ACCOUNTANT = DECLARED.accountant

# Ten cells of one subject, all for users: the table that the default policy was chosen by.
USERS_TAKE_ALL = """
version = "1"
[statistics.all]
description = "d"
dimensions = ["feature"]
measures = ["users"]
max_cells = 10
"""


@pytest.mark.parametrize(
    ("kind", "rho", "sigma", "tau", "bar"),
    [
        ("day", "0.0100", "22.4", "157.", "43.8"),
        ("week", "0.0100", "22.4", "157.", "43.8"),
        ("month", "0.0500", "10.0", "71.0", "19.6"),
    ],
)
def test_the_table_of_the_default_policy_where_users_take_all_to_three_digits(
    kind: Kind, rho: str, sigma: str, tau: str, bar: str
) -> None:
    accountant = declarations(statistics=USERS_TAKE_ALL).accountant
    price = accountant.price("all", "users", kind)
    continuous = threshold(price.sigma, accountant.delta_window, 10)

    assert accountant.cells("users", kind) == 10
    assert [f"{each:#.3g}" for each in (price.rho, price.sigma, continuous, 1.959964 * price.sigma)] == [
        rho,
        sigma,
        tau,
        bar,
    ]
    assert accountant.threshold("all", kind) == continuous + 0.5  # what is drawn are integers


def test_the_month_and_the_year_of_the_default_policy_to_three_digits() -> None:
    accountant = declarations(statistics=USERS_TAKE_ALL).accountant
    assert [f"{each:.3g}" for each in accountant.guarantee()] == ["0.42", "5.99", "1e-09"]
    assert [f"{each:.3g}" for each in accountant.guarantee(months=12)] == ["5.04", "24.9", "6.5e-09"]
    assert accountant.guarantee() == ACCOUNTANT.guarantee()  # however it is divided among statistics


def test_the_shipped_declarations_cost_what_the_policy_says() -> None:
    assert ACCOUNTANT.rho_month == pytest.approx(0.42)
    assert 5.9 < ACCOUNTANT.epsilon_month <= 6.0
    assert ACCOUNTANT.protects
    assert {kind: ACCOUNTANT.cells("users", kind) for kind in KINDS} == {"day": 10, "week": 11, "month": 10}


@pytest.mark.parametrize("kind", KINDS)
def test_the_measures_of_a_window_share_its_rho_and_leave_nothing(kind: Kind) -> None:
    spent = {"users": 0.0, "events": 0.0}
    for name, statistic in DECLARED.plan.of(kind).items():
        for measure in statistic.measures:
            spent[measure] += ACCOUNTANT.price(name, measure, kind).rho
    rho = DECLARED.policy.budget.rho(kind)

    assert spent["users"] == pytest.approx(0.7 * rho)
    assert spent["events"] == pytest.approx(0.3 * rho)


@pytest.mark.parametrize("kind", KINDS)
def test_rho_is_what_a_subject_at_its_bounds_costs(kind: Kind) -> None:
    """ρ = Σ Δ²/2σ² over the cells that one subject moves, the total included."""
    for name, statistic in DECLARED.plan.of(kind).items():
        for measure in statistic.measures:
            price = ACCOUNTANT.price(name, measure, kind)
            cost = statistic.moved(kind) * price.bound**2 / (2 * price.sigma**2)
            if price.total_sigma is not None and price.total_bound is not None:
                cost += price.total_bound**2 / (2 * price.total_sigma**2)
            assert price.rho == pytest.approx(cost)


def test_shipped_noise_of_every_measure() -> None:
    price = ACCOUNTANT.price("feature_use", "events", "day")
    assert (price.bound, price.total_bound) == (5, 15)
    assert price.total_sigma == pytest.approx(3 * price.sigma)
    assert ACCOUNTANT.price("feature_use", "users", "day").sigma == pytest.approx(26.7, abs=0.05)
    assert ACCOUNTANT.price("feature_use", "users", "month").sigma == pytest.approx(11.95, abs=0.005)
    assert ACCOUNTANT.price("active_users", "users", "day").total_sigma is None


def test_a_total_of_users_is_moved_by_one() -> None:
    price = ACCOUNTANT.price("feature_use", "users", "day")
    assert price.total_bound == 1
    assert price.total_sigma == pytest.approx(price.sigma)


def test_users_have_all_of_rho_where_nobody_asks_for_events() -> None:
    accountant = declarations(statistics=USERS_TAKE_ALL).accountant
    assert [accountant.share(measure, "day") for measure in ("users", "events")] == [1.0, 0.0]
    assert ACCOUNTANT.share("events", "day") == pytest.approx(0.3)


def test_half_as_much_noise_costs_four_times_as_much() -> None:
    changed = declarations(day=0.04, max_epsilon=100.0).accountant
    for name in DECLARED.plan.statistics:
        assert 2 * changed.price(name, "users", "day").sigma == pytest.approx(
            ACCOUNTANT.price(name, "users", "day").sigma
        )


# -- the month


def test_the_month_is_the_sum_of_every_charge() -> None:
    """Each value that is drawn, as often as it is drawn: nothing is free, and nothing is charged that is not drawn."""
    rho = sum(
        charge.windows
        * (
            charge.moved * charge.price.bound**2 / charge.price.sigma**2
            + (charge.price.total_bound or 0) ** 2 / (charge.price.total_sigma or 1) ** 2
        )
        / 2
        for charge in ACCOUNTANT.charges()
    )
    assert rho == pytest.approx(ACCOUNTANT.rho_month)
    assert {(c.statistic, c.measure, c.kind) for c in ACCOUNTANT.charges()} == {
        (name, measure, kind)
        for kind in KINDS
        for name, statistic in DECLARED.plan.of(kind).items()
        for measure in statistic.measures
    }


@pytest.mark.parametrize("kind", KINDS)
def test_no_month_of_400_years_has_more_windows_than_are_paid_for(kind: Kind) -> None:
    first = window_of("month", day_of(DECLARED.policy.effective)).start
    for month in windows_between("month", first, first + 146_097):
        assert len(list(windows_between(kind, month.start, month.end))) <= PER_MONTH[kind]


def test_a_policy_over_its_cap_is_refused_and_says_what_to_do() -> None:
    with pytest.raises(OverBudget, match=r"epsilon 6\.\d\d.*allows 6.*lower rho"):
        declarations(day=0.0105)
    with pytest.raises(OverBudget):
        declarations(max_epsilon=5.9)
    with pytest.raises(OverBudget):
        declarations(delta=1e-10)
    assert declarations(day=0.0105, max_epsilon=7.0).accountant.protects


@pytest.mark.parametrize("mechanism", ["laplace", "", "Discrete_Gaussian"])
def test_a_mechanism_that_there_is_not_is_refused_and_says_what_to_write(mechanism: str) -> None:
    with pytest.raises(ValueError, match='write mechanism = "discrete_gaussian"'):
        declarations(mechanism=mechanism)


@pytest.mark.parametrize(
    ("changes", "protects"),
    [
        ({}, True),
        ({"bounded": False}, False),
        ({"day": 1.0, "max_epsilon": 1e9}, False),
        ({"delta": 1e-3, "max_epsilon": 6.0}, False),
        ({"day": 0.03, "max_epsilon": 20.0}, True),
    ],
)
def test_a_policy_says_whether_it_means_anything(changes: dict[str, Any], protects: bool) -> None:
    assert declarations(**changes).accountant.protects is protects


def test_the_exact_policy_has_no_noise_worth_the_name_and_protects_nobody() -> None:
    accountant = declarations(policy=EXACT).accountant
    assert not accountant.protects
    assert accountant.epsilon_month == math.inf
    assert accountant.price("feature_use", "events", "day").sigma < 1e-6
    assert accountant.threshold("feature_use", "day") == -math.inf


@pytest.mark.parametrize(
    "changes",
    [
        {"day": 0.0},
        {"week": -0.01},
        {"month": 0.0},
        {"delta": 0.0},
        {"delta": 1.5},
        {"delta": math.nan},
        {"events_share": 0.0},
        {"events_share": 1.0},
        {"events_share": math.nan},
        # Sigma would be nan, noise of nan would be none, and epsilon 0: exact counts, published as the best protected.
        {"day": math.nan},
        {"week": math.nan},
        {"month": math.nan},
        # No month would be over budget.
        {"max_epsilon": math.nan, "day": 1.0},
    ],
)
def test_an_unsound_budget_is_refused(changes: dict[str, Any]) -> None:
    budget = msgspec.to_builtins(DECLARED.policy.budget)
    with pytest.raises(ValueError):  # noqa: PT011  # any wording
        msgspec.convert(budget | changes, Budget)


# A window would close before it has ended, or never.
@pytest.mark.parametrize(
    "changes",
    [
        {"lateness_hours": -1},
        {"lateness_hours": math.nan},
        {"future_minutes": math.nan},
        # Shows a defect: accepted, and the worker stops with ZoneInfoNotFoundError when its first batch comes.
        {"timezone": "Mars/Phobos"},
    ],
)
def test_an_unsound_policy_is_refused(changes: dict[str, Any]) -> None:
    policy = msgspec.to_builtins(DECLARED.policy)
    with pytest.raises(ValueError):  # noqa: PT011  # any wording
        msgspec.convert(policy | changes, Policy)


# -- conversion


@pytest.mark.parametrize("rho", [0.001, 0.01, 0.1, 0.42, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("delta", [1e-12, 5e-10, 1e-6, 1e-3])
def test_the_conversion_is_opendps(rho: float, delta: float) -> None:
    assert epsilon(rho, delta) == pytest.approx(opendp_epsilon(rho, delta), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("eps", [0.1, 1.0, 6.0, 25.0])
@pytest.mark.parametrize("delta", [1e-12, 5e-10, 1e-3])
def test_the_largest_rho_costs_epsilon_and_no_more(eps: float, delta: float) -> None:
    assert epsilon(largest_rho(eps, delta), delta) == pytest.approx(eps)
    assert epsilon(largest_rho(eps, delta), delta) <= eps * (1 + 1e-12)
    assert largest_rho(math.inf, delta) == math.inf


def test_epsilon_grows_with_rho_and_shrinks_with_delta() -> None:
    rhos = [10 ** (i / 4) for i in range(-12, 8)]
    assert all(a < b for a, b in pairwise(epsilon(rho, 1e-9) for rho in rhos))
    deltas = [10.0**-i for i in range(3, 15)]
    assert all(a < b for a, b in pairwise(epsilon(0.42, delta) for delta in deltas))


def test_an_epsilon_beyond_all_sense_is_infinite() -> None:
    assert epsilon(1e30, 0.5) == math.inf
    assert epsilon(math.inf, 1e-9) == math.inf


# -- thresholds


def test_only_statistics_with_an_open_dimension_have_a_threshold() -> None:
    having = {name for name in DECLARED.plan.statistics if ACCOUNTANT.threshold(name, "day") is not None}
    assert having == {"active_users_by_app_version", "feature_use", "duration_by_feature"}


def test_delta_is_divided_among_the_windows_that_have_thresholds() -> None:
    """Windows in which every cell is declared need none of it."""
    delta = DECLARED.policy.budget.delta
    only_months = USERS_TAKE_ALL + 'windows = ["month"]\n'
    assert declarations(statistics=only_months).accountant.delta_window == pytest.approx(delta / 2)
    by_plan = USERS_TAKE_ALL.replace("[statistics.all]", "[statistics.plans]").replace('"feature"', '"plan"')
    mixed = only_months + by_plan[by_plan.index("[") :]
    assert declarations(statistics=mixed).accountant.delta_window == pytest.approx(delta / 2)
    assert declarations(statistics=by_plan).accountant.threshold("plans", "day") is None


def test_half_of_delta_is_spent_on_the_thresholds_of_all_windows_of_a_month() -> None:
    assert ACCOUNTANT.delta_window * sum(PER_MONTH.values()) == pytest.approx(DECLARED.policy.budget.delta / 2)


@lru_cache
def tail(sigma: float, least: int) -> float:
    """The probability that discrete Gaussian noise is ``least`` or more, by its definition."""
    limit = least + math.ceil(40 * sigma) + 50
    weight = {k: math.exp(-k * k / 2 / sigma**2) for k in range(limit)}
    return math.fsum(weight[k] for k in range(least, limit)) / (1 + 2 * math.fsum(list(weight.values())[1:]))


def open_cells(cells: int, rho: float) -> Accountant:
    statistics = USERS_TAKE_ALL.replace("max_cells = 10", f"max_cells = {cells}")
    return declarations(statistics=statistics, day=rho, week=rho, month=rho, max_epsilon=1e9).accountant


# Where the formula's quantile is that of the continuous Gaussian, 10 cells at sigma 1 would be shown 7 times too often.
@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 22.36, 26.7])
@pytest.mark.parametrize("cells", [1, 3, 10])
def test_a_cell_of_one_subject_alone_is_shown_with_probability_delta_at_most(sigma: float, cells: int) -> None:
    accountant = open_cells(cells, cells / (2 * sigma**2))
    assert accountant.price("all", "users", "day").sigma == pytest.approx(sigma)
    tau = accountant.threshold("all", "day")
    assert tau is not None
    least = math.ceil(tau) - 1  # the subject itself is one

    shown = -math.expm1(cells * math.log1p(-tail(sigma, least)))
    assert shown <= accountant.delta_window * (1 + 1e-9)
    if sigma >= 5:  # nor is it much higher than it has to be
        assert cells * tail(sigma, least - 2) > accountant.delta_window


# 1 − δ rounds to 1 here.
@pytest.mark.parametrize("delta", [1e-15, 1e-17, 1e-30])
def test_a_tiny_delta_has_a_threshold(delta: float) -> None:
    exact = threshold(1.0, delta, 10)
    assert threshold(1.0, 1e-12, 10) < exact < 15

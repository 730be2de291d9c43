"""The statistics and the plan that is worked out from them."""

from typing import Any

import msgspec
import pytest

from pipeline.core.budget import Accountant
from pipeline.core.statistics import HISTOGRAM, Plan, Statistic, Statistics, histogram_labels
from pipeline.testing import declarations

DECLARED = declarations()


def build(**changes: Any) -> Statistic:
    return msgspec.convert({"description": "d", "measures": ["users"], "max_cells": 1, **changes}, Statistic)


def plan(**statistics: Statistic) -> Plan:
    return Plan(Statistics(version="1", statistics=statistics), DECLARED.registry)


@pytest.mark.parametrize(
    "changes",
    [
        {"measures": []},
        {"measures": ["events"]},
        {"measures": ["users", "sessions"]},
        {"histogram": [1, 2], "dimensions": ["platform"]},
        {"histogram": [1, 2], "measures": ["users", "events"]},
        {"histogram": [1, 2], "total": True},
        {"windows": ["hour"]},
        # A subject would be charged for fewer cells than it touches, or for a negative number of them: more would be
        # spent than the budget says (max_cells = -3 next to one of 5 makes sigma 10.0 of 17.3).
        {"max_cells": 0},
        {"max_cells": -3},
        {"max_cells": {"day": 1, "week": 0, "month": 1}},
        # Sigma would be 0: the events without a subject would be released as they are.
        {"max_events": 0, "measures": ["users", "events"]},
        {"max_events": {"day": 1, "week": 1, "month": 0}, "measures": ["users", "events"]},
        # It would be drawn twice and paid for once.
        {"measures": ["users", "events", "events"]},
        # Some window would have no bound, and would raise when it closes, at every start again.
        {"max_cells": {"day": 1}},
        {"max_events": {"day": 1}, "measures": ["users", "events"]},
        # A subject with fewer events than the first edge would have no bucket, and closing the window would raise.
        {"histogram": [2, 5]},
        {"histogram": [0, 5]},
        {"histogram": [1, 5, 2]},
        {"histogram": [1, 1]},
        # A subject fills one bucket, whatever is said; more would be charged than is spent.
        {"histogram": [1, 2], "max_cells": 2},
        # One field twice would be two columns of one name.
        {"dimensions": ["platform", "platform"]},
        {"windows": []},
    ],
)
def test_an_unsound_statistic_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        build(**changes)


def test_bounds_are_one_number_or_one_a_kind() -> None:
    statistic = build(max_cells={"day": 1, "week": 2, "month": 3}, max_events=7, measures=["users", "events"])
    assert [statistic.cells(kind) for kind in ("day", "week", "month")] == [1, 2, 3]
    assert statistic.bound("events", "week") == 7
    assert statistic.bound("users", "week") == 1
    assert build(max_events={"day": 5, "week": 6, "month": 7}).bound("events", "month") == 7


def test_a_bound_for_some_kinds_is_enough_where_there_are_no_other_windows() -> None:
    assert build(max_cells={"day": 4}, windows=["day"]).cells("day") == 4


def test_rows_carry_the_fields_that_a_statistic_uses_in_the_registrys_order() -> None:
    assert plan(a=build(dimensions=["duration_ms", "feature"]), b=build(dimensions=["platform"])).finest == (
        "feature",
        "platform",
        "duration_ms",
    )
    assert plan(a=build()).finest == ()


def test_a_statistics_dimensions_stand_where_it_says() -> None:
    statistic = build(dimensions=["duration_ms", "feature"])
    made = plan(a=statistic, b=build(dimensions=["platform"]))
    assert [made.finest[place] for place in made.places(statistic)] == ["duration_ms", "feature"]
    assert [d.name for d in made.dimensions(statistic)] == ["duration_ms", "feature"]


def test_a_field_that_is_not_registered_any_more_is_named() -> None:
    with pytest.raises(ValueError, match="referrer, screen"):
        plan(a=build(dimensions=["screen", "platform", "referrer"]))


def test_cells_are_open_where_one_dimension_is() -> None:
    made = plan(a=build(dimensions=["feature", "platform"]), b=build(dimensions=["platform"]), c=build())
    assert [made.open(statistic) for statistic in made.statistics.values()] == [True, False, False]


def test_declared_cells_are_all_combinations_in_natural_order() -> None:
    made = plan(a=build(dimensions=["plan", "duration_ms"]), b=build(), c=build(histogram=[1, 3]))
    plans, durations = made.fields["plan"].values, made.fields["duration_ms"].labels
    assert made.declared_cells(made.statistics["a"]) == [(p, d) for p in plans for d in durations]
    assert made.declared_cells(made.statistics["b"]) == [()]
    assert made.declared_cells(made.statistics["c"]) == [("1-2",), ("3+",)]
    assert made.dimensions(made.statistics["c"])[0].name == HISTOGRAM


def test_a_plan_has_the_kinds_of_window_that_a_statistic_has() -> None:
    assert plan(a=build(windows=["month"]), b=build(windows=["day"])).kinds == ("day", "month")
    assert list(plan(a=build(windows=["month"]), b=build()).of("day")) == ["b"]


# Shows a defect: accepted, and the first event raises IndexError.
def test_a_plan_without_statistics_is_refused() -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # any wording
        plan()


def test_a_kind_without_statistics_costs_nothing() -> None:
    assert Accountant(DECLARED.policy, plan(a=build(windows=["month"]))).rho_month == DECLARED.policy.budget.month


def test_buckets_are_named_by_what_they_hold() -> None:
    assert histogram_labels((1,)) == ("1+",)
    assert histogram_labels((1, 2, 3, 5, 9, 17, 33)) == ("1", "2", "3-4", "5-8", "9-16", "17-32", "33+")


def test_the_shipped_statistics_are_those_of_the_interface() -> None:
    shipped = DECLARED.plan.statistics
    assert list(shipped) == [
        "active_users",
        "active_users_by_platform",
        "active_users_by_app_version",
        "intensity",
        "feature_use",
        "duration_by_feature",
    ]
    assert all(statistic.windows == ("day", "week", "month") for statistic in shipped.values())
    assert shipped["feature_use"].measures == ("users", "events")
    assert [name for name, statistic in shipped.items() if statistic.total] == ["feature_use"]

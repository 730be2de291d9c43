"""What analysts see: bounds, grades, totals, sums, and a comment on everything."""

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from statistics import NormalDist

import duckdb
import numpy as np
import pandas as pd
import pytest
from duckdb import DuckDBPyConnection

from pipeline.warehouse.snapshots import publish
from pipeline.warehouse.tables import apply
from pipeline.warehouse.work import open_work, uncommented

from .conftest import build_open_release, build_release, dimension, measure
from .test_tables import HISTORY

Z = NormalDist().inv_cdf(0.975)


def test_bounds_are_the_value_and_196_standard_deviations(work: DuckDBPyConnection) -> None:
    sigmas = {"2026-05-01": (0.5, 3.0), "2026-05-02": (22.4, 81.5), "2026-05-03": (1e-9, 1e6)}
    for day, (users, events) in sigmas.items():
        apply(work, [build_release(day=day, measures=[measure("users", users), measure("events", events)])])
    frame = work.execute("FROM by_platform").df()
    assert len(frame) == 12
    for row in frame.itertuples():
        for name, sigma in zip(("users", "events"), sigmas[str(row.start)[:10]], strict=True):
            value = getattr(row, name)
            assert getattr(row, f"{name}_lower") == pytest.approx(value - Z * sigma, rel=1e-6, abs=1e-6)
            assert getattr(row, f"{name}_upper") == pytest.approx(value + Z * sigma, rel=1e-6, abs=1e-6)
            assert getattr(row, f"{name}_variance") == pytest.approx(sigma**2)


def test_negative_values_are_shown_as_they_were_drawn(work: DuckDBPyConnection) -> None:
    apply(work, [build_release(values=[[-31, 0, 5, 9], [-1, -2, -3, 4]])])
    rows = work.execute("SELECT users, events FROM by_platform ORDER BY platform").fetchall()
    assert rows == [(-31, -1), (0, -2), (5, -3), (9, 4)]


@pytest.mark.parametrize(
    ("value", "sigma", "grade"),
    [
        (1_000, 25.0, "precise"),
        (1_000, 26.0, "good"),
        (1_000, 76.0, "good"),
        (1_000, 77.0, "rough"),
        (1_000, 255.0, "rough"),
        (1_000, 256.0, "noise"),
        (1_000, 600.0, "noise"),
        (0, 20.0, "noise"),
        (-1_000, 20.0, "noise"),
        (0, 0.0, "precise"),
        (3, 0.2, "precise"),
        (-1_000, 1e-9, "precise"),
    ],
)
def test_grades_tell_what_a_number_is_good_for(work: DuckDBPyConnection, value: int, sigma: float, grade: str) -> None:
    apply(work, [build_release("active", dimensions=[], measures=[measure("users", sigma)], values=[[value]])])
    assert work.execute("SELECT users_grade FROM active").fetchall() == [(grade,)]


def test_grades_sort_from_good_to_bad(work: DuckDBPyConnection) -> None:
    apply(work, [build_release(values=[[10_000, 600, 200, 0], [1, 1, 1, 1]])])
    rows = work.execute("SELECT users_grade FROM by_platform ORDER BY users_grade DESC").fetchall()
    assert [grade for (grade,) in rows] == ["noise", "rough", "good", "precise"]


def test_in_sums_variances_add(work: DuckDBPyConnection) -> None:
    sigmas: Sequence[float] = (10.0, 24.0, 70.0)
    for number, sigma in enumerate(sigmas, start=1):
        apply(work, [build_release(day=f"2026-05-0{number}", measures=[measure("events", sigma)])])
    query = (
        "SELECT sum_of(events), sum_lower(events, events_variance), sum_upper(events, events_variance), "
        "bar95(sum(events_variance)), sum_grade(events, events_variance) FROM by_platform WHERE period = 'day'"
    )
    [(value, lower, upper, bar, grade)] = work.execute(query).fetchall()
    half = Z * sqrt(4 * sum(sigma**2 for sigma in sigmas))
    assert value == 3 * (100 + 107 + 114 + 121)
    assert (lower, upper, bar) == pytest.approx((value - half, value + half, half), rel=1e-6)
    assert grade == "rough"


def test_the_bounds_of_a_sum_hold_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)  # of the test; no noise is ever drawn here
    truth, sigma = 1_000, 20.0
    draws = np.rint(truth + sigma * random.standard_normal((1_000, 6))).astype(int)
    cells = [(f"v{place}",) for place in range(6)]
    days = pd.date_range("2020-01-01", periods=1_000).strftime("%Y-%m-%d")
    column = dimension("version")
    with open_work(Path(":memory:")) as connection:
        apply(
            connection,
            [
                build_release(
                    day=day,
                    dimensions=[column],
                    measures=[measure("events", sigma)],
                    cells=cells,
                    values=[row.tolist()],
                )
                for day, row in zip(days, draws, strict=True)
            ],
        )
        [(held,)] = connection.execute(
            f"SELECT count(*) FILTER ({6 * truth} BETWEEN lower AND upper) FROM (SELECT start, "
            "sum_lower(events, events_variance) AS lower, sum_upper(events, events_variance) AS upper "
            "FROM by_platform GROUP BY start)"
        ).fetchall()
    assert 925 <= held <= 975


def test_a_sum_of_counts_is_a_whole_number_in_pandas(work: DuckDBPyConnection) -> None:
    apply(work, [build_release()])
    assert work.execute("SELECT sum_of(users) AS users FROM by_platform").df()["users"].dtype == "int64"


def test_a_naive_sum_counts_nothing_twice(work: DuckDBPyConnection) -> None:
    apply(work, [build_open_release()])
    assert work.execute("SELECT sum(events) FROM feature_use").fetchall() == [(14_000,)]


def test_what_is_held_back_is_the_total_less_what_is_shown(work: DuckDBPyConnection) -> None:
    apply(work, [build_open_release(), build_open_release("2026-05-02", cells=[], values=[[], []])])
    frame = work.execute("FROM feature_use_total ORDER BY start").df()
    assert frame["cells"].tolist() == [3, 0]
    assert frame["users"].tolist() == [2_900, 2_900]
    assert frame["events"].tolist() == [14_700, 14_700]
    assert frame["events_held_back"].tolist() == [700, 14_700]
    assert frame["users_variance"].tolist() == [30.0**2, 30.0**2]
    assert frame["events_held_back_variance"].tolist() == [120.0**2 + 3 * 80.0**2, 120.0**2]
    assert frame["events_held_back_upper"][0] == pytest.approx(700 + Z * sqrt(120**2 + 3 * 80**2), rel=1e-6)
    assert frame["events_held_back_grade"].tolist() == ["noise", "precise"]


def test_nobody_can_subtract_users(work: DuckDBPyConnection) -> None:
    apply(work, [build_open_release()])
    columns = [column[0] for column in work.execute("FROM feature_use_total").description]
    assert "events_held_back" in columns
    assert not [column for column in columns if column.startswith("users_held")]


def test_where_all_cells_are_declared_nothing_is_held_back(work: DuckDBPyConnection) -> None:
    apply(work, [build_release(total=[500, 1_000])])
    columns = [column[0] for column in work.execute("FROM by_platform_total").description]
    assert "events" in columns
    assert "events_held_back" not in columns


def test_the_views_show_the_highest_number_of_a_window_and_the_ledger_all(work: DuckDBPyConnection) -> None:
    again = build_release(number=2, values=[[1, 2, 3, 4], [5, 6, 7, 8]], total=[10, 26])
    apply(work, [again, build_release(total=[7, 7])])
    assert work.execute("SELECT sum(users), count(*) FROM by_platform").fetchall() == [(10, 4)]
    assert work.execute("SELECT users FROM by_platform_total").fetchall() == [(10,)]
    assert work.execute("SELECT releases, rho FROM ledger").fetchall() == [(2, 0.02)]


def test_the_ledger_charges_a_week_that_straddles_two_months_to_both(work: DuckDBPyConnection) -> None:
    days = [build_release(day=f"2026-05-{day:02}") for day in range(1, 32)]
    weeks = [build_release(day=day, window="week", rho=0.02) for day in ("2026-04-30", "2026-05-05", "2026-05-30")]
    apply(work, [*days, *weeks, build_release(window="month", rho=0.05)])
    rows = work.execute("SELECT month::VARCHAR, period, releases, round(rho, 9) FROM ledger").fetchall()
    assert rows == [
        ("2026-04-01", "week", 1, 0.02),
        ("2026-05-01", "day", 31, 0.31),
        ("2026-05-01", "week", 3, 0.06),
        ("2026-05-01", "month", 1, 0.05),
    ]


def test_the_catalogue_tells_what_there_is(work: DuckDBPyConnection) -> None:
    apply(
        work,
        [
            build_open_release(),
            build_open_release(window="week"),
            build_open_release("2026-05-02", max_cells=5),
        ],
    )
    apply(work, [build_release("active", dimensions=[], protects=False)])
    frame = work.execute("FROM catalogue").df().set_index("statistic")
    row = frame.loc["feature_use"]
    assert frame.index.tolist() == ["active", "feature_use"]
    assert list(row["dimensions"]) == ["feature", "platform"]
    assert list(row["measures"]) == ["users", "events"]
    assert list(row["periods"]) == ["day", "week"]
    assert (str(row["first_start"].date()), str(row["last_end"].date())) == ("2026-04-27", "2026-05-04")
    assert (row["releases"], row["max_cells"], row["has_total"]) == (3, 5, True)
    assert (row["users_sigma"], row["users_threshold"], row["events_bound"]) == (20.0, 157.0, 10)
    assert frame["protects"].tolist() == [False, True]


def test_noise_is_told_for_every_kind_of_window(work: DuckDBPyConnection) -> None:
    monthly = build_release(window="month", measures=[measure("users", 10.0)])
    apply(work, [build_release(), build_release(day="2026-05-02", measures=[measure("users", 21.0)]), monthly])
    rows = work.execute("SELECT period, measure, sigma, round(bar95, 2) FROM noise").fetchall()
    assert rows == [
        ("day", "users", 21.0, 41.16),
        ("day", "events", 80.0, 156.8),
        ("month", "users", 10.0, 19.6),
    ]


def test_policies_are_told_with_their_price(work: DuckDBPyConnection) -> None:
    apply(
        work,
        [build_release(), build_release(day="2026-05-02"), build_release(day="2026-05-03", policy="2026-2")],
    )
    rows = work.execute("SELECT policy, first_start::VARCHAR, last_end::VARCHAR, releases, epsilon FROM policies")
    assert rows.fetchall() == [
        ("2026-1", "2026-05-01", "2026-05-03", 2, 6.0),
        ("2026-2", "2026-05-03", "2026-05-04", 1, 6.0),
    ]


def test_every_table_view_column_type_and_macro_has_a_comment(work: DuckDBPyConnection, tmp_path: Path) -> None:
    for release in HISTORY:
        apply(work, [release])
        assert uncommented(work) == []
    with duckdb.connect(str(publish(work, tmp_path)), read_only=True) as snapshot:
        assert uncommented(snapshot) == []


def test_what_lacks_a_comment_is_found(work: DuckDBPyConnection) -> None:
    work.execute("CREATE VIEW bare AS SELECT 1 AS one")
    work.execute("CREATE TYPE mood AS ENUM ('fine')")
    work.execute("CREATE MACRO twice(x) AS 2 * x")
    work.execute("CREATE TABLE released.naked (a INTEGER)")
    assert uncommented(work) == [
        "main.bare",
        "main.bare.one",
        "main.mood",
        "main.twice",
        "released.naked",
        "released.naked.a",
    ]

"""How faults are cut into runs, what becomes of their rows, and when a memory grows."""

import random
from collections.abc import Callable
from pathlib import Path
from statistics import linear_regression

import pytest

from tests.deployment.apache import Cluster
from tests.faults import lanes
from tests.faults.__main__ import summary
from tests.faults.lanes import Done, pieces, run_all
from tests.faults.load import slope
from tests.faults.table import FAULTS, Fault


def fault(run: Callable[[Cluster, Path, int, int], str]) -> Fault:
    return Fault("tried", "", 1, 7, run, at_once=3)


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nowhere:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(lanes, "cluster_of", lambda _: Nowhere())


def test_runs_are_as_many_as_asked_for_and_no_larger_than_one_may_be() -> None:
    assert [piece.times for piece in pieces(fault(lambda *_: ""), 7)] == [3, 3, 1]
    assert [piece.seed % 6 for piece in pieces(fault(lambda *_: ""), 7)] == [0, 1, 2]
    assert pieces(fault(lambda *_: ""), 0) == []


def test_what_was_run_before_is_not_run_again() -> None:
    ran: list[int] = []
    kept: list[Done] = []

    def run(_: Cluster, __: Path, ___: int, times: int) -> str:
        ran.append(times)
        return "seen"

    before = [Done("tried", 5, True, "seen", 1.0)]
    done = run_all([fault(run)], {"tried": 7}, before, lanes=2, within=60, keep=kept.append)
    assert ran == [2]
    assert done == kept
    assert summary("tried", before + done)["runs"] == 7


def test_a_run_that_does_not_hold_is_kept_with_its_seed_and_no_other_is_left_out() -> None:
    def run(_: Cluster, directory: Path, seed: int, times: int) -> str:
        assert times == 3, f"{directory} {seed}"
        return "seen"

    done = run_all([fault(run)], {"tried": 7}, lanes=1, within=60, keep=lambda _: None)
    row = summary("tried", done)
    assert [each.ok for each in done] == [True, True, False]
    assert (row["runs"], row["ok"]) == (7, False)
    assert str(row["detail"]).startswith("seed ")


def test_what_was_never_run_does_not_hold() -> None:
    assert not summary("tried", [])["ok"]


def test_nothing_begins_after_its_time() -> None:
    assert run_all([fault(lambda *_: "")], {"tried": 7}, lanes=2, within=0, keep=lambda _: None) == []


def test_the_full_counts_are_those_of_the_acceptance() -> None:
    full = {each.name: each.full for each in FAULTS}
    assert full["worker killed"] == 500
    assert full["killed at each edge"] == full["zombie worker"] == full["zombie releaser"] == 20
    assert full["broker stopped"] == full["broker killed"] == 5
    assert full["workers come and go"] == full["rough application"] == 10


def test_a_slope_is_that_of_the_least_squares_line() -> None:
    assert slope([5.0, 7.0, 9.0]) == (2.0, 0.0)
    values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0]
    assert slope(values).value == pytest.approx(linear_regression(range(6), values).slope)


@pytest.mark.parametrize("months", [3, 10])
def test_what_does_not_grow_is_within_the_interval_19_times_of_20(months: int) -> None:
    source = random.Random(1)
    slopes = [slope([source.gauss(100, 5) for _ in range(months)]) for _ in range(2_000)]
    assert 0.93 < sum(abs(each.value) <= each.error for each in slopes) / len(slopes) < 0.97


def test_what_grows_is_outside_the_interval() -> None:
    source = random.Random(1)
    grown = slope([100 + 3 * month + source.gauss(0, 1) for month in range(10)])
    assert grown.value - grown.error > 0

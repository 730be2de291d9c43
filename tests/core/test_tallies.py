"""The second hop's state: a fold that can be thrown away, and the counts of a window that has closed."""

from typing import Any

import pytest

from pipeline.core.outcomes import Reason, Rejection
from pipeline.testing import EXACT, OPEN, declarations, event, record

from .hop import Hop, named


def test_users_are_distinct_subjects() -> None:
    hop = Hop()
    hop.fold(*named("u-1", "u-2", "u-1", "u-3"))
    hop.fold(*named("u-2", "u-4"))
    assert hop.cells("active_users") == {(): (4, 4)}


def test_a_user_of_a_week_is_one_user_however_many_days() -> None:
    hop = Hop()
    hop.fold(*[event(subject="u-1", time=f"2026-05-0{day}T10:00:00Z") for day in (1, 2, 3)])
    assert hop.cells("active_users", "week-2026-04-27") == {(): (1, 1)}


def test_events_without_a_subject_are_events_and_never_users() -> None:
    hop = Hop()
    hop.fold(*[event(subject=None, id=str(i), feature="x") for i in range(7)], event(subject="u-1", feature="x"))
    assert hop.cells("feature_use") == {("x", "web"): (1, 8)}
    hop = Hop()
    hop.fold(event(subject=None), event(subject="u-1"))
    assert hop.count("feature_use").total_users == 1
    hop = Hop()
    hop.fold(*[event(subject=None, id=str(i)) for i in range(7)])
    assert hop.count("intensity").users == [0] * 7


# If a cell without a user in this partition were dropped, its events would be in the total only, and how many are lost
# would depend on the number of partitions.
@pytest.mark.parametrize("policy", [None, EXACT])
def test_events_without_a_subject_are_in_their_cell_where_no_user_is(policy: Any) -> None:
    hop = Hop(declarations(policy=policy))
    hop.fold(*[event(subject=None, id=str(i), feature="x") for i in range(7)], event(subject="u-1", feature="y"))
    assert hop.cells("feature_use") == {("x", "web"): (0, 7), ("y", "web"): (1, 1)}


def test_an_event_that_lacks_a_dimension_stays_out_of_the_statistic_and_in_the_others() -> None:
    hop = Hop()
    hop.fold(event(subject="u-1", feature="x"), event(subject="u-2", feature="x", duration_ms=5))
    assert hop.cells("duration_by_feature") == {("x", "under 1 s"): (1, 1)}
    hop = Hop()
    hop.fold(event(subject="u-1", feature="x"), event(subject="u-2", feature="x", duration_ms=5))
    assert hop.cells("feature_use") == {("x", "web"): (2, 2)}


def test_the_histogram_counts_users_by_their_events() -> None:
    hop = Hop()
    for subject, n in {"u-1": 1, "u-2": 2, "u-3": 4, "u-4": 4, "u-5": 33, "u-6": 1000}.items():
        hop.fold(*[event(subject=subject, feature=f"f-{i % 7}") for i in range(n)])
    found = hop.count("intensity")
    assert dict(zip(found.cells, found.users, strict=True)) == {
        (b"1",): 1, (b"2",): 1, (b"3-4",): 2, (b"5-8",): 0, (b"9-16",): 0, (b"17-32",): 0, (b"33+",): 2,
    }  # fmt: skip
    assert found.total_users == 6


@pytest.mark.parametrize(("window", "most"), [("day-2026-05-01", 5), ("week-2026-04-27", 10), ("month-2026-05-01", 20)])
def test_a_subject_adds_at_most_the_bound_to_a_cell(window: str, most: int) -> None:
    hop = Hop()
    hop.fold(*[event(subject="u-1", feature="x") for _ in range(50)], event(subject="u-2", feature="x"))
    assert hop.cells("feature_use", window) == {("x", "web"): (2, most + 1)}


def test_a_subject_is_in_at_most_as_many_cells_as_the_bound() -> None:
    hop = Hop()
    hop.fold(*[event(subject="u-1", feature=f"f-{i}") for i in range(20) for _ in range(9)])
    found = hop.count("feature_use")
    assert found.users == [1, 1, 1]
    assert found.events == [5, 5, 5]
    assert (found.total_users, found.total_events) == (1, 15)


def days_of(subject: str, features: str, *days: str) -> list[dict[str, Any]]:
    return [event(subject=subject, feature=f, time=f"{day}T10:00:00Z") for day in days for f in features]


def test_in_a_week_of_two_months_each_month_is_held_to_the_bound() -> None:
    april, may = days_of("u-1", "abcdefgh", "2026-04-29", "2026-04-30"), days_of("u-1", "ijklmnop", "2026-05-01")
    hop = Hop()
    hop.fold(*april, *may)
    both = hop.cells("feature_use", "week-2026-04-27")
    assert len(both) == 6
    for month, letters in ((april, "abcdefgh"), (may, "ijklmnop")):
        hop = Hop()
        hop.fold(*month)
        assert hop.cells("feature_use", "week-2026-04-27") == {c: n for c, n in both.items() if c[0] in letters}


def test_a_cell_of_both_months_is_one_cell_and_held_to_one_bound() -> None:
    hop = Hop()
    hop.fold(*days_of("u-1", "x" * 8, "2026-04-30", "2026-05-01"), *days_of("u-2", "x" * 3, "2026-04-30", "2026-05-01"))
    assert hop.cells("feature_use", "week-2026-04-27") == {("x", "web"): (2, 10 + 6)}


def test_a_week_within_one_month_is_bounded_as_a_whole() -> None:
    hop = Hop()
    hop.fold(*days_of("u-1", "abcdefgh", "2026-05-05"), *days_of("u-1", "ijklmnop", "2026-05-06"))
    assert len(hop.cells("feature_use", "week-2026-05-04")) == 3


def test_a_statistics_total_is_of_all_its_cells() -> None:
    hop = Hop()
    hop.fold(
        *[event(subject=f"u-{i % 9}", feature=f"f-{i % 2}", platform=("ios", "web")[i % 3 == 0]) for i in range(90)]
    )
    found = hop.count("feature_use")
    assert found.total_users == 9
    assert found.total_events == sum(found.events)


def test_without_bounds_everything_is_counted() -> None:
    hop = Hop(declarations(policy=EXACT))
    hop.fold(*[event(subject="u-1", feature=f"f-{i}") for i in range(20) for _ in range(9)])
    found = hop.count("feature_use")
    assert found.users == [1] * 20
    assert found.events == [9] * 20
    assert found.total_events == 180


# -- provenance and duplicates


def test_what_was_folded_is_not_folded_again() -> None:
    hop = Hop()
    first, second = hop.contribution(*named("u-1", "u-2")), hop.contribution(*named("u-3"))
    for batch in (first, second, first, second, second):
        assert hop.state.fold(batch) == []
    assert hop.cells("active_users") == {(): (3, 3)}


def test_a_batch_that_was_cut_anew_adds_what_is_new_in_it() -> None:
    hop = Hop()
    records = [record(event(subject=f"u-{offset}"), offset=offset) for offset in range(6)]
    for start, end in ((0, 3), (1, 5), (0, 2), (3, 6)):
        (batch,) = hop.ingest.ingest(0, records[start:end], OPEN).contributions.values()
        assert hop.state.fold(batch) == []
    assert hop.cells("active_users") == {(): (6, 6)}


def test_offsets_of_another_source_partition_are_other_offsets() -> None:
    hop = Hop()
    hop.fold(*named("u-1"), source=0)
    hop.fold(*named("u-2"), source=1)
    assert hop.state.next == {0: 1, 1: 1}
    hop.state.fold(hop.contribution(*named("u-3"), source=1))
    assert hop.state.next == {0: 1, 1: 2}


def test_an_event_that_comes_again_elsewhere_is_a_duplicate() -> None:
    hop, same = Hop(), event(subject="u-1", feature="x")
    assert hop.fold(same, same) == [Rejection(Reason.DUPLICATE, 0, 0, 1)]
    assert hop.fold(event(subject="u-2"), same) == [Rejection(Reason.DUPLICATE, 0, 1, 1)]
    assert hop.fold(same, source=3) == [Rejection(Reason.DUPLICATE, 3, 0, 0)]
    assert hop.cells("feature_use")["x", "web"] == (1, 1)


def test_an_event_of_one_subject_hides_no_one_elses_with_the_same_source_and_id() -> None:
    hop = Hop()
    assert hop.fold(*[event(subject=subject, source="a", id="1") for subject in ("u-1", "u-2", None)]) == []
    assert hop.count("active_users").total_users == 2

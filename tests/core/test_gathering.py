"""Tallies are gathered until a window is complete (``core.releasing``)."""

from pipeline.core.releasing import Gathered
from pipeline.core.tallies import Closed
from pipeline.core.windows import window_named

from .test_releasing import DAY, tallies


def closed(partition: int, day: int, partitions: int = 2) -> Closed:
    return Closed(partition=partition, partitions=partitions, closed=day)


def end(window: str = DAY) -> int:
    return window_named(window).end


def test_a_window_is_complete_when_every_partition_has_given_it_out() -> None:
    gathered = Gathered()
    assert gathered.complete() == []
    gathered.add(tallies({"a": 1}, partition=0, partitions=2))
    gathered.add(closed(0, end()))
    assert gathered.complete() == []
    gathered.add(tallies({"a": 1}, partition=1, partitions=2))
    assert gathered.complete() == []
    gathered.add(closed(1, end() - 1))
    assert gathered.complete() == []
    gathered.add(closed(1, end()))
    assert gathered.complete() == [window_named(DAY)]


def test_windows_complete_in_the_order_of_their_ends() -> None:
    gathered = Gathered()
    names = ["month-2026-05-01", "day-2026-05-31", "week-2026-05-25", "day-2026-05-01"]
    for name in names:
        gathered.add(tallies({}, window=name))
    gathered.add(closed(0, end("month-2026-05-01"), partitions=1))
    assert [window.name for window in gathered.complete()] == [
        "day-2026-05-01", "day-2026-05-31", "week-2026-05-25", "month-2026-05-01",
    ]  # fmt: skip


def test_a_tally_that_comes_again_replaces_itself() -> None:
    gathered = Gathered()
    for users in ({"a": 5}, {"a": 5}):
        gathered.add(tallies(users))
    (parts,) = gathered.tallies.values()
    assert [part.statistics["feature_use"].users for part in parts.values()] == [[5]]


def test_a_word_on_what_is_closed_is_never_taken_back() -> None:
    gathered = Gathered()
    gathered.add(tallies({"a": 1}))
    gathered.add(closed(0, end(), partitions=1))
    gathered.add(closed(0, end() - 5, partitions=1))
    assert gathered.complete() == [window_named(DAY)]

"""Tallies are gathered until a window is complete (``core.releasing``)."""

from collections.abc import Sequence

import pytest

from pipeline.core.releasing import Gathered
from pipeline.core.tallies import Closed
from pipeline.core.windows import window_named

from .test_releasing import DAY, tallies


def closed(
    partition: int, day: int, partitions: int = 2, since: int | None = None, windows: Sequence[str] = ()
) -> Closed:
    return Closed(partition=partition, partitions=partitions, closed=day, since=since, windows=list(windows))


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


def test_a_window_whose_tally_a_partition_gave_out_waits_for_it() -> None:
    """The tally was deleted, or never read: what the others counted is not all."""
    gathered = Gathered()
    gathered.add(tallies({"a": 1}, partition=0, partitions=2))
    gathered.add(closed(0, end(), windows=[DAY]))
    gathered.add(closed(1, end(), windows=[DAY]))
    assert gathered.complete() == []
    gathered.add(tallies({"a": 1}, partition=1, partitions=2))
    assert gathered.complete() == [window_named(DAY)]


def test_a_partition_that_met_nothing_of_a_window_need_not_give_it_out() -> None:
    gathered = Gathered()
    gathered.add(tallies({"a": 1}, partition=0, partitions=2))
    gathered.add(closed(0, end(), windows=[DAY]))
    gathered.add(closed(1, end()))
    assert gathered.complete() == [window_named(DAY)]


@pytest.mark.parametrize(
    ("words", "complete"),
    [
        ([(None, 0)], True),
        ([(-3, 0)], True),
        ([(0, 1)], False),  # what it said before that is not here
        ([(None, -1), (-1, 0)], True),
        ([(None, -2), (-1, 1)], True),  # a word between them is lost, and this one speaks of the window all the same
        ([(None, -2), (0, 1)], False),  # the word that spoke of it is lost
        ([(None, 0), (3, 5)], False),  # the same, and what was said before the gap is no longer trusted
        ([(0, 1), (None, 1)], True),  # given out again from the beginning
    ],
)
def test_a_partition_speaks_only_of_what_its_words_cover(words: list[tuple[int | None, int]], complete: bool) -> None:
    gathered = Gathered()
    gathered.add(tallies({"a": 1}, partition=0, partitions=1))
    for since, until in words:
        gathered.add(closed(0, end() + until, 1, None if since is None else end() + since))
    assert bool(gathered.complete()) is complete


def test_a_window_that_is_released_is_waited_for_no_more() -> None:
    """A tally of it that comes again, from a worker that was killed before it committed, needs no other to go."""
    gathered = Gathered()
    for partition in (0, 1):
        gathered.add(tallies({"a": 1}, partition=partition, partitions=2))
        gathered.add(closed(partition, end(), windows=[DAY]))
    for again in range(3):
        assert gathered.complete() == [window_named(DAY)]
        gathered.forget(window_named(DAY))
        assert (gathered.complete(), gathered.tallies) == ([], {})
        gathered.add(tallies({"a": 1}, partition=again % 2, partitions=2))

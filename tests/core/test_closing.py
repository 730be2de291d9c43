"""Windows close once, when everyone has passed them; the state can be made again from the log (``core.tallies``)."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec
import pytest

from pipeline.core.contributions import Contributions, Progress
from pipeline.core.outcomes import Reason, Rejection
from pipeline.core.tallies import FOREVER, Closed, PartitionState, StatisticTally, Tally
from pipeline.core.windows import day_of, window_named
from pipeline.testing import OPEN, event, record

from .hop import DECLARED, MAY_1, MAY_2, MAY_3, MAY_4, Hop, named, windows


def test_a_window_closes_when_every_source_partition_has_passed_it() -> None:
    hop = Hop()
    hop.fold(*named("u-1"))
    assert hop.close(MAY_2, source=0, of=3) == []
    assert hop.close(MAY_3, source=0, of=3) == []
    assert hop.close(MAY_3, source=1, of=3) == []
    given = hop.close(MAY_2, source=2, of=3)
    assert windows(given) == ["day-2026-05-01"]
    assert given[-1] == Closed(partition=0, partitions=1, closed=MAY_2, windows=["day-2026-05-01"])
    later = hop.close(MAY_3, source=2, of=3)
    assert later[-1] == Closed(partition=0, partitions=1, closed=MAY_3, since=MAY_2)


def test_a_word_that_takes_something_back_changes_nothing() -> None:
    hop = Hop()
    hop.fold(*named("u-1"))
    hop.close(MAY_3, source=0, of=2)
    assert hop.close(MAY_1, source=0, of=2) == []
    assert windows(hop.close(MAY_2, source=1, of=2)) == ["day-2026-05-01"]


def test_a_window_is_given_out_once() -> None:
    hop = Hop()
    hop.fold(*named("u-1"))
    assert windows(hop.close(MAY_2)) == ["day-2026-05-01"]
    assert hop.close(MAY_2) == []
    assert windows(hop.close(MAY_4)) == ["week-2026-04-27"]
    assert windows(hop.close()) == ["month-2026-05-01"]


def test_longer_windows_stay_open_until_they_end() -> None:
    hop = Hop()
    hop.fold(event(subject="u-1", time="2026-05-01T10:00:00Z"))
    hop.close(MAY_2)
    hop.fold(event(subject="u-1", time="2026-05-02T10:00:00Z"), event(subject="u-2", time="2026-05-03T10:00:00Z"))
    given = hop.close(MAY_4)
    assert windows(given) == ["day-2026-05-02", "day-2026-05-03", "week-2026-04-27"]
    (week,) = (t for t in given if isinstance(t, Tally) and t.window.startswith("week"))
    assert week.statistics["active_users"].total_users == 2
    assert week.accepted == 3


def test_a_row_of_a_window_that_was_given_out_is_late() -> None:
    hop = Hop()
    hop.fold(*named("u-1"))
    hop.close(MAY_2)
    refused = hop.fold(event(subject="u-2"), event(subject="u-3", time="2026-05-02T10:00:00Z"))
    assert refused == [Rejection(Reason.LATE, 0, 1, 0)]
    (week,) = (t for t in hop.close(MAY_4) if isinstance(t, Tally) and t.window.startswith("week"))
    assert week.statistics["active_users"].total_users == 2  # u-1 and u-3


@pytest.mark.parametrize("released", ["day-2026-05-01", "week-2026-04-27", "month-2026-05-01"])
def test_a_row_whose_key_is_destroyed_was_counted_before_or_is_late(released: str) -> None:
    hop, counted = Hop(), event(subject="u-1")
    hop.fold(counted, event(subject=None))
    hop.close(window_named(released).end)
    hop.keys.destroy(window_named(released))

    def ingested(offset: int, *events: dict[str, Any]) -> Contributions:
        (found,) = hop.ingest.ingest(0, [record(*events, offset=offset)], OPEN).contributions.values()
        return found

    assert hop.state.fold(ingested(0, counted, event(subject=None))) == []
    late = [event(subject="u-2"), event(subject="u-2"), event(subject=None)]
    assert hop.state.fold(ingested(1, *late)) == [Rejection(Reason.LATE, 0, 1, place) for place in range(3)]
    assert released not in windows(hop.close())


# A window that was opened again would be given out again, and its tally would replace the true one until the release.
@pytest.mark.parametrize("neighbour", ["2026-05-01T11:00:00Z", "2026-05-02T10:00:00Z"])
def test_a_late_row_does_not_open_its_window_again(neighbour: str) -> None:
    hop = Hop()
    hop.fold(*named("u-1"))
    hop.close(MAY_2)
    hop.fold(event(subject="u-2"), event(subject="u-3", time=neighbour))
    assert "day-2026-05-01" not in windows(hop.close(MAY_4))


def test_declared_windows_are_given_out_whether_something_happened_or_not() -> None:
    hop = Hop()
    hop.fold(event(subject="u-1", time="2026-05-02T10:00:00Z"))
    given = hop.close(MAY_4, since=MAY_1)
    assert windows(given) == ["day-2026-05-01", "day-2026-05-02", "day-2026-05-03", "week-2026-04-27"]
    assert given[-1] == Closed(partition=0, partitions=1, closed=MAY_4, windows=windows(given))
    assert [t.accepted for t in given if isinstance(t, Tally)] == [0, 1, 0, 1]
    empty = next(t for t in given if isinstance(t, Tally) and t.window == "day-2026-05-01")
    assert set(empty.statistics) == set(DECLARED.plan.statistics)
    assert empty.statistics["feature_use"] == StatisticTally([], [], [], 0, 0)
    assert windows(Hop().close(MAY_4, since=MAY_1)) == windows(given)


def test_the_declared_windows_are_the_same_however_the_words_are_cut() -> None:
    for cut in ([MAY_4], [MAY_1, MAY_2, MAY_3, MAY_4], [MAY_2, MAY_4]):
        hop = Hop()
        given = [t for day in cut for t in hop.close(day, since=MAY_1)]
        assert windows(given) == ["day-2026-05-01", "day-2026-05-02", "day-2026-05-03", "week-2026-04-27"]


def test_a_span_ends_the_windows_when_all_was_sent() -> None:
    state = PartitionState(0, 1, DECLARED.plan)
    given = list(state.advance(Progress(0, 1, FOREVER, MAY_1, MAY_2)))
    assert windows(given) == ["day-2026-05-01", "week-2026-04-27", "month-2026-05-01"]


def test_without_a_span_windows_reach_from_the_first_event_to_the_last() -> None:
    hop = Hop()
    hop.fold(event(time="2026-05-01T10:00:00Z"), event(time="2026-05-03T10:00:00Z"))
    assert [w for w in windows(hop.close()) if w.startswith("day")] == [
        "day-2026-05-01",
        "day-2026-05-02",
        "day-2026-05-03",
    ]
    assert windows(Hop().close()) == []


def test_accepted_rows_are_those_that_were_counted() -> None:
    hop, same = Hop(), event(subject="u-1")
    hop.fold(same, same, event(subject="u-2"), event(subject=None))
    assert [t.accepted for t in hop.close() if isinstance(t, Tally)] == [3, 3, 3]


def test_a_state_that_is_made_again_from_the_log_gives_the_same() -> None:
    hop = Hop()
    log: list[Contributions | Progress] = []
    for day in range(1, 9):
        log.append(
            hop.contribution(
                *[
                    event(subject=f"u-{i % 4}", feature=f"f-{i % 6}", time=f"2026-05-0{day}T10:00:00Z")
                    for i in range(30)
                ]
            )
        )
        log.append(Progress(0, 1, day_of(date(2026, 5, day)) - 1, MAY_1))
    log.append(Progress(0, 1, FOREVER, MAY_1))

    def replay(part: Sequence[Contributions | Progress]) -> list[Tally | Closed]:
        state = PartitionState(0, 1, DECLARED.plan)
        given: list[Tally | Closed] = []
        for each in part:
            given += state.advance(each) if isinstance(each, Progress) else state.fold(each) and []
        return given

    whole = replay(log)
    assert replay(log) == whole
    for end in range(len(log)):
        assert replay(log[:end]) == whole[: len(replay(log[:end]))]


def test_no_pseudonym_is_left_in_a_tally() -> None:
    hop = Hop()
    subjects = [f"u-{i}" for i in range(50)]
    hop.fold(*named(*subjects))
    given = hop.close()
    wire = b"".join(msgspec.msgpack.encode(tally) for tally in given)
    for window in windows(given):
        key = hop.keys.window(window_named(window))
        assert key is not None
        for subject in subjects:
            assert key.pseudonym(subject) not in wire
            assert key.pseudonym(subject)[:8] not in wire
    assert len(windows(given)) == 3

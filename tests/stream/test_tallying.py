"""The second hop's shell: a fold over one partition of the log, that can be made again and accepts no gap."""

import asyncio
from collections.abc import Iterable

import pytest

from pipeline.core.contributions import Progress, encode_contribution
from pipeline.core.events import Record
from pipeline.core.ingest import Ingest
from pipeline.core.outcomes import Reason
from pipeline.core.tallies import FOREVER, Closed, Tally
from pipeline.core.windows import window_named
from pipeline.declarations import Declarations
from pipeline.stream.rejections import decode_rejections
from pipeline.stream.tallying import GapInLog, TallyHop, decode_tally
from pipeline.stream.topics import CONTRIBUTIONS, REJECTIONS, TALLIES
from pipeline.stream.transport import Batch
from pipeline.testing import MemoryKeyStore, event, record
from tests.stream.conftest import Sent

DAYS = 4


@pytest.fixture(scope="module")
def log(exact: Declarations) -> list[bytes]:
    """One partition of contributions: two source partitions' rows and words, and a delivery that came twice."""
    ingest = Ingest(exact.registry, exact.plan, exact.policy, MemoryKeyStore(), 1)
    values = []
    for day in range(1, DAYS + 1):
        for source in (0, 1):
            time = f"2026-05-0{day}T10:00:00Z"
            events = [event(subject=f"u-{n}", id=f"{source}-{day}-{n}", time=time) for n in range(day)]
            batch = ingest.ingest(source, [record(*events, offset=2 * day)], -(10**6))
            again = ingest.ingest(source, [record(*events[:1], offset=2 * day + 1)], -(10**6))
            values += [encode_contribution(each.contributions[0]) for each in (batch, batch, again)]
        values += [encode_contribution(Progress(source, 2, 20_574 + day)) for source in (0, 1)]  # 20 574: 1 May 2026
    return [*values, *(encode_contribution(Progress(source, 2, FOREVER)) for source in (0, 1))]


@pytest.fixture
def hop(exact: Declarations, sent: Sent) -> TallyHop:
    return TallyHop(exact.plan, sent, partitions=1, bounded=False)


def handle(hop: TallyHop, values: Iterable[bytes], start: int = 0, partition: int = 0) -> None:
    records = [Record(start + place, 0.0, (), value) for place, value in enumerate(values)]
    asyncio.run(hop.handle(Batch(CONTRIBUTIONS, partition, records)))


def given(sent: Sent) -> tuple[list[Tally | Closed], list[Reason]]:
    taken = sent.take()
    assert {partition for _, partition, _ in taken} <= {0}
    tallies = [decode_tally(value) for topic, _, value in taken if topic == TALLIES]
    return tallies, [r.reason for topic, _, value in taken if topic == REJECTIONS for r in decode_rejections(value)]


def test_closed_windows_are_counted_and_given_out_and_what_came_twice_is_not(
    hop: TallyHop, sent: Sent, log: list[bytes]
) -> None:
    hop.resume(0, 0)
    handle(hop, log)
    tallies, rejected = given(sent)
    days = {each.window: each for each in tallies if isinstance(each, Tally) and each.window.startswith("day")}
    assert [days[name].accepted for name in sorted(days)] == [2, 4, 6, 8]
    assert [days[name].statistics["active_users"].total_users for name in sorted(days)] == [1, 2, 3, 4]
    assert [each.closed for each in tallies if isinstance(each, Closed)] == [20_575, 20_576, 20_577, 20_578, FOREVER]
    assert isinstance(tallies[-1], Closed)  # after what it speaks of
    assert rejected == [Reason.DUPLICATE] * 2 * DAYS  # of the other records; a record that comes again is none


def test_however_the_log_is_cut_and_repeated_the_tallies_are_the_same(
    hop: TallyHop, sent: Sent, exact: Declarations, log: list[bytes]
) -> None:
    hop.resume(0, 0)
    handle(hop, log)
    whole = given(sent)
    cut_up = TallyHop(exact.plan, sent, partitions=1, bounded=False)
    cut_up.resume(0, 0)
    for start in range(0, len(log), 3):
        again = max(0, start - 4)  # a few that it has folded already
        handle(cut_up, log[again : start + 3], again)
    assert given(sent) == whole


def test_a_partition_that_comes_back_goes_on_where_its_fold_is(hop: TallyHop, sent: Sent, log: list[bytes]) -> None:
    assert hop.resume(0, 0) == 0
    handle(hop, log[:7])
    assert hop.resume(0, 0) == 7
    handle(hop, log[7:], 7)
    whole = given(sent)
    hop.forget(0)
    assert hop.resume(0, 0) == 0
    handle(hop, log)
    assert given(sent) == whole


def test_a_fold_whose_records_are_deleted_starts_anew_at_the_earliest(hop: TallyHop, log: list[bytes]) -> None:
    hop.resume(0, 0)
    handle(hop, log[:7])
    assert hop.resume(0, 9) == 9
    assert not hop.states[0].windows
    assert hop.resume(1, 5) == 5  # each partition for itself
    assert hop.resume(0, 5) == 9


def test_a_gap_in_the_log_is_an_error_and_folds_nothing(hop: TallyHop, sent: Sent, log: list[bytes]) -> None:
    hop.resume(0, 0)
    handle(hop, log[:2])
    with pytest.raises(GapInLog):
        handle(hop, log[3:], 3)
    assert sent.take() == []
    assert hop.resume(0, 0) == 2


def test_what_was_fetched_before_the_partition_was_given_away_is_left_alone(
    hop: TallyHop, sent: Sent, log: list[bytes]
) -> None:
    handle(hop, log)
    hop.resume(0, 0)
    hop.forget(0)
    handle(hop, log)
    assert sent.take() == []
    assert hop.resume(0, 0) == 0


def test_a_tally_names_no_pseudonym_and_no_open_value(hop: TallyHop, sent: Sent, log: list[bytes]) -> None:
    hop.resume(0, 0)
    handle(hop, log)
    keys = MemoryKeyStore()
    values = b"".join(value for topic, _, value in sent.records if topic == TALLIES)
    tallies, _ = given(sent)
    for tally in tallies:
        if isinstance(tally, Tally):
            key = keys.window(window_named(tally.window))
            assert key is not None
            assert key.seal("feature", "search") in values
            assert all(key.pseudonym(f"u-{n}") not in values for n in range(DAYS))
    assert b"search" not in values

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
from pipeline.stream.tallying import TallyHop, decode_tally
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
    asyncio.run(hop.handle(Batch(CONTRIBUTIONS, partition, start, records)))


def given(sent: Sent) -> tuple[list[Tally | Closed], list[Reason]]:
    taken = sent.take()
    assert {partition for _, partition, _ in taken} <= {0}
    tallies = [decode_tally(value) for topic, _, value in taken if topic == TALLIES]
    return tallies, [r.reason for topic, _, value in taken if topic == REJECTIONS for r in decode_rejections(value)]


def test_closed_windows_are_counted_and_given_out_and_what_came_twice_is_not(
    hop: TallyHop, sent: Sent, log: list[bytes]
) -> None:
    hop.begin(0, 0, None)
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
    hop.begin(0, 0, None)
    handle(hop, log)
    whole = given(sent)
    cut_up = TallyHop(exact.plan, sent, partitions=1, bounded=False)
    cut_up.begin(0, 0, None)
    for start in range(0, len(log), 3):
        again = max(0, start - 4)  # a few that it has folded already
        handle(cut_up, log[again : start + 3], again)
    assert given(sent) == whole


def test_a_partition_that_comes_back_is_folded_from_the_beginning(hop: TallyHop, sent: Sent, log: list[bytes]) -> None:
    assert hop.begin(0, 3, 99) == 3  # whatever was committed
    handle(hop, log)
    whole = given(sent)
    hop.forget(0)
    assert not hop.assigned
    hop.begin(0, 0, 99)
    handle(hop, log)
    assert given(sent) == whole
    hop.begin(0, 0, 99)  # what was there before is deleted, so the state is made anew
    handle(hop, log)
    assert given(sent) == whole


@pytest.mark.parametrize("sent_before", [0, 1, 3, 5, 9])
def test_what_could_not_be_sent_is_sent_once_the_batch_comes_again(
    sent_before: int, hop: TallyHop, exact: Declarations, sent: Sent, log: list[bytes]
) -> None:
    """Folding it again gives nothing again: what came of it the first time must not be lost. It may be sent twice."""
    hop.begin(0, 0, None)
    handle(hop, log)
    whole = sent.take()

    class Cancelled(Sent):
        async def __call__(self, topic: str, partition: int, value: bytes) -> None:
            if len(self.records) == sent_before:
                raise asyncio.CancelledError
            await super().__call__(topic, partition, value)

    interrupted = Cancelled()
    again = TallyHop(exact.plan, interrupted, partitions=1, bounded=False)
    again.begin(0, 0, None)
    with pytest.raises(asyncio.CancelledError):
        handle(again, log)
    taken = interrupted.take()
    assert len(taken) == sent_before
    again.send = sent
    handle(again, log)
    assert list(dict.fromkeys([*taken, *sent.take()])) == whole


def test_a_word_is_sent_once_the_broker_has_everything_before_it_and_tallies_go_together(
    exact: Declarations, log: list[bytes]
) -> None:
    sent: list[Tally | Closed] = []
    waiting = most = 0

    async def send(topic: str, _: int, value: bytes) -> None:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        for _ in range(20 - waiting):  # the broker has what was sent last before what was sent first
            await asyncio.sleep(0)
        waiting -= 1
        if topic == TALLIES:
            sent.append(decode_tally(value))

    hop = TallyHop(exact.plan, send, partitions=1, bounded=False)
    hop.begin(0, 0, None)
    handle(hop, log)
    told = set()
    for each in sent:
        if isinstance(each, Tally):
            told.add(each.window)
        else:
            assert set(each.windows) <= told
    words = [each.closed for each in sent if isinstance(each, Closed)]
    assert words == sorted(words)
    assert most > 1


def test_a_tally_names_no_pseudonym_and_no_open_value(hop: TallyHop, sent: Sent, log: list[bytes]) -> None:
    hop.begin(0, 0, None)
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

"""The first hop's shell: what it sends, in which order, and what a source partition may promise."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline.core.contributions import Contributions, Progress, decode_contribution
from pipeline.core.events import Record
from pipeline.core.ingest import Ingest
from pipeline.core.outcomes import Reason, Rejection
from pipeline.core.tallies import FOREVER
from pipeline.core.windows import day_of, window_named
from pipeline.declarations import Declarations
from pipeline.stream.ingesting import MARGIN, WORD, Idle, IngestHop
from pipeline.stream.keystore import FileKeyStore
from pipeline.stream.rejections import decode_rejections
from pipeline.stream.topics import CONTRIBUTIONS, EVENTS, REJECTIONS, TOPICS
from pipeline.stream.transport import Batch
from pipeline.testing import event, record
from tests.stream.conftest import PARTITIONS, Sent

SOURCES = 4
LARGEST = (CONTRIBUTIONS, REJECTIONS)
NDJSON = (("content-type", b"application/x-ndjson"),)
DAY = 86_400.0
LATENESS = 2 * DAY  # of the policies that ship
BORN = datetime(2026, 5, 1, 6, tzinfo=UTC).timestamp()


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def day(text: str) -> int:
    return day_of(date.fromisoformat(text))


def word(offset: int, until: str) -> Record:
    return Record(offset, 0.0, ((WORD, until.encode()),), b"")


class Ingesting:
    """A hop, and what it has sent, by kind."""

    def __init__(self, declared: Declarations, keys: FileKeyStore, sent: Sent, *, replay: bool) -> None:
        core = Ingest(declared.registry, declared.plan, declared.policy, keys, PARTITIONS)
        self.sent = sent
        self.hop = IngestHop(core, sent, partitions=PARTITIONS, sources=SOURCES, born=BORN, replay=replay)

    def handle(self, *records: Record, partition: int = 0) -> None:
        asyncio.run(self.hop.handle(Batch(EVENTS, partition, records[0].offset, list(records))))

    def idle(self, now: float, partition: int = 0) -> None:
        asyncio.run(self.hop.idle(Idle(EVENTS, partition, now)))

    def told(self) -> list[tuple[int, Progress]]:
        """The destination and content of each word given since the last time; rows and rejections are dropped."""
        given = [(p, decode_contribution(v)) for topic, p, v in self.sent.take() if topic == CONTRIBUTIONS]
        return [(partition, each) for partition, each in given if isinstance(each, Progress)]

    def rejected(self) -> list[Rejection]:
        return [
            each for topic, _, value in self.sent.take() if topic == REJECTIONS for each in decode_rejections(value)
        ]


@pytest.fixture
def live(exact: Declarations, keys: FileKeyStore, sent: Sent) -> Ingesting:
    """In operation: by the clock."""
    return Ingesting(exact, keys, sent, replay=False)


@pytest.fixture
def replayed(exact: Declarations, keys: FileKeyStore, sent: Sent) -> Ingesting:
    return Ingesting(exact, keys, sent, replay=True)


def users(number: int, **changes: Any) -> Sequence[dict[str, Any]]:
    return [event(subject=f"u-{n}", **changes) for n in range(number)]


def test_rows_are_sent_before_the_promise_that_covers_them(replayed: Ingesting) -> None:
    replayed.handle(
        record(*users(50), offset=0), word(1, "2026-05-02"), record(*users(50, time="2026-05-02T00:00:00Z"))
    )
    kinds = [(topic, type(decode_contribution(value))) for topic, _, value in replayed.sent.take()]
    rows, words = (CONTRIBUTIONS, Contributions), (CONTRIBUTIONS, Progress)
    assert kinds == [rows] * PARTITIONS * 2 + [words] * PARTITIONS


def test_all_rows_arrive_each_in_one_partition(replayed: Ingesting) -> None:
    replayed.handle(*(record(event(subject=f"u-{n}"), offset=n) for n in range(200)), partition=2)
    rows = [(partition, decode_contribution(value)) for _, partition, value in replayed.sent.take()]
    assert sorted(partition for partition, _ in rows) == list(range(PARTITIONS))
    offsets = [int.from_bytes(c.offsets[8 * n : 8 * n + 8], "little") for _, c in rows for n in range(c.rows)]
    assert sorted(offsets) == list(range(200))
    assert {c.partition for _, c in rows} == {2}
    assert {c.last for _, c in rows} == {199}


def test_rejections_go_to_their_topic_with_where_each_stood_and_nothing_else(replayed: Ingesting, sent: Sent) -> None:
    replayed.handle(
        record(event(), b"not json: jan.jansen", event(feature="06-12345678"), offset=7),
        Record(8, 0.0, (), None),
        partition=3,
    )
    ((partition, value),) = [(p, v) for topic, p, v in sent.take() if topic == REJECTIONS]
    assert partition == 0
    assert sorted(decode_rejections(value)) == sorted(
        [
            Rejection(Reason.NOT_JSON, 3, 7, 1),
            Rejection(Reason.PERSONAL_DATA, 3, 7, 2),
            Rejection(Reason.EMPTY, 3, 8, 0),
        ]
    )
    assert b"jansen" not in value
    assert b"12345678" not in value


def test_nothing_is_sent_for_a_batch_that_changes_nothing(replayed: Ingesting) -> None:
    replayed.handle(word(0, "2026-05-02"))
    replayed.sent.take()
    replayed.handle(word(1, "2026-05-02"), word(2, "2026-05-01"))
    assert replayed.sent.take() == []


def test_a_promise_is_told_once_per_change_and_to_every_partition(replayed: Ingesting) -> None:
    replayed.handle(word(0, "2026-05-02"), word(1, "2026-05-03"), partition=1)
    expected = Progress(1, SOURCES, day("2026-05-03"))
    assert replayed.told() == [(partition, expected) for partition in range(PARTITIONS)]
    replayed.handle(record(event()), partition=1)
    assert replayed.told() == []
    replayed.handle(word(3, "9999-12-31"), partition=1)
    assert [each.closed for _, each in replayed.told()] == [FOREVER] * PARTITIONS
    replayed.handle(word(0, "2026-05-03"), partition=2)  # each source partition speaks for itself
    assert [(each.partition, each.closed) for _, each in replayed.told()] == [(2, day("2026-05-03"))] * PARTITIONS


def test_in_a_replay_nothing_is_late_until_the_word_and_from_then_on_by_the_word(replayed: Ingesting) -> None:
    old, older = event(time="1999-01-01T00:00:00Z"), event(time="1998-12-31T23:59:59Z")
    replayed.handle(record(old, older, arrived=at("2026-05-05"), offset=0))
    assert replayed.rejected() == []
    replayed.handle(
        record(event(time="1998-12-31T00:00:00Z"), offset=1),
        word(2, "1999-01-01"),
        record(event(time="1998-12-31T00:00:00Z"), event(time="1999-01-01T00:00:00Z"), offset=3),
        word(4, "1999-01-02"),
        record(event(time="1999-01-01T23:59:59Z"), offset=5),
    )
    assert replayed.rejected() == [Rejection(Reason.LATE, 0, 3, 0), Rejection(Reason.LATE, 0, 5, 0)]


def test_one_source_partition_s_word_says_nothing_about_another(replayed: Ingesting) -> None:
    replayed.handle(word(0, "9999-12-31"), partition=0)
    replayed.handle(record(event(), offset=0), partition=1)
    assert replayed.rejected() == []


def test_records_that_are_read_again_are_judged_as_they_were_the_first_time(replayed: Ingesting) -> None:
    """After a rebalance reading goes on from what was committed, which may be before words that were given already."""
    records = [record(event(), offset=0), word(1, "2026-05-02"), record(event(), offset=2), word(3, "9999-12-31")]
    replayed.handle(*records)
    first = replayed.rejected()
    assert first == [Rejection(Reason.LATE, 0, 2, 0)]
    replayed.handle(*records)
    assert replayed.rejected() == first
    replayed.hop.forget(0)
    replayed.handle(*records)
    assert replayed.rejected() == first


def test_a_batch_that_was_being_handled_when_its_partition_was_given_away_leaves_nothing_behind(
    replayed: Ingesting,
) -> None:
    records = [record(event(), offset=0), word(1, "9999-12-31")]
    send = replayed.hop.send

    async def given_away(topic: str, partition: int, value: bytes) -> None:
        replayed.hop.forget(0)
        await send(topic, partition, value)

    replayed.hop.send = given_away
    replayed.handle(*records)
    replayed.hop.send = send
    replayed.sent.take()
    replayed.handle(*records)  # it came back, and nothing of it was committed
    assert replayed.rejected() == []


def test_in_a_replay_the_clock_closes_nothing(replayed: Ingesting) -> None:
    replayed.handle(record(event(), arrived=at("2030-01-01")))
    replayed.idle(at("2030-01-01"))
    assert replayed.told() == []


def test_in_operation_nobody_s_word_counts(live: Ingesting) -> None:
    live.handle(replace(word(0, "9999-12-31"), arrived=at("2026-05-05T12:00")))
    sent = live.sent.records.copy()
    assert live.rejected() == [Rejection(Reason.EMPTY, 0, 0, 0)]  # it is one more record without a value
    live.sent.records = sent
    assert {each.closed for _, each in live.told()} == {day("2026-05-03")}


@pytest.mark.parametrize(
    ("time", "arrived", "reason"),
    [
        ("2026-05-05T23:59:59Z", "2026-05-05T23:59:59", None),
        ("2026-05-05T00:00:00Z", "2026-05-07T23:59:59", None),  # the day ended 48 h ago less a second
        ("2026-05-05T23:59:59Z", "2026-05-08T00:00:00", Reason.LATE),
        ("2026-05-05T00:00:00+02:00", "2026-05-07T00:00:00", Reason.LATE),  # the 4th in UTC
        ("2026-05-05T12:10:00Z", "2026-05-05T12:00:00", None),
        ("2026-05-05T12:10:01Z", "2026-05-05T12:00:00", Reason.FUTURE),
    ],
)
def test_in_operation_an_event_is_judged_by_its_arrival(
    live: Ingesting, time: str, arrived: str, reason: Reason | None
) -> None:
    live.handle(record(event(time=time), arrived=at(arrived)))
    assert [each.reason for each in live.rejected()] == ([] if reason is None else [reason])


def test_an_event_in_the_same_batch_as_a_later_one_is_judged_by_its_own_arrival(live: Ingesting) -> None:
    """Else a worker that was away would reject what it finds waiting."""
    waiting = [
        record(event(time="2026-05-05T10:00:00Z"), arrived=at(arrived)) for arrived in ("2026-05-06", "2026-05-20")
    ]
    live.handle(*(replace(each, offset=offset) for offset, each in enumerate(waiting)))
    assert live.rejected() == [Rejection(Reason.LATE, 0, 1, 0)]


def test_in_operation_arrivals_move_a_partition_on_and_never_back(live: Ingesting) -> None:
    live.handle(record(event(time="2026-05-09T10:00:00Z"), arrived=at("2026-05-09T10:00")))
    since = day("2026-04-29")  # what had closed when the deployment began exists in no release
    assert {each for _, each in live.told()} == {Progress(0, SOURCES, day("2026-05-07"), since)}
    live.handle(record(event(time="2026-05-08T10:00:00Z"), arrived=at("2026-05-08T10:00")))
    assert live.told() == []
    assert live.hop._closed[0] == day("2026-05-07")


def test_an_idle_partition_moves_on_with_the_clock_less_the_margin(live: Ingesting) -> None:
    closing = at("2026-05-05") + LATENESS  # when the 4th closes
    live.idle(closing + MARGIN - 1)
    assert {each.closed for _, each in live.told()} == {day("2026-05-04")}
    live.idle(closing + MARGIN - 0.5)
    assert live.told() == []
    live.idle(closing + MARGIN)
    assert [(partition, each.closed) for partition, each in live.told()] == [
        (partition, day("2026-05-05")) for partition in range(PARTITIONS)
    ]
    live.idle(closing - DAY)  # a clock that was set back
    assert live.told() == []


def test_a_partition_that_was_given_away_and_came_back_is_told_of_again(live: Ingesting) -> None:
    now = at("2026-05-09T10:00")
    live.idle(now, partition=1)
    live.idle(now, partition=2)
    live.sent.take()
    live.hop.forget(1)
    live.idle(now, partition=1)
    live.idle(now, partition=2)
    assert [(partition, each.partition) for partition, each in live.told()] == [(n, 1) for n in range(PARTITIONS)]


def test_a_partition_that_came_back_promises_nothing_of_what_it_had_promised(replayed: Ingesting) -> None:
    """Its new owner reads on from what was committed: there may be rows before the word that are not sent on yet."""
    replayed.handle(record(event(), offset=0), word(1, "9999-12-31"))
    replayed.hop.forget(0)
    replayed.sent.take()
    replayed.handle(record(event(), offset=0))
    assert replayed.rejected() == []
    assert replayed.told() == []


def test_a_row_whose_key_is_destroyed_is_left_to_the_tally_with_nothing_in_it(
    live: Ingesting, keys: FileKeyStore
) -> None:
    """It was counted before and is delivered again, or it is late: where it stood says which, and the tally knows."""
    live.handle(record(event(time="2026-05-05T10:00:00Z"), arrived=at("2026-05-05T10:00")))
    live.sent.take()
    keys.destroy(window_named("day-2026-05-05"))
    live.handle(record(event(time="2026-05-05T10:00:00Z"), offset=1, arrived=at("2026-05-05T11:00")))
    ((topic, _, value),) = live.sent.records
    assert topic == CONTRIBUTIONS
    row = decode_contribution(value)
    assert isinstance(row, Contributions)
    assert (row.rows, row.known, row.tokens) == (1, b"\0", bytes(8))
    for columns in row.windows:
        assert columns.pseudonyms == bytes(16)
        assert set(columns.cell(0)[2]) == {b""}


def test_whatever_is_fetched_at_once_fits_into_the_records_that_its_topics_take(live: Ingesting) -> None:
    """After an outage a fetch brings megabytes; a record that is refused would stop every worker, again and again."""
    most = {topic.name: int(topic.config["max.message.bytes"]) for topic in TOPICS if topic.name in LARGEST}
    noon = at("2026-05-01T12:00:00")
    events = [[event(id=f"{n}-{i}", feature=f"f{n}-{i}") for i in range(5_000)] for n in range(16)]
    good = [record(*each, offset=n, arrived=noon) for n, each in enumerate(events)]
    broken = [Record(20 + n, noon, NDJSON, b"7\n" * 20_000) for n in range(20)]
    assert sum(len(each.value or b"") for each in good) > most[CONTRIBUTIONS] // 2
    live.handle(*good, *broken)
    sizes: dict[str, list[int]] = {}
    for topic, _, value in live.sent.take():
        sizes.setdefault(topic, []).append(len(value))
    assert sizes.keys() == set(LARGEST)
    assert all(max(sizes[topic]) < most[topic] // 2 for topic in LARGEST)

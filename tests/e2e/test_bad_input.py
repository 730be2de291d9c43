"""A thousand broken records among twenty thousand good events: each ends under its reason, and nothing else changes."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer

from pipeline.core.outcomes import Reason
from pipeline.replay import PARTITIONS, Sender
from pipeline.stream.topics import CONTRIBUTIONS, EVENTS, REJECTIONS, RELEASES, TALLIES
from tests.e2e.breaking import (
    BARE,
    BATCH,
    COMPRESSIONS,
    MARKER,
    MEGABYTE,
    NDJSON,
    STRUCTURED,
    Broken,
    Headers,
    binary,
    broken_records,
    good,
    late_event,
)
from tests.e2e.counting import Counts, count_in_sql, difference
from tests.e2e.running import Finished, finish, read_all, stack_of, tell_everything_was_sent

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

GOOD = 20_000
LATE = 20
Place = tuple[int, int, int]  # source partition, offset, place in the record


@dataclass
class Run:
    """What was sent and what came of it."""

    finished: Finished
    sent: int
    accepted: int
    expected: dict[Place, Reason]
    kinds: dict[Place, str]
    counts: Counts
    topics: dict[str, list[Any]]
    logs: bytes


class Producers:
    """One producer per compression; remembers where each record went."""

    def __init__(self, kafka: dict[str, Any], source: random.Random) -> None:
        self._kafka, self._source = kafka, source
        self._made: dict[str | None, KafkaProducer] = {}

    def send(self, record: Broken) -> Any:
        """Gives the future of where it stands."""
        producer = self._made.get(record.compression)
        if producer is None:
            producer = self._made[record.compression] = KafkaProducer(
                **self._kafka, compression_type=record.compression, linger_ms=5, max_request_size=64 * MEGABYTE
            )
        key = MARKER.encode() if record.value is None or self._source.random() < 0.5 else None
        partition = self._source.randrange(PARTITIONS)
        return producer.send(EVENTS, record.value, key=key, headers=record.headers, partition=partition)

    def close(self) -> None:
        for producer in self._made.values():
            producer.flush()
            producer.close()


def good_records(numbers: range) -> Iterator[tuple[bytes, Headers, tuple[dict[str, Any], ...]]]:
    """Good events in every form, a hundred a record where a record holds many."""
    for start in range(numbers.start, numbers.stop, 100):
        events = tuple(good(number) for number in range(start, min(start + 100, numbers.stop)))
        texts = [msgspec.json.encode(each) for each in events]
        form = start // 100 % 8
        if form == 0:
            yield from ((text, STRUCTURED, (each,)) for text, each in zip(texts, events, strict=True))
        elif form == 1:
            yield from ((*binary(each), (each,)) for each in events)
        elif form == 2:
            yield b"[" + b",".join(texts) + b"]", BATCH, events
        elif form == 3:
            yield b"\n".join(texts), BARE, events
        else:
            yield b"\r\n".join(texts), NDJSON, events


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("run")
    source = random.Random(3)
    records = broken_records()
    records += (
        Broken("good", value, {}, headers, events, source.choice(COMPRESSIONS))
        for value, headers, events in good_records(range(GOOD))
    )
    source.shuffle(records)
    span = {"HEADCOUNT_SINCE": "2026-05-01", "HEADCOUNT_UNTIL": "2026-05-04"}
    with stack_of(directory, 0, **span) as stack:
        producers = Producers(stack.kafka, source)
        futures = [producers.send(each) for each in records]
        (worker,) = [stack.start_worker()]
        metadata = [future.get(60) for future in futures]
        Sender(stack.kafka).tell(date(2026, 5, 2))
        late = [producers.send(late_event()).get(60) for _ in range(LATE)]
        producers.close()
        tell_everything_was_sent(stack.kafka)
        accepted = [event for each in records for event in each.good]
        finished = finish(stack, len(accepted))
        assert stack.processes == [worker]
        assert worker.poll() is None
        topics = read_all(stack.kafka, CONTRIBUTIONS, TALLIES, RELEASES, REJECTIONS)
    expected: dict[Place, Reason] = {}
    kinds: dict[Place, str] = {}
    for record, at in zip(records, metadata, strict=True):
        for place, reason in record.reasons.items():
            expected[at.partition, at.offset, place] = reason
            kinds[at.partition, at.offset, place] = record.kind
    expected |= {(at.partition, at.offset, 0): Reason.LATE for at in late}
    events = directory / "accepted.ndjson"
    events.write_bytes(b"\n".join(map(msgspec.json.encode, accepted)))
    return Run(
        finished=finished,
        sent=len(accepted) + len(expected),
        accepted=len(accepted),
        expected=expected,
        kinds=kinds,
        counts=count_in_sql(events),
        topics=topics,
        logs=b"".join(path.read_bytes() for path in (directory / "logs").iterdir()),
    )


def test_there_are_enough_and_of_every_kind(run: Run) -> None:
    assert len(run.expected) >= 1_000
    assert run.accepted >= GOOD
    assert set(run.expected.values()) == set(Reason)
    assert len(set(run.kinds.values())) > 150


def test_every_broken_event_ends_under_its_reason_where_it_stood(run: Run) -> None:
    rejected = {(each.partition, each.offset, each.place): each.reason for each in run.finished.rejections}
    wrong = {
        (run.kinds.get(at, "good"), run.expected.get(at), rejected.get(at))
        for at in rejected.keys() | run.expected.keys()
        if rejected.get(at) != run.expected.get(at)
    }
    assert wrong == set()
    assert len(run.finished.rejections) == len(rejected)  # each once


def test_in_is_accepted_and_rejected(run: Run) -> None:
    assert run.finished.watch.accepted_events() == run.accepted
    assert run.finished.watch.accepted_events() + len(run.finished.rejections) == run.sent


def test_the_good_events_are_counted_as_if_they_were_alone(run: Run) -> None:
    assert difference(run.finished.counts, run.counts) == {}
    assert run.counts["feature_use", "month-2026-05-01"]["total",][1] == run.accepted


def test_the_worker_was_never_restarted(run: Run) -> None:
    assert run.finished.restarts == 0


def test_nothing_of_what_was_broken_is_said_anywhere(run: Run) -> None:
    marker = MARKER.encode()
    assert b"PROTECTS NOBODY" in run.logs  # it is the worker's log
    assert marker not in run.logs.lower()
    assert b"Traceback" not in run.logs
    for records in run.topics.values():
        assert records
        for record in records:
            assert marker not in (record.value or b"").lower()
            assert marker not in (record.key or b"").lower()
            assert not record.headers


def test_a_rejection_says_why_and_where_and_nothing_else(run: Run) -> None:
    reasons = Counter(str(reason) for reason in run.expected.values())
    found: Counter[str] = Counter()
    for record in run.topics[REJECTIONS]:
        content = msgspec.json.decode(record.value)
        assert content.keys() == {"topic", "rows"}
        assert content["topic"] == EVENTS
        for reason, *numbers in content["rows"]:
            assert [type(number) for number in numbers] == [int, int, int]
            found[reason] += 1
    assert found == reasons


def test_the_directory_has_no_more_than_the_logs(run: Run, tmp_path: Path) -> None:
    assert run.logs.count(b"\n") < 50

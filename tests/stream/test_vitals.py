"""What a worker says of itself is right, is there before anything happens, and holds nothing that was received."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.core.contributions import Progress, encode_contribution
from pipeline.core.events import Record
from pipeline.core.ingest import STEPS, Ingest
from pipeline.core.ledger import Ledger
from pipeline.core.outcomes import Reason
from pipeline.core.tallies import FOREVER
from pipeline.core.windows import window_named
from pipeline.declarations import Declarations
from pipeline.noise import OpenDPNoise
from pipeline.stream.ingesting import IngestHop
from pipeline.stream.metering import Meter
from pipeline.stream.releasing import ReleaseHop
from pipeline.stream.tallying import TallyHop
from pipeline.stream.topics import CONTRIBUTIONS, EVENTS
from pipeline.stream.transport import Batch
from pipeline.stream.vitals import Vitals
from pipeline.testing import MemoryKeyStore, declarations, event, record
from pipeline.warehouse.projector import Projector
from pipeline.warehouse.vitals import ProjectorVitals
from tests.deployment.test_operators import table
from tests.stream.conftest import Sent
from tests.stream.consuming import make_consumer

NOW = datetime(2026, 5, 8, 12, tzinfo=UTC).timestamp()
SECRETS = ("secret-subject", "secret-feature", "secret-source", "secret-id")

Values = dict[tuple[str, ...], float]


def run(coroutine: Any) -> None:
    asyncio.get_event_loop().run_until_complete(coroutine)


@pytest.fixture(autouse=True)
def _loop() -> Iterator[None]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
    asyncio.set_event_loop(None)


class Worker:
    """The hops of a worker, and what it says."""

    def __init__(self, declared: Declarations, sent: Sent) -> None:
        self.sent, self.meter, keys = sent, Meter(), MemoryKeyStore()
        core = Ingest(declared.registry, declared.plan, declared.policy, keys, 1)
        self.ingest = IngestHop(core, sent, partitions=1, sources=1, born=NOW, replay=True, meter=self.meter)
        self.tally = TallyHop(declared.plan, sent, partitions=1, bounded=True, meter=self.meter)
        self.tally.begin(0, 0, None)
        self.release = ReleaseHop(declared.accountant, keys, OpenDPNoise(), {}, self.meter)
        self.vitals = Vitals(declared.accountant, self.meter, self.tally, self.release, replay=False, clock=lambda: NOW)

    def handle(self, *records: Record) -> None:
        run(self.ingest.handle(Batch(EVENTS, 0, records[0].offset, list(records))))
        self.fold(*(value for topic, _, value in self.sent.take() if topic == CONTRIBUTIONS))

    def fold(self, *values: bytes) -> None:
        made = [Record(place, 0.0, (), value) for place, value in enumerate(values)]
        run(self.tally.handle(Batch(CONTRIBUTIONS, 0, 0, made)))

    def text(self) -> str:
        registry = CollectorRegistry()
        registry.register(self.vitals)
        return generate_latest(registry).decode()

    def values(self, name: str) -> Values:
        """By the values of the labels, those that are zero left out."""
        samples = [s for family in text_string_to_metric_families(self.text()) for s in family.samples]
        return {tuple(s.labels.values()): s.value for s in samples if s.name == name and s.value}


@pytest.fixture
def worker(sent: Sent) -> Worker:
    return Worker(declarations(), sent)


@pytest.fixture
def consumer(_loop: None) -> Any:
    made = make_consumer()
    made._thread._consumer = None  # it is not connected
    return made


def test_every_event_is_accepted_or_rejected_in_the_metrics_too(worker: Worker) -> None:
    again = event(subject="u-2", id="twice")
    worker.handle(record(event(subject="u-1"), again, again), record(b"{", offset=1), record(b"\xff", offset=2))
    assert worker.values("headcount_events_accepted_total") == {(): 3}
    assert worker.values("headcount_events_rejected_total") == {
        ("ingest", "not_json"): 1,
        ("ingest", "not_utf8"): 1,
        ("tally", "duplicate"): 1,
    }


def test_every_outcome_and_every_step_is_there_before_it_happens(worker: Worker) -> None:
    text = worker.text()
    assert all(f'reason="{reason}"' in text for reason in Reason)
    assert all(f'step="{step.__name__}"' in text for step in STEPS)


def test_every_step_that_was_taken_has_taken_time(worker: Worker) -> None:
    worker.handle(record(event(subject="u-1")))
    taken = {step for (step,) in worker.values("headcount_step_seconds_total")}
    assert taken == {step.__name__ for step in STEPS} | {"fold", "send"}


def test_nothing_that_was_received_is_in_the_metrics(worker: Worker, consumer: Any) -> None:
    subject, feature, source, name = SECRETS
    worker.handle(record(event(subject=subject, feature=feature, source=source, id=name)), record(b"{" + name.encode()))
    worker.vitals.beat(consumer, False)
    assert worker.values("headcount_state_rows") == {(): 3}  # a day, a week and a month
    said = worker.text() + worker.vitals.live() + worker.vitals.ready()
    assert not [secret for secret in SECRETS if secret in said]


def test_open_windows_are_counted_and_the_oldest_is_overdue_by_what_it_should_have_closed(
    worker: Worker, consumer: Any
) -> None:
    worker.handle(record(event(time="2026-05-05T10:00:00Z"), event(time="2026-05-06T10:00:00Z", id="other")))
    worker.vitals.beat(consumer, False)
    assert worker.values("headcount_open_windows") == {("day",): 2, ("week",): 1, ("month",): 1}
    assert worker.values("headcount_oldest_window_overdue_seconds") == {(): 12 * 3600}  # since 8 May, 0:00
    assert worker.values("headcount_state_bytes")[()] > 0
    worker.fold(encode_contribution(Progress(0, 1, FOREVER)))
    worker.vitals.beat(consumer, False)
    assert not worker.values("headcount_open_windows") | worker.values("headcount_state_rows")
    assert not worker.values("headcount_oldest_window_overdue_seconds")


def test_the_budget_that_is_left_is_that_of_the_releases_in_the_log(
    worker: Worker, consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [window_named(f"day-2026-05-{day:02d}") for day in (1, 2, 3)]
    ledger = Ledger()
    monkeypatch.setattr(worker.release, "ledger", lambda: ledger)
    left = []
    for day in days:
        ledger.charge(day, 0.02)
        worker.vitals.beat(consumer, False)
        left.append(worker.values("headcount_budget_left_epsilon"))
    assert [set(each) for each in left] == [{("2026-04",), ("2026-05",)}] * 3
    assert [each["2026-04",] for each in left] == [6.0] * 3
    assert 6 > left[0]["2026-05",] > left[1]["2026-05",] > left[2]["2026-05",] > 0


def test_a_worker_lives_when_its_loop_turns_and_it_is_a_member(
    worker: Worker, consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worker.vitals.live() == worker.vitals.ready() == "it has not started yet"
    monkeypatch.setattr(consumer, "is_member", lambda: False)
    worker.vitals.beat(consumer, False)
    assert "not a member" in worker.vitals.live()
    monkeypatch.setattr(consumer, "is_member", lambda: True)
    worker.vitals.beat(consumer, False)
    assert worker.vitals.live() == worker.vitals.ready() == ""
    worker.vitals.beat(consumer, True)
    assert worker.vitals.live() == ""
    assert "being given out" in worker.vitals.ready()
    monkeypatch.setattr("pipeline.stream.vitals.STUCK_SECONDS", -1)
    assert "has not turned" in worker.vitals.live()


def test_the_page_for_operators_has_every_metric(worker: Worker, consumer: Any, tmp_path: Path) -> None:
    worker.vitals.beat(consumer, False)
    with Projector(tmp_path, {"bootstrap_servers": []}) as projector:
        served = {"worker": worker.vitals, "projector": ProjectorVitals(projector)}
        found = {
            who: {f"{m.name}_total" if m.type == "counter" else m.name for m in vitals.collect()}
            for who, vitals in served.items()
        }
    told = dict(row[:2] for row in table("metric"))
    assert {name for name, who in told.items() if who in ("worker", "both")} == found["worker"]
    assert {name for name, who in told.items() if who in ("projector", "both")} == found["projector"]

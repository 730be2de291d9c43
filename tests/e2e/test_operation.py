"""In operation windows close by the clock: arrivals judge records, and an idle partition holds nobody up."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaProducer

from pipeline.core.windows import day_of, window_of
from pipeline.declarations import read_declarations
from pipeline.settings import SCHEMAS, Settings
from pipeline.stack import running_stack
from pipeline.stream.ingesting import WORD
from pipeline.stream.topics import EVENTS
from pipeline.warehouse.projector import rebuild
from pipeline.warehouse.reader import Statistics
from pipeline.watching import Watcher

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def event(number: int, time: datetime) -> bytes:
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": str(number),
            "source": "test",
            "type": "usage.feature.used.v1",
            "subject": f"u{number % 40}",
            "time": time,
            "data": {"feature": "search", "platform": "web"},
        }
    )


def test_windows_close_by_the_clock_and_a_word_is_nobodys(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    then = now - timedelta(days=5)  # its day closed 48 hours after its end
    settings = Settings(policy=SCHEMAS / "exact.toml")
    declarations = read_declarations(settings, now.date())
    with running_stack(
        tmp_path, workers=1, clock="wall", environment={"HEADCOUNT_POLICY": str(SCHEMAS / "exact.toml")}
    ) as stack:
        producer = KafkaProducer(**stack.kafka)

        def send(number: int, at: datetime, arrived: datetime) -> None:
            producer.send(EVENTS, partition=0, value=event(number, at), timestamp_ms=int(arrived.timestamp() * 1000))

        for number in range(100):
            send(number, then, arrived=then + timedelta(hours=1))
        producer.send(EVENTS, partition=1, value=b"", headers=[(WORD, b"2099-01-01")])
        send(100, then, arrived=now)  # three days too late
        send(101, now + timedelta(hours=2), arrived=now)
        for number in range(102, 110):
            send(number, now, arrived=now)
        producer.flush()

        watcher = Watcher(stack.kafka, declarations.plan, partitions=4)
        deadline = time.monotonic() + 60
        day = window_of("day", day_of(then.date()))
        while time.monotonic() < deadline:
            watcher.poll(0.2)
            stack.supervise()
            if day in watcher.watch.windows() and not watcher.watch.missing() and watcher.caught_up():
                break
        watcher.close()
        rebuild(tmp_path, stack.kafka)

    assert watcher.watch.rejected() == {"empty": 1, "future": 1, "late": 1}
    assert all(window.end <= day_of((now - timedelta(hours=48)).date()) for window in watcher.watch.windows())
    with pytest.warns(match="nobody"), Statistics(tmp_path) as statistics:
        frame = statistics.frame("feature_use", window="day")
    counted = frame[frame["start"].dt.date == then.date()]
    assert counted[["users", "events"]].to_numpy().tolist() == [[40, 100]]

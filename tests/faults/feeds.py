"""What applications send meanwhile, day after day for as long as things happen."""

import random
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from kafka import KafkaProducer

from pipeline.emitter import UsageEmitter
from pipeline.replay import NDJSON, Sender
from pipeline.sources import Lines
from pipeline.stream.topics import EVENTS

if TYPE_CHECKING:
    from tests.faults.world import Feed, World

START = date(2026, 4, 13)  # a Monday
A_DAY, SUBJECTS = 300, 200
LATENESS = 3  # days over which a rough application spreads what it sends
LONGEST = 600  # days that a run may take


def event_of(day: date, number: int, source: random.Random) -> dict[str, Any]:
    """An event of a day, as an application builds it."""
    second = 86_400 * number // A_DAY
    data = {
        "feature": f"feature-{int(source.paretovariate(0.8)) % 12}",
        "platform": source.choice(["ios", "web", "toaster", None]),
        "app_version": source.choice(["1.0.3", "2.0.0", None]),
        "duration_ms": source.choice([None, 10, 5_000, 10**6]),
    }
    built = {
        "specversion": "1.0",
        "id": f"{day}-{number}",
        "source": "app",
        "type": "usage.feature.used.v1",
        "time": f"{day}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z",
        "subject": None if source.random() < 0.02 else f"u-{int(source.paretovariate(0.5)) % SUBJECTS}",
        "data": {name: value for name, value in data.items() if value is not None},
    }
    return {name: value for name, value in built.items() if value is not None}


def days() -> Iterator[date]:
    return (START + timedelta(number) for number in range(LONGEST))


def feed_plainly(world: "World") -> Iterator[None]:
    """Records of 50 events to each partition in turn, and the word after each day."""
    sender = Sender(world.kafka)
    for day in days():
        events = [event_of(day, number, world.source) for number in range(A_DAY)]
        lines = [msgspec.json.encode(each) for each in events]
        batches = (Lines(b"\n".join(lines[start : start + 50]), 50, 0, 0) for start in range(0, A_DAY, 50))
        for _ in sender.send(batches):
            pass
        world.sent += events
        sender.tell(day + timedelta(1))
        yield
    sender.close()


def feed_roughly(world: "World") -> Iterator[None]:
    """5 % are sent twice, the order within three days is anyhow, records are cut anyhow, keys are anything."""
    producer = KafkaProducer(**world.kafka, linger_ms=5)
    waiting: list[tuple[int, dict[str, Any]]] = []  # the day on which it is sent, and the event
    repeated = 0
    for number, day in enumerate(days()):
        events = [event_of(day, place, world.source) for place in range(A_DAY)]
        world.sent += events
        again = [each for each in events if world.source.random() < 0.05]
        repeated += len(again)
        waiting += [(number + world.source.randrange(LATENESS), each) for each in (*events, *again)]
        world.source.shuffle(waiting)
        due = [each for at, each in waiting if at <= number]
        waiting = [each for each in waiting if each[0] > number]
        while due:
            size = min(len(due), int(world.source.paretovariate(0.7)))
            value, due = b"\n".join(map(msgspec.json.encode, due[:size])), due[size:]
            producer.send(EVENTS, key=str(world.source.random()).encode(), value=value, headers=NDJSON)
        producer.flush()
        sender = Sender(world.kafka)
        sender.tell(day - timedelta(LATENESS - 1))
        sender.close()
        yield
        if world.quiet.is_set():
            break
    producer.send(EVENTS, value=b"\n".join(msgspec.json.encode(each) for _, each in waiting), headers=NDJSON)
    producer.close()
    world.rejected = Counter(duplicate=repeated)
    yield


def feed_by_emitter(capacity: int) -> "Feed":
    """What an application imports: it buffers while the broker is away, and counts what it drops when that is full."""

    def feed(world: "World") -> Iterator[None]:
        world.rejected = None
        emitter = UsageEmitter("app", bootstrap_servers=world.cluster.bootstrap, capacity=capacity)
        refused = 0
        for day in days():
            for number in range(A_DAY):
                event = event_of(day, number, world.source)
                given = {"id": event["id"], "subject": event.get("subject"), **event["data"]}
                taken = emitter.emit(given.pop("feature"), time=datetime.fromisoformat(event["time"]), **given)
                world.sent += [event] * taken
                refused += not taken
            yield
            if world.quiet.is_set():
                break
        assert emitter.flush(180), emitter.stats
        emitter.close()
        stats = emitter.stats
        assert (stats.sent, stats.dropped_full, stats.dropped_failed) == (len(world.sent), refused, 0), stats
        world.notes["emitter dropped"] += refused
        yield

    return feed

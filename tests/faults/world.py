"""A pipeline on an Apache Kafka of its own, to which something happens while an application goes on emitting.

Whatever happens, in the end: every window's figures equal those of plain SQL, every release is in the log once, every
event ended in one outcome, and what a partition said twice about a window was the same both times.
"""

import base64
import os
import random
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from pipeline.core.release import decode_release
from pipeline.core.tallies import FOREVER, Tally
from pipeline.core.windows import date_of
from pipeline.emitter import UsageEmitter
from pipeline.replay import NDJSON, PARTITIONS, Sender
from pipeline.sources import Lines
from pipeline.stack import Stack
from pipeline.stream.releaselog import read_log
from pipeline.stream.tallying import decode_tally
from pipeline.stream.topics import EVENTS, RELEASES, TALLIES, create_topics
from pipeline.warehouse.projector import rebuild
from pipeline.watching import Watcher
from tests.deployment.apache import Cluster
from tests.e2e.counting import Counts, count_in_sql, difference
from tests.e2e.running import EXACT, cells_of, declared, read_all

START = date(2026, 4, 13)  # a Monday
A_DAY, SUBJECTS = 300, 200
LATENESS = 3  # days over which a rough application spreads what it sends
LONGEST = 600  # days that a run may take
SESSION = 2.0  # seconds until a worker that is silent is missed
PATIENCE = 240.0  # seconds for everything to be released once nothing happens any more

# What the group waits for is short, so that a fault costs seconds; all else is as in the compose file.
BROKER = {"KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000"}


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


@dataclass
class Workers(Stack):
    """The workers of a run: whoever dies is started again at once, as an engine does."""

    def __post_init__(self) -> None:
        self.exits: Counter[int] = Counter()
        self._left: set[int] = set()
        self._lock = threading.RLock()

    def add(self) -> None:
        with self._lock:
            self.start_worker()

    def tend(self) -> None:
        """Starts again what has ended."""
        with self._lock:
            for place, process in enumerate(self.processes):
                if process.poll() is not None and place not in self._left:
                    self.exits[process.returncode] += 1
                    self.processes[place] = self._spawn(place + 1)

    def signal(self, place: int, number: signal.Signals) -> None:
        with self._lock:
            self.processes[place].send_signal(number)

    def retire(self, place: int) -> int:
        """A worker leaves in good order; gives its exit code."""
        with self._lock:
            self._left.add(place)
            process = self.processes[place]
            process.terminate()
        return process.wait(60)

    def present(self) -> list[int]:
        """The workers that did not leave."""
        with self._lock:
            return [place for place in range(len(self.processes)) if place not in self._left]

    def text(self, place: int) -> str:
        return (self.logs / f"worker-{place + 1}.log").read_text(errors="replace")


@dataclass
class World:
    """A run: what is up, and what was sent."""

    cluster: Cluster
    workers: Workers
    directory: Path
    source: random.Random
    sent: list[dict[str, Any]] = field(default_factory=list)
    quiet: threading.Event = field(default_factory=threading.Event)  # nothing happens any more
    failed: list[BaseException] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    @property
    def kafka(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.cluster.bootstrap.split(",")}

    def pause(self, least: float, most: float) -> None:
        time.sleep(self.source.uniform(least, most))

    def members(self) -> dict[int, set[TopicPartition]]:
        """Per worker that is in the group, what it has; nobody has anything while the group is being made anew."""
        admin = KafkaAdminClient(**self.kafka)
        try:
            groups = admin.describe_groups(["headcount"])
        finally:
            admin.close()
        pids = {
            f"headcount-{process.pid}": place
            for place, process in enumerate(self.workers.processes)
            if process.poll() is None
        }
        return {
            pids[member["client_id"]]: {
                TopicPartition(topic["topic"], number)
                for topic in (member["member_assignment"] or {}).get("assigned_partitions", [])
                for number in topic["partitions"]
            }
            for group in groups.values()
            if group["group_state"] == "Stable"
            for member in group["members"]
            if member["client_id"] in pids
        }

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(KafkaError):
                if holds():
                    return
            time.sleep(0.2)
        raise AssertionError(f"{what} within {seconds:.0f} s")


Feed = Callable[[World], Iterator[None]]  # one step a day, and the last word is not its own
Inject = Callable[[World], None]


def days() -> Iterator[date]:
    return (START + timedelta(number) for number in range(LONGEST))


def feed_plainly(world: World) -> Iterator[None]:
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


def feed_roughly(world: World) -> Iterator[None]:
    """5 % are sent twice, the order within three days is anyhow, records are cut anyhow, keys are anything."""
    producer = KafkaProducer(**world.kafka, linger_ms=5)
    waiting: list[tuple[int, dict[str, Any]]] = []  # the day on which it is sent, and the event
    for number, day in enumerate(days()):
        events = [event_of(day, place, world.source) for place in range(A_DAY)]
        world.sent += events
        again = [each for each in events if world.source.random() < 0.05]
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
    yield


def feed_by_emitter(capacity: int) -> Feed:
    """What an application imports: it buffers while the broker is away, and counts what it drops when that is full."""

    def feed(world: World) -> Iterator[None]:
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


def _drive(world: World, feed: Feed, pace: float) -> None:
    """Sends day after day for as long as things happen, and then says that it was all."""
    try:
        steps = feed(world)
        while not world.quiet.is_set():
            next(steps)
            world.quiet.wait(pace)
        next(steps)
        sender = Sender(world.kafka)
        sender.tell(date_of(FOREVER))
        sender.close()
    except BaseException as error:
        world.failed.append(error)


def _disturb(world: World, inject: Inject, times: int, ready: int) -> None:
    try:
        world.until(lambda: len(world.members()) >= ready, f"{ready} workers did not join")
        for _ in range(times):
            inject(world)
    except BaseException as error:
        world.failed.append(error)
    finally:
        world.quiet.set()


@contextmanager
def world_of(directory: Path, workers: int, seed: int, *, nodes: int = 1, **environment: str) -> Iterator[World]:
    """A cluster with topics, and workers that begin."""
    directory.mkdir(parents=True, exist_ok=True)
    with Cluster(directory, nodes=nodes, settings=BROKER) as cluster:
        kafka = {"bootstrap_servers": cluster.bootstrap.split(",")}
        create_topics(kafka, partitions=PARTITIONS, replication=min(nodes, 3))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEADCOUNT_", "KAFKA_"))}
        running = Workers(
            kafka=kafka,
            environment={
                **inherited,
                "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap,
                "HEADCOUNT_CLOCK": "replay",
                "HEADCOUNT_POLICY": str(EXACT),
                "HEADCOUNT_KEYS": str(directory / "keys"),
                "HEADCOUNT_KEK": base64.b64encode(secrets.token_bytes(32)).decode(),
                "HEADCOUNT_SESSION_TIMEOUT": str(SESSION),
                **environment,
            },
            logs=directory,
        )
        try:
            for _ in range(workers):
                running.add()
            yield World(cluster, running, directory, random.Random(seed))
        finally:
            running.stop()


def run(world: World, inject: Inject, times: int, *, feed: Feed = feed_plainly, pace: float = 1.0) -> None:
    """Feeds, disturbs, waits until everything is released, and checks it. Raises AssertionError."""
    ready = len(world.workers.processes)
    threads = [
        threading.Thread(target=_disturb, args=(world, inject, times, ready), daemon=True),
        threading.Thread(target=_drive, args=(world, feed, pace), daemon=True),
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        world.workers.tend()
        time.sleep(0.2)
    if world.failed:
        raise world.failed[0]
    watcher = Watcher(world.kafka, declared().plan, PARTITIONS)
    deadline = time.monotonic() + PATIENCE
    try:
        while not (watcher.watch.complete(FOREVER) and watcher.caught_up()):
            watcher.poll(0.2)
            world.workers.tend()
            assert time.monotonic() < deadline, f"{watcher.watch.missing()} releases are missing after {PATIENCE:.0f} s"
        accepted, rejected = watcher.watch.accepted_events(), watcher.watch.rejected()
    finally:
        watcher.close()
    assert set(rejected) <= {"duplicate"}, rejected
    check(world, accepted)


def check(world: World, accepted: int) -> None:
    """What must hold whatever happened."""
    path = world.directory / "events.ndjson"
    path.write_bytes(b"\n".join(map(msgspec.json.encode, world.sent)))
    log = list(read_log(world.kafka, TopicPartition(RELEASES, 0)))
    twice = [key for key, times in Counter(key for key, _ in log).items() if times > 1]
    assert twice == [], f"released twice: {twice}"
    assert accepted == len({each["id"] for each in world.sent}), f"{accepted} accepted of {len(world.sent)}"
    releases = map(decode_release, (value for _, value in log))
    counted: Counts = {(r.statistic, f"{r.window}-{r.start}"): cells_of(r) for r in releases}
    wrong = difference(*map(_where_anybody_is, (counted, count_in_sql(path))))
    assert wrong == {}, f"{len(wrong)} cells differ: {dict(list(wrong.items())[:3])}"
    said: dict[tuple[str, int], Any] = {}
    for record in read_all(world.kafka, TALLIES)[TALLIES]:
        tally = decode_tally(record.value)
        if isinstance(tally, Tally):
            assert said.setdefault((tally.window, tally.partition), _sorted(tally)) == _sorted(tally), tally.window
    rebuild(world.directory / "statistics", world.kafka)
    with duckdb.connect(world.directory / "statistics" / "statistics.duckdb", read_only=True) as connection:
        [row] = connection.execute("SELECT sum(releases) FROM policies").fetchall()
    assert row[0] == len(log), "the ledger was not debited once a release"


def _where_anybody_is(counts: Counts) -> Counts:
    """Without the cells in which there are only events of nobody: whether one is shown is not what is tested here."""
    return {key: {cell: n for cell, n in cells.items() if n[0]} for key, cells in counts.items()}


def _sorted(tally: Tally) -> Mapping[str, Any]:
    """A tally without the order in which its cells were met."""
    return {
        name: (sorted(zip(each.cells, each.users, each.events, strict=True)), each.total_users, each.total_events)
        for name, each in tally.statistics.items()
    }

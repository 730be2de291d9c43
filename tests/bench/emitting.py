"""``python -m tests.bench.emitting``: what an application pays to emit, beside kafka-python alone on the same bytes.

A process emits as fast as the emitter takes events; where its buffer is full it waits a millisecond and tries again.
Then the topic is read, which has to hold every event once, and another process sends the same records once more, with
kafka-python alone. With, and without, the libraries that make kafka-python faster.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import NewTopic

from pipeline._connection import connect
from pipeline._delivery import BATCH
from pipeline.emitter import UsageEmitter
from pipeline.stream.broker import embedded_broker
from tests.bench.common import peak_rss_mb

ROOT = Path(__file__).parents[2]
EVENTS, ROUNDS, PARTITIONS = 500_000, 3, 4
CALM_EVENTS, CALM_PAUSE = 3_000, 0.001
# What is installed beside the emitter: tests/bench runs where all of it is, and hides what an application has not.
LIBRARIES = {"all": (), "crc32c": ("zstandard", "lz4"), "neither": ("zstandard", "lz4", "crc32c")}
Figures = dict[str, float]
Emit = Callable[..., bool]


def calls(events: int) -> Iterator[tuple[str, str, str, str, int | None]]:
    """Feature, subject, platform, version, duration: 40, 50,000, 3 and 6 of them; every second has a duration."""
    platforms, versions = ("ios", "android", "web"), ("4.0", "4.1", "4.2", "5.0", "5.1", "5.2")
    made = [
        (
            f"feature-{number * 7 % 40}",
            f"user-{number * 7919 % 50_000:06d}",
            platforms[number % 3],
            versions[number // 3 % 6],
            number * 31 % 600_000 if number % 2 else None,
        )
        for number in range(50_000)
    ]
    return itertools.islice(itertools.cycle(made), events)


def flat_out(emit: Emit, events: int) -> None:
    for feature, subject, platform, version, duration in calls(events):
        while not emit(
            feature, subject=subject, platform=platform, app_version=version, country="NL", duration_ms=duration
        ):
            time.sleep(0.001)


def timed(emit: Emit, events: int, pause: float) -> Figures:
    """The µs that `emit` takes, where it takes the event."""
    spent, clock = array("q"), time.perf_counter_ns
    for feature, subject, platform, version, duration in calls(events):
        while True:
            before = clock()
            taken = emit(
                feature, subject=subject, platform=platform, app_version=version, country="NL", duration_ms=duration
            )
            after = clock()
            if taken:
                break
            time.sleep(0.001)
        spent.append(after - before)
        if pause:
            time.sleep(pause)
    cuts = statistics.quantiles(spent, n=100)
    return {"median": cuts[49] / 1e3, "p99": cuts[98] / 1e3}


def emitter(address: str, topic: str, events: int, work: Callable[[Emit, int], Figures | None]) -> Figures:
    with UsageEmitter("app.example.com", bootstrap_servers=address, topic=topic) as usage:
        usage.emit("warmed.up")
        assert usage.flush(30)
        began, cpu = time.perf_counter(), time.process_time()
        figures = work(usage.emit, events)
        assert usage.flush(60)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        stats = usage.stats
        assert (stats.sent, stats.dropped_failed, stats.refused) == (1 + events, 0, 0)
    return {**(figures or {}), **_cost(events, seconds, cpu)}


def ceiling(address: str, topic: str, events: int, values: Sequence[bytes]) -> Figures:
    """Ready-made records, handed to kafka-python in one go, with the emitter's settings."""
    producer = connect(address, {})
    producer.send(topic, b"[]", headers=[BATCH]).get(30)
    began, cpu = time.perf_counter(), time.process_time()
    futures = [producer.send(topic, value, headers=[BATCH]) for value in values]
    for future in futures:
        future.get(60)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    producer.close()
    return _cost(events, seconds, cpu)


def _cost(events: int, seconds: float, cpu: float) -> Figures:
    return {"events_per_s": events / seconds, "cpu": 1e6 * cpu / events, "mb": peak_rss_mb()}


def read(address: str, topic: str, events: int) -> list[bytes]:
    """The topic's records; ends the run unless they hold so many events under as many ids."""
    found: list[bytes] = []
    ids: set[str] = set()
    decode = msgspec.json.Decoder(list[Identified]).decode
    with closing(KafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest")) as consumer:
        consumer.assign([TopicPartition(topic, partition) for partition in range(PARTITIONS)])
        deadline, several = time.monotonic() + 60, 0
        while len(ids) < events and time.monotonic() < deadline:
            for batch in consumer.poll(timeout_ms=100).values():
                for record in batch:
                    found.append(record.value)
                    read_here = [event.id for event in decode(record.value)]
                    several += len(read_here)
                    ids.update(read_here)
    if not len(ids) == several == events:
        raise SystemExit(f"{events:,} events were emitted, and the topic holds {several:,} under {len(ids):,} ids")
    return found


class Identified(msgspec.Struct):
    id: str


def in_process(part: str, address: str, topic: str, events: int, hidden: Sequence[str], records: Path) -> Figures:
    hide = f"import sys; sys.modules.update(dict.fromkeys({tuple(hidden)}))"  # before anything is imported
    command = [sys.executable, "-c", f"{hide}; from tests.bench.emitting import main; main()", "--part", part]
    command += ["--address", address, "--topic", topic, "--events", str(events), "--records", str(records)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    return dict(json.loads(done.stdout))


def contest(libraries: str, events: int, rounds: int) -> dict[str, list[Figures]]:
    """Emitter and ceiling in turns, each on topics of its own."""
    hidden, found = LIBRARIES[libraries], dict[str, list[Figures]](emitter=[], ceiling=[], timed=[], calm=[])
    with embedded_broker() as address, TemporaryDirectory() as directory:
        path = Path(directory, "records")
        for number in range(rounds):
            names = {part: f"{part}-{number}" for part in found}
            with closing(KafkaAdminClient(bootstrap_servers=address)) as admin:
                admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names.values()])
            for part, name in names.items():
                count = CALM_EVENTS if part == "calm" else events
                found[part].append(in_process(part, address, name, count, hidden, path))
                if part == "emitter":
                    path.write_bytes(msgspec.msgpack.encode(read(address, name, 1 + events)))
    return found


def measure(events: int = EVENTS, rounds: int = ROUNDS) -> str:
    """A table: emitter and ceiling, for each set of libraries."""
    lines = [
        "## Emitting",
        "",
        f"One process emits {events:,} events as fast as it can, {rounds} rounds, in turns with the ceiling:",
        "kafka-python alone sends the same records with the same settings. Medians of the rounds. What `emit()`",
        "did not take, because the buffer was full, was emitted again, and the topic held every event once. It is",
        "timed in the caller's thread, while the background sends at full speed, and calm: a millisecond's pause after",
        "each event. Without zstandard, gzip compresses.",
        "",
        (
            "| installed beside kafka-python | events/s | ratio to the ceiling | CPU s per million, ceiling's "
            "| peak MB, ceiling's | emit() µs: median, p99 | calm: median, p99 |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for libraries in LIBRARIES:
        found = contest(libraries, events, rounds)
        ours, top, busy, calm = (
            {name: statistics.median(each[name] for each in rounds_of) for name in rounds_of[0]}
            for rounds_of in found.values()
        )
        lines.append(
            f"| {libraries} | {ours['events_per_s']:,.0f} | {ours['events_per_s'] / top['events_per_s']:.2f} "
            f"| {ours['cpu']:.2f}, {top['cpu']:.2f} | {ours['mb']:.0f}, {top['mb']:.0f} "
            f"| {busy['median']:.2f}, {busy['p99']:.1f} | {calm['median']:.2f}, {calm['p99']:.1f} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.emitting", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    for name in ("part", "address", "topic", "records"):
        parser.add_argument(f"--{name}", default="", help=argparse.SUPPRESS)  # of a process that this one starts
    given = parser.parse_args()
    works = {"emitter": flat_out, "timed": partial(timed, pause=0.0), "calm": partial(timed, pause=CALM_PAUSE)}
    if not given.part:
        print(measure(given.events, given.rounds))
    elif given.part == "ceiling":
        values = msgspec.msgpack.decode(Path(given.records).read_bytes(), type=list[bytes])
        print(json.dumps(ceiling(given.address, given.topic, given.events, values)))
    else:
        print(json.dumps(emitter(given.address, given.topic, given.events, works[given.part])))


if __name__ == "__main__":
    main()

"""``python -m tests.bench.latency``: from the end of a window's lateness until its releases are visible in DuckDB.

The whole stack: embedded broker, one worker with all three hops, `headcount project` as a process of its own with its
default settings, and a reader who opens what is published. Each day's events are sent and contributed; then all
source partitions but the last are told that the day is over; the clock runs from just before the last one is told until
a fresh connection shows the releases of all statistics of that day. In operation a partition's word is its events'
arrival, or for a partition that is idle the broker's answer less ten seconds; both come on top.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import duckdb
import msgspec
from kafka import KafkaProducer

from pipeline.declarations import read_declarations
from pipeline.settings import Settings
from pipeline.stack import Stack, running_stack
from pipeline.stream.ingesting import WORD
from pipeline.stream.topics import EVENTS
from pipeline.warehouse.snapshots import LINK

WINDOWS = 100
FIRST = date(2025, 1, 1)
PARTITIONS = 4
EVENTS_A_DAY = 2_000
LOOK_SECONDS = 0.005
PATIENCE = 60.0

Row = dict[str, object]


def events_of(day: date, partition: int) -> bytes:
    """A partition's part of a day, as NDJSON."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    lines = [
        msgspec.json.encode(
            {
                "specversion": "1.0",
                "id": f"{day}-{partition}-{number}",
                "source": "bench",
                "type": "usage.feature.used.v1",
                "subject": f"u{number % 400}",
                "time": noon,
                "data": {"feature": f"feature-{number % 7}", "platform": "web"},
            }
        )
        for number in range(EVENTS_A_DAY // PARTITIONS)
    ]
    return b"\n".join(lines)


def visible(directory: Path, day: date, expected: int) -> bool:
    """Whether a reader who opens the file now sees all releases of the day; part of them is an error."""
    try:
        with duckdb.connect(str((directory / LINK).resolve(strict=True)), read_only=True) as connection:
            query = "SELECT count(*) FROM released.shown WHERE period = 'day' AND start = ?"
            [(seen,)] = connection.execute(query, [day]).fetchall()
    except (FileNotFoundError, duckdb.IOException):
        return False
    if seen not in (0, expected):
        raise SystemExit(f"a part of a window was visible: {seen} of {expected}")
    return bool(seen == expected)


def wait_until_visible(stack: Stack, directory: Path, day: date, expected: int) -> float:
    """Gives the moment."""
    deadline, before = time.monotonic() + PATIENCE, ""
    while time.monotonic() < deadline:
        link = directory / LINK
        now = os.readlink(link) if link.is_symlink() else ""
        if now != before and visible(directory, day, expected):
            return time.monotonic()
        before = now
        time.sleep(LOOK_SECONDS)
        stack.supervise()
    raise SystemExit(f"nothing was visible for {PATIENCE:.0f} s: see {stack.logs}")


def latencies(windows: int, directory: Path) -> list[float]:
    """Seconds of each window, in the order of the days."""
    expected = len(read_declarations(Settings(), datetime.now(UTC).date()).plan.of("day"))
    took = []
    with running_stack(directory, workers=1, partitions=PARTITIONS) as stack:
        data = directory / "statistics"
        environment = stack.environment | {"HEADCOUNT_DATA": str(data)}
        with (stack.logs / "project.log").open("wb") as log:
            projector = subprocess.Popen(
                [sys.executable, "-m", "pipeline.cli", "project"], env=environment, stdout=log, stderr=log
            )
        producer = KafkaProducer(**stack.kafka, linger_ms=0)

        def tell(partition: int, until: date) -> None:
            headers = [(WORD, until.isoformat().encode())]
            producer.send(EVENTS, partition=partition, value=b"", headers=headers).get(30)

        try:
            with click.progressbar(range(windows + 1), label="windows", file=sys.stderr) as bar:
                for number in bar:
                    day = FIRST + timedelta(days=number)
                    for partition in range(PARTITIONS):
                        headers = [("content-type", b"application/x-ndjson")]
                        producer.send(EVENTS, partition=partition, value=events_of(day, partition), headers=headers)
                    producer.flush()
                    for partition in range(PARTITIONS - 1):
                        tell(partition, day + timedelta(days=1))
                    time.sleep(0.3)  # the events are counted by now: they are not what is measured
                    began = time.monotonic()
                    tell(PARTITIONS - 1, day + timedelta(days=1))
                    seen = wait_until_visible(stack, data, day, expected)
                    if number:  # the first makes tables, and waits for the group to form
                        took.append(seen - began)
        finally:
            producer.close()
            projector.send_signal(signal.SIGTERM)
            projector.wait(20)
    return took


def measure(windows: int = WINDOWS) -> tuple[str, list[Row]]:
    """A section of RESULTS.md, and a row for var/bench.json."""
    with TemporaryDirectory(prefix="headcount-latency-") as temporary:
        took = sorted(latencies(windows, Path(temporary)))
    p99 = took[-(-99 * len(took) // 100) - 1]
    text = [
        "## From the end of a window's lateness to DuckDB",
        "",
        f"`python -m tests.bench.latency`: {len(took)} days, one after the other, through broker, worker, projector;",
        "seconds from the last source partition's word until a reader who opens the file sees the whole day.",
        "",
        "| p50 | p90 | p99 | worst |",
        "|---|---|---|---|",
        f"| {statistics.median(took):.2f} | {took[-(-9 * len(took) // 10) - 1]:.2f} | {p99:.2f} | {took[-1]:.2f} |",
        "",
    ]
    row: Row = {
        "name": "headcount, end of lateness to visible in DuckDB",
        **dict.fromkeys(("events_per_s", "ratio", "cpu_s_per_million", "peak_rss_mb")),
        "windows": len(took),
        "p50_ms": round(1e3 * statistics.median(took)),
        "p99_ms": round(1e3 * p99),
        "worst_ms": round(1e3 * took[-1]),
    }
    return "\n".join(text), [row]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.latency", description=__doc__)
    parser.add_argument("--windows", type=int, default=WINDOWS)
    print(measure(parser.parse_args().windows)[0])

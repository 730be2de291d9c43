"""Topics on an embedded broker, and contenders as processes beside it."""

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from confluent_kafka import Producer
from kafka import TopicPartition

from pipeline.core.release import decode_release
from pipeline.core.tallies import FOREVER
from pipeline.core.windows import date_of
from pipeline.stream.broker import embedded_broker
from pipeline.stream.ingesting import WORD
from pipeline.stream.releaselog import read_log
from pipeline.stream.topics import EVENTS, RELEASES, create_topics
from tests.bench.common import Row, digest

ROOT = Path(__file__).parents[2]
PARTITIONS = 4
QUIET = {"log_level": 0}  # it lives a little longer than its broker
STRUCTURED = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
NDJSON = [("content-type", b"application/x-ndjson")]

STATISTICS = """
version = "bench"

[statistics.use]
description = "Users and events by feature, platform and version."
dimensions = ["feature", "platform", "app_version"]
measures = ["users", "events"]
windows = ["day"]
max_cells = 1_000
max_events = 1_000_000
"""


class Result(msgspec.Struct, frozen=True):
    """What one run of a contender cost."""

    seconds: float
    cpu_seconds: float
    peak_rss_mb: float
    answer: str


class Contest:
    """A broker whose ``usage.events`` holds the events, so many a record."""

    def __init__(self, address: str, events: Sequence[bytes], each: int) -> None:
        self.address, self.events, self.each = address, len(events), each
        self.kafka: dict[str, Any] = {"bootstrap_servers": [address]}
        create_topics(self.kafka, partitions=PARTITIONS)
        producer = Producer({**QUIET, "bootstrap.servers": address, "linger.ms": 20, "batch.size": 1 << 20})
        values = [b"\n".join(events[start : start + each]) for start in range(0, len(events), each)]
        self.records = len(values)
        for number, value in enumerate(values):
            headers = STRUCTURED if each == 1 else NDJSON
            while True:
                try:
                    producer.produce(EVENTS, value, partition=number % PARTITIONS, headers=headers)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush()
        self._producer = producer

    def tell(self) -> None:
        """The replayer's word that all was sent; only Headcount reads it, so it comes after the others' turns."""
        for partition in range(PARTITIONS):
            self._producer.produce(
                EVENTS, b"", partition=partition, headers=[(WORD, date_of(FOREVER).isoformat().encode())]
            )
        self._producer.flush()

    def run(self, contender: str, python: str, **environment: str) -> Result:
        """One contender from its start to its answer."""
        process = subprocess.Popen(
            [python, "-m", f"tests.bench.contenders.{contender}"],
            cwd=ROOT,
            env={
                **os.environ,
                "BENCH_EVENTS": str(self.events),
                "BENCH_RECORDS": str(self.records),
                "BENCH_BROKER": self.address,
                "BENCH_TOPIC": EVENTS,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=(ROOT / "var" / "bench" / f"{contender}.log").open("wb"),
            text=True,
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if '{"seconds"' in line:  # Faust puts the codes of a spinner before it
                    return msgspec.json.decode(line[line.index("{") :], type=Result)
            raise RuntimeError(f"{contender} gave no answer: see var/bench/{contender}.log")
        finally:
            if contender != "headcount":
                process.kill()
            self._running = process

    def headcount(self, statistics: str = STATISTICS) -> Result:
        """The worker, and then what it released."""
        with TemporaryDirectory() as directory:
            declared, policy = Path(directory, "statistics.toml"), Path(directory, "policy.toml")
            declared.write_text(statistics)
            exact = (ROOT / "schemas" / "exact.toml").read_text()
            policy.write_text(exact.replace("bounded = false", "bounded = true"))
            self.tell()
            result = self.run(
                "headcount",
                sys.executable,
                KAFKA_BOOTSTRAP_SERVERS=self.address,
                HEADCOUNT_CLOCK="replay",
                HEADCOUNT_STATISTICS=str(declared),
                HEADCOUNT_POLICY=str(policy),
                HEADCOUNT_KEYS=str(Path(directory, "keys")),
                HEADCOUNT_KEK=base64.b64encode(secrets.token_bytes(32)).decode(),
                HEADCOUNT_SESSION_TIMEOUT="4",
            )
            try:
                return msgspec.structs.replace(result, answer=digest(self._released()))
            finally:
                self._running.kill()
                self._running.wait()

    def _released(self) -> list[Row]:
        """Waits until every event is in a release."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            rows: list[Row] = []
            for _, value in read_log(self.kafka, TopicPartition(RELEASES, 0)):
                release = decode_release(value)
                users, events = release.values
                rows += [(release.start, *cell, u, e) for cell, u, e in zip(release.cells, users, events, strict=True)]
            if sum(row[5] for row in rows) >= self.events:
                return rows
            time.sleep(0.2)
        raise RuntimeError("Headcount released less than it was given")


@contextmanager
def contest(events: Sequence[bytes], each: int) -> Iterator[Contest]:
    with embedded_broker() as address:
        yield Contest(address, events, each)


def count(events: Sequence[bytes]) -> str:
    """The answer, worked out without any of it."""
    users: dict[tuple[str, ...], set[str]] = defaultdict(set)
    number: dict[tuple[str, ...], int] = defaultdict(int)
    for line in events:
        event = json.loads(line)
        data = event["data"]
        cell = (event["time"][:10], data["feature"], data["platform"], data["app_version"])
        users[cell].add(event["subject"])
        number[cell] += 1
    return digest((*cell, len(who), number[cell]) for cell, who in users.items())

"""A worker that is told to stop finishes, commits, leaves its group and ends; the others go on at once."""

import base64
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from pipeline.health import ask
from pipeline.stream.topics import EVENTS
from tests.deployment.apache import free_port
from tests.deployment.files import within

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.timeout(200)]

SESSION = 60.0  # seconds: whoever only fell silent would be missed for so long
EVENTS_SENT = 3000


class Worker:
    """A worker's process and what it says of itself."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.log = log
        environment = environment | {"HEADCOUNT_HTTP": self.address, "HEADCOUNT_LOG": "json"}
        with log.open("wb") as out:
            command = [sys.executable, "-m", "pipeline.cli", "worker"]
            self.process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)

    def ready(self) -> bool:
        return ask(self.address, "readyz")[0]

    def total(self, name: str) -> float:
        """The sum over all labels."""
        well, text = ask(self.address, "metrics")
        families = text_string_to_metric_families(text) if well else []
        return sum(s.value for family in families for s in family.samples if s.name == name)


@pytest.fixture
def workers(kafka: str, topics: list[str], tmp_path: Path) -> Iterator[list[Worker]]:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "HEADCOUNT_KEYS": str(tmp_path / "keys"),
        "HEADCOUNT_KEK": base64.b64encode(secrets.token_bytes(32)).decode(),
        "HEADCOUNT_GROUP": "stopping",
        "HEADCOUNT_CLOCK": "replay",  # it closes nothing by itself: the tests share the broker
        "HEADCOUNT_SESSION_TIMEOUT": str(SESSION),
    }
    started: list[Worker] = []
    try:
        for number in (1, 2):
            started.append(Worker(environment, tmp_path / f"worker-{number}.log"))
            assert within(60, started[-1].ready)
        yield started
    finally:
        for worker in started:
            worker.process.kill()
            worker.process.wait()


def test_the_others_go_on_at_once_where_it_stopped(kafka: str, workers: list[Worker]) -> None:
    leaving, staying = workers
    assert within(60, lambda: staying.ready() and leaving.ready())
    shared = staying.total("headcount_partition_assigned")
    producer = KafkaProducer(bootstrap_servers=kafka)

    def send() -> None:
        for number in range(EVENTS_SENT):
            producer.send(EVENTS, partition=number % 4, value=b"no event")
        producer.flush()

    send()
    assert within(60, lambda: leaving.total("headcount_events_rejected_total") > 0)
    handled = leaving.total("headcount_events_rejected_total")
    began = time.monotonic()
    leaving.process.send_signal(signal.SIGTERM)
    assert leaving.process.wait(30) == 0
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    committed = admin.list_group_offsets("stopping")["stopping"]
    assert sum(each.offset for tp, each in committed.items() if tp.topic == EVENTS) >= handled
    send()
    # Nobody waits for the session to end: all partitions are with the one that stayed, and what is sent is handled.
    assert within(SESSION - 20, lambda: staying.total("headcount_partition_assigned") > shared)
    assert time.monotonic() - began < SESSION - 10
    assert within(60, lambda: staying.ready() and staying.total("headcount_lag_records") == 0)
    assert b'"message": "stopped: what was begun is handled and committed"' in leaving.log.read_bytes()
    assert len(admin.describe_groups(["stopping"])["stopping"]["members"]) == 1
    admin.close()

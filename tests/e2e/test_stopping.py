"""A worker ends when it is told to, whatever the broker does, and says what became of its work; no dump is left."""

import base64
import json
import os
import resource
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.health import ask
from pipeline.stream.broker import embedded_broker
from pipeline.stream.topics import create_topics
from tests.deployment.apache import free_port
from tests.deployment.files import within

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]


@pytest.mark.parametrize("away", [False, True])
def test_a_worker_that_is_told_to_stop_ends_with_0_also_while_its_broker_is_away(tmp_path: Path, away: bool) -> None:
    address = f"127.0.0.1:{free_port()}"
    with (tmp_path / "log").open("wb") as log:
        with embedded_broker() as broker:
            create_topics({"bootstrap_servers": [broker]})
            environment = os.environ | {
                "KAFKA_BOOTSTRAP_SERVERS": broker,
                "HEADCOUNT_KEYS": str(tmp_path / "keys"),
                "HEADCOUNT_KEK": base64.b64encode(secrets.token_bytes(32)).decode(),
                "HEADCOUNT_SESSION_TIMEOUT": "4",
                "HEADCOUNT_HTTP": address,
                "HEADCOUNT_LOG": "json",
            }
            command = [sys.executable, "-m", "pipeline.cli", "worker"]
            worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            assert within(60, lambda: ask(address, "readyz")[0])
            assert resource.prlimit(worker.pid, resource.RLIMIT_CORE) == (0, 0)  # however it ends, nothing is dumped
            if not away:
                worker.send_signal(signal.SIGTERM)
                assert worker.wait(30) == 0
        if away:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(30) == 0
    lines = (tmp_path / "log").read_text().splitlines()
    told = [json.loads(line)["message"] for line in lines]  # every line is an object
    assert away or "stopped: what was begun is handled and committed" in told
    assert len(lines) < 60

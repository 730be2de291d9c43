"""Apache Kafka as the compose file runs it, but without an engine: its own jars, started by its image's own class."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import main
from tests.deployment.files import ROOT, compose

POM = Path(__file__).parent / "kafka" / "pom.xml"
CLUSTER = "5L6g3nShT-eMCtK--X86sw"  # the image's own


@pytest.fixture(scope="session")
def jars() -> str:
    """A class path with Apache Kafka, kept under ``var/`` and fetched anew when the pinned version changes."""
    java, maven = shutil.which("java"), shutil.which("mvn")
    if not java or not maven:
        pytest.skip("Apache Kafka was not started: it takes Java 17 and Maven")
    directory = ROOT / "var" / "kafka"
    done = directory / "pom.xml"
    if not done.exists() or done.read_bytes() != POM.read_bytes():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={directory}"]
        command = [maven, "--quiet", "--batch-mode", "--file", str(POM), *goal]
        fetched = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
        if fetched.returncode and "CI" not in os.environ:
            pytest.skip("Apache Kafka was not started: Maven could not fetch it (is there a network?)")
        assert fetched.returncode == 0, fetched.stdout[-2000:]
        shutil.copy(POM, done)
    return f"{directory}/*"


@pytest.fixture(scope="session")
def kafka(jars: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker under the environment of the compose file; gives the address of the listener for this machine.

    What is changed: the ports, which are free ones, the name of the host, and the directory.
    """
    directory = tmp_path_factory.mktemp("kafka")
    environment = dict(compose()["services"]["kafka"]["environment"])
    ports = {port: str(_free_port()) for port in ("19092", "9092", "29093")}
    for name, value in environment.items():
        moved = re.sub(r":(19092|9092|29093)\b", lambda match: f":{ports[match[1]]}", value)
        environment[name] = moved.replace("kafka:", "127.0.0.1:")
    environment |= {"KAFKA_LOG_DIRS": str(directory / "data"), "CLUSTER_ID": CLUSTER, "PATH": os.environ["PATH"]}
    # What the image does when it starts: from variables to a file of properties, and the storage formatted.
    for name in ("defaults", "mounted", "final"):
        (directory / name).mkdir()
    for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        (directory / "defaults" / name).touch()
    java = ["java", "-Xmx384m", "-cp", jars]
    places = [f"--{name}-configs-dir={directory / folder}" for name, folder in
              (("default", "defaults"), ("mounted", "mounted"), ("final", "final"))]  # fmt: skip
    setup = [*java, "kafka.docker.KafkaDockerWrapper", "setup", *places]
    subprocess.run(setup, env=environment, check=True, capture_output=True, timeout=60)
    with (directory / "log").open("wb") as log:
        command = [*java, "kafka.Kafka", str(directory / "final" / "server.properties")]
        broker = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(int(ports["9092"]), broker)
        yield f"127.0.0.1:{ports['9092']}"
    finally:
        broker.kill()
        broker.wait()


@pytest.fixture(scope="session")
def topics(kafka: str) -> list[str]:
    """What `headcount topics` says, twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka)
        results = [CliRunner().invoke(main, ["topics"]) for _ in range(2)]
    assert [result.exit_code for result in results] == [0, 0]
    return [result.output for result in results]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "Apache Kafka does not start with the settings of the compose file"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("Apache Kafka does not answer on the listener for this machine")

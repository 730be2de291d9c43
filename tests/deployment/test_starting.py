"""What the deployment does first, on Apache Kafka with the settings of the compose file."""

import base64
import re
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from pipeline.settings import Settings
from pipeline.stream.keywrapping import KeyStoreError, read_keks
from pipeline.stream.topics import TOPICS
from tests.deployment.apache import POM, free_port
from tests.deployment.files import COMPOSE_FILE, ROOT, compose, within


def test_the_documented_command_makes_a_key_that_workers_take(tmp_path: Path) -> None:
    [command] = re.findall(r"^#   (mkdir .*?)(?:    #.*)?$", COMPOSE_FILE.read_text(), re.MULTILINE)
    binaries = str(Path(sys.executable).parent)
    shell = ["sh", "-ec", f"umask 022; {command}"]
    subprocess.run(shell, cwd=tmp_path, env={"PATH": f"{binaries}:/usr/bin:/bin"}, check=True, timeout=60)
    settings = Settings(kek_file=str(tmp_path / "secrets" / "kek"))
    assert [len(kek) for kek in read_keks(settings)] == [32]
    # A secret is mounted with the mode of its file: one that others can read is refused.
    (tmp_path / "secrets" / "kek").chmod(0o440)
    with pytest.raises(KeyStoreError, match="chmod 600"):
        read_keks(settings)


def test_the_broker_of_these_tests_is_that_of_the_compose_file() -> None:
    version = compose()["services"]["kafka"]["image"].partition(":")[2]
    assert f"<artifactId>kafka_2.13</artifactId>\n      <version>{version}</version>" in POM.read_text()


@pytest.mark.e2e
@pytest.mark.kafka
def test_the_topics_are_made_once_as_they_are_declared(kafka: str, topics: list[str]) -> None:
    assert topics == [f"made: {', '.join(t.name for t in TOPICS)}\n", "all topics were there already\n"]
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in TOPICS]

    def made() -> dict[str, dict[str, str]]:
        described = admin.describe_configs(resources)["topic"]
        return {topic: {name: each["value"] for name, each in entries.items()} for topic, entries in described.items()}

    declared = {topic.name: dict(topic.config) for topic in TOPICS}
    assert within(10, lambda: made() == declared), made()  # a broker learns what the controller has decided
    sizes = {each["name"]: len(each["partitions"]) for each in admin.describe_topics([t.name for t in TOPICS])}
    admin.close()
    for topic in TOPICS:
        assert sizes[topic.name] == topic.partitions


@pytest.mark.e2e
@pytest.mark.kafka
def test_a_topic_that_nobody_declared_is_not_made(kafka: str, topics: list[str]) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka, max_block_ms=2000)
    with pytest.raises(KafkaError):
        producer.send("usage.event", value=b"{}").get(5)
    producer.close()


@pytest.mark.e2e
@pytest.mark.kafka
def test_a_worker_is_healthy_until_it_hangs(kafka: str, topics: list[str], tmp_path: Path) -> None:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "PYTHONPATH": str(ROOT),
        "HEADCOUNT_KEYS": str(tmp_path / "keys"),
        "HEADCOUNT_KEK": base64.b64encode(secrets.token_bytes(32)).decode(),
        "HEADCOUNT_CLOCK": "replay",  # it closes nothing by itself: the tests share the broker
        "HEADCOUNT_SESSION_TIMEOUT": "6",  # the least that Kafka allows
        "HEADCOUNT_HTTP": f"127.0.0.1:{free_port()}",
    }

    def healthy() -> bool:
        command = [sys.executable, "-m", "pipeline.health", "livez"]
        return subprocess.run(command, env=environment, timeout=60, check=False).returncode == 0

    assert not healthy()
    command = [sys.executable, "-m", "pipeline.cli", "worker"]
    worker = subprocess.Popen(command, env=environment, cwd=tmp_path)
    try:
        assert within(40, healthy)
        worker.send_signal(signal.SIGSTOP)  # alive, and doing nothing
        assert within(40, lambda: not healthy())
    finally:
        worker.kill()
        worker.wait()

"""Apache Kafka as the compose file runs it, but without an engine: its own jars, started by its image's own class."""

import fcntl
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tests.deployment.files import ROOT, compose

POM = Path(__file__).parent / "kafka" / "pom.xml"
CLUSTER = "5L6g3nShT-eMCtK--X86sw"  # the image's own
OPTIONS = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]  # brokers that live for seconds


class Unavailable(RuntimeError):
    """Apache Kafka cannot be started here; the message says what is missing."""


def fetch_jars() -> str:
    """A class path with Apache Kafka, kept under ``var/`` and fetched anew when the pinned version changes."""
    java, maven = shutil.which("java"), shutil.which("mvn")
    if not java or not maven:
        raise Unavailable("it takes Java 17 and Maven: `make test-kafka` installs them where it may")
    directory = ROOT / "var" / "kafka"
    done = directory / "pom.xml"
    directory.parent.mkdir(exist_ok=True)
    with (directory.parent / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests in several processes begin at once
        if not done.exists() or done.read_bytes() != POM.read_bytes():
            print("fetching Apache Kafka …", file=sys.stderr)
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={directory}"]
            command = [maven, "--quiet", "--batch-mode", "--file", str(POM), *goal]
            fetched = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
            if fetched.returncode:
                raise Unavailable(f"Maven could not fetch it (is there a network?)\n{fetched.stdout[-2000:]}")
            shutil.copy(POM, done)
    return f"{directory}/*"


class Cluster:
    """One broker, or several, each under the environment of the compose file; a context manager.

    Changed are the ports, which are free ones, the name of the host, the directories, and with several nodes their
    numbers and the replication. ``overlay``: the compose file that is laid over the first. ``mounted``: the directory
    that stands for ``/run/secrets``. ``settings``: more of the image's variables.
    """

    def __init__(
        self,
        directory: Path,
        *,
        nodes: int = 1,
        overlay: Path | None = None,
        mounted: Path | None = None,
        settings: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self._mounted = mounted
        self._jars = fetch_jars()
        self._classes = Path(self._jars).with_name("classes.jsa")
        self._declared = dict(compose()["services"]["kafka"]["environment"])
        if overlay is not None:
            self._declared |= compose(overlay)["services"]["kafka"]["environment"]
        self._declared |= settings or {}
        ports = sorted(set(re.findall(r":(\d+)", self._declared["KAFKA_LISTENERS"])))
        self.ports = {node: {port: free_port() for port in ports} for node in range(1, nodes + 1)}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def bootstrap(self) -> str:
        """The listener for this machine of every node."""
        return self.listener("9092")

    def listener(self, port: str) -> str:
        """Where the listener is that has this port in the compose file."""
        return ",".join(f"127.0.0.1:{ports[port]}" for ports in self.ports.values())

    def environment(self, node: int) -> dict[str, str]:
        """The variables of one node."""
        ports = self.ports[node]
        environment = {}
        for name, value in self._declared.items():
            moved = re.sub(r":(\d+)\b", lambda match: f":{ports.get(match[1], match[1])}", value)
            moved = re.sub(r"//kafka:", "//127.0.0.1:", moved)
            environment[name] = moved.replace("/run/secrets", str(self._mounted))
        if len(self.ports) > 1:
            voters = (f"{each}@localhost:{ports['29093']}" for each, ports in self.ports.items())
            environment |= {
                "KAFKA_NODE_ID": str(node),
                "KAFKA_CONTROLLER_QUORUM_VOTERS": ",".join(voters),
                "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "3",
                "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "3",
                "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "2",
            }
        data = str(self.directory / ("data" if len(self.ports) == 1 else f"data-{node}"))
        return environment | {"KAFKA_LOG_DIRS": data, "CLUSTER_ID": CLUSTER, "PATH": os.environ["PATH"]}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self.__exit__)
            for node in self.ports:
                self._set_up(node)
            if not self._classes.exists() and len(self.ports) == 1:
                self._archive()
            for node in self.ports:
                self.start(node, wait=False)
            for node in self.ports:
                self.wait(node)
            stack.pop_all()
        return self

    def __exit__(self, *_: Any) -> None:
        for node in self._processes:
            self.kill(node)

    def _archive(self) -> None:
        """Keeps what the broker loads, once: any that is started after it takes a third of the time."""
        draft = self.directory / self._classes.name
        self.start(classes=f"-XX:ArchiveClassesAtExit={draft}")
        self.stop()
        shutil.copy(draft, part := self._classes.with_name(f"{secrets.token_hex(8)}.jsa"))
        part.replace(self._classes)

    def _java(self, classes: str = "") -> list[str]:
        return ["java", *OPTIONS, classes or f"-XX:SharedArchiveFile={self._classes}", "-cp", self._jars]

    def start(self, node: int = 1, *, wait: bool = True, classes: str = "") -> None:
        """Starts a node, or starts it again on what it has on disk."""
        with self.log(node).open("ab") as log:
            command = [*self._java(classes), "kafka.Kafka", str(self._folder(node) / "final" / "server.properties")]
            environment = self.environment(node)
            self._processes[node] = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        if wait:
            self.wait(node)

    def wait(self, node: int = 1) -> None:
        """Until the listener for this machine answers."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if self._processes[node].poll() is not None:
                text = self.log(node).read_text(errors="replace")[-2000:]
                raise AssertionError(f"Apache Kafka does not start with the settings of the compose file:\n{text}")
            try:
                socket.create_connection(("127.0.0.1", self.ports[node]["9092"]), timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("Apache Kafka does not answer on the listener for this machine")

    def stop(self, node: int = 1) -> None:
        """In good order."""
        self._processes[node].terminate()
        self._processes[node].wait(60)

    def kill(self, node: int = 1) -> None:
        self._processes[node].kill()
        self._processes[node].wait()

    def log(self, node: int = 1) -> Path:
        return self._folder(node) / "log"

    def _folder(self, node: int) -> Path:
        return self.directory / f"node-{node}"

    def _set_up(self, node: int) -> None:
        """What the image does when it starts: from variables to a file of properties, and the storage formatted."""
        folder = self._folder(node)
        for name in ("defaults", "mounted", "final"):
            (folder / name).mkdir(parents=True)
        for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
            (folder / "defaults" / name).touch()
        places = [f"--{name}-configs-dir={folder / each}" for name, each in
                  (("default", "defaults"), ("mounted", "mounted"), ("final", "final"))]  # fmt: skip
        setup = [*self._java(), "kafka.docker.KafkaDockerWrapper", "setup", *places]
        done = subprocess.run(setup, env=self.environment(node), check=False, capture_output=True, timeout=90)
        assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":  # beforehand: what is missing is then said once, and not by each test
    try:
        fetch_jars()
    except Unavailable as error:
        sys.exit(f"Apache Kafka cannot be tested: {error}")

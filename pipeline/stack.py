"""The whole pipeline on one machine for as long as a block lasts: an embedded broker, real worker processes, the
projector.

Demonstrations, replays and tests run on it. Its keys live in a temporary directory under a key-encryption key that
is only in the workers' environment; with the block all of it is gone but the statistics.
"""

import base64
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pipeline.stream.broker import embedded_broker
from pipeline.stream.topics import create_topics

RESTARTS = 10


class StackError(RuntimeError):
    """The workers do not stay up; the message says where their log is."""


@dataclass
class Stack:
    """A running pipeline. ``environment`` is what any further process needs in order to take part."""

    kafka: dict[str, Any]
    environment: dict[str, str]
    logs: Path
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    restarts: int = 0

    def start_worker(self) -> "subprocess.Popen[bytes]":
        """One more worker process in the group."""
        number = len(self.processes) + 1
        process = self._spawn(number)
        self.processes.append(process)
        return process

    def supervise(self) -> int:
        """Starts again what has died; gives how many did. Raises :class:`StackError` when that does not help."""
        died = 0
        for place, process in enumerate(self.processes):
            if process.poll() is None:
                continue
            died += 1
            self.restarts += 1
            if self.restarts > RESTARTS or process.returncode in (1, 2):  # 1, 2: it refused to start
                raise StackError(f"a worker stopped (exit {process.returncode}):\n{self._tail(place + 1)}")
            self.processes[place] = self._spawn(place + 1)
        return died

    def stop(self) -> None:
        """All workers, at once: what they hold can be made again from the log, and the log goes too."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    def _spawn(self, number: int) -> "subprocess.Popen[bytes]":
        with (self.logs / f"worker-{number}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "pipeline.cli", "worker"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _tail(self, number: int) -> str:
        lines = (self.logs / f"worker-{number}.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-15:])


@contextmanager
def running_stack(
    directory: Path,
    *,
    workers: int,
    partitions: int = 4,
    clock: Literal["wall", "replay"] = "replay",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Broker, topics, workers; windows close on the replayer's word, or by the clock. ``directory`` gets the logs."""
    logs = directory / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for old in logs.glob("worker-*.log"):
        old.unlink()
    with ExitStack() as stack:
        address = stack.enter_context(embedded_broker())
        keys = stack.enter_context(TemporaryDirectory(prefix="headcount-keys-"))
        kafka: dict[str, Any] = {"bootstrap_servers": [address]}
        create_topics(kafka, partitions=partitions)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEADCOUNT_", "KAFKA_"))}
        running = Stack(
            kafka=kafka,
            environment={
                **inherited,
                "HEADCOUNT_KEYS": str(Path(keys, "keys")),
                **(environment or {}),
                "KAFKA_BOOTSTRAP_SERVERS": address,
                "HEADCOUNT_CLOCK": clock,
                "HEADCOUNT_KEK": base64.b64encode(secrets.token_bytes(32)).decode(),
                "HEADCOUNT_SESSION_TIMEOUT": "4",  # the embedded broker waits half of it before anyone joins
            },
            logs=logs,
        )
        stack.callback(running.stop)
        for _ in range(workers):
            running.start_worker()
        yield running

"""The processes of a run: each is forked from one that has imported the pipeline, so that it is at work in a moment.

A process runs the command that an operator types, in an environment and with a log of its own. Whoever dies is started
again at once, as an engine does.
"""

import ctypes
import faulthandler
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from tests.faults.edges import EDGES, arm

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["pipeline.cli", "pipeline.worker", "pipeline.warehouse.projector", __name__])
_LOCK = threading.Lock()  # a start asks all that were started how they are, and an exit code can be read once
_PR_SET_PDEATHSIG = 1


def nothing() -> None:
    """What is done to most of them."""


class Running:
    """One process, from its start on."""

    def __init__(
        self,
        command: tuple[str, ...],
        environment: Mapping[str, str],
        log: Path,
        arms: Mapping[str, int],
        prepare: Callable[[], None],
    ) -> None:
        arguments = (command, environment, log, arms, prepare)
        self._process = _CONTEXT.Process(target=_enter, args=arguments, daemon=True)
        with _LOCK:
            self._process.start()
        self.pid = self._process.pid or 0

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; ``None`` while it lives."""
        with _LOCK:
            return self._process.exitcode

    def wait(self, seconds: float = 60.0) -> int:
        deadline = time.monotonic() + seconds
        while (code := self.poll()) is None:
            assert time.monotonic() < deadline, f"a process did not end within {seconds:.0f} s"
            time.sleep(0.02)
        return code

    def send(self, number: signal.Signals) -> bool:
        """Whether it lived to get it."""
        if self.poll() is not None:
            return False
        os.kill(self.pid, number)
        return True

    def freeze(self) -> bool:
        """SIGSTOP; whether it stands still. One that is about to end takes the signal, and ends."""
        while self.send(signal.SIGSTOP):
            with suppress(OSError):
                if Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                    return True
            time.sleep(0.01)
        return False


@dataclass
class Workers:
    """The workers of a run, and its projector where it has one.

    ``wanted``: how often each edge has to be reached; ``prepare``: what each process does first, to be found out.
    """

    environment: dict[str, str]
    logs: Path
    source: random.Random
    processes: list[Running] = field(default_factory=list)
    exits: Counter[int] = field(default_factory=Counter)
    wanted: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    said: set[str] = field(default_factory=set)  # the last words of those that refused to begin
    prepare: Callable[[], None] = nothing
    commands: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._left: set[int] = set()
        self._lock = threading.RLock()

    def add(self, *command: str) -> int:
        """One more, a worker where nothing else is said; gives its place."""
        with self._lock:
            self.commands.append(command or ("worker",))
            self.processes.append(self._start(len(self.processes)))
            return len(self.processes) - 1

    def tend(self) -> None:
        """Starts again what has ended."""
        with self._lock:
            for place, process in enumerate(self.processes):
                if place in self._left or (code := process.poll()) is None:
                    continue
                mark = self.logs / f"reached-{process.pid}"
                if code == -signal.SIGKILL and mark.exists():  # it died where it was to die, and nowhere else
                    self.reached[mark.read_text()] += 1
                    mark.unlink()
                else:
                    self.exits[code] += 1
                    if code in (1, 2):
                        self.said.add(self.text(place).splitlines()[-1])
                self.processes[place] = self._start(place)

    def ends(self) -> str:
        """How processes ended that were started again."""
        return f"exits {dict(self.exits)}{''.join(f', {each}' for each in sorted(self.said))}"

    def kill(self, place: int) -> bool:
        """Whether that was what it died of."""
        with self._lock:
            return self.processes[place].send(signal.SIGKILL) and self.processes[place].wait() == -signal.SIGKILL

    def retire(self, place: int) -> int:
        """One leaves in good order; gives its exit code."""
        with self._lock:
            self._left.add(place)
            self.processes[place].send(signal.SIGTERM)
        return self.processes[place].wait()

    def present(self) -> list[int]:
        """The workers that did not leave."""
        with self._lock:
            return [n for n, command in enumerate(self.commands) if command[0] == "worker" and n not in self._left]

    def pids(self) -> dict[int, int]:
        """The place of each worker that lives, by its process."""
        with self._lock:
            return {self.processes[n].pid: n for n in self.present() if self.processes[n].poll() is None}

    def text(self, place: int) -> str:
        return self._log(place).read_text(errors="replace")

    def show(self) -> None:
        """Each says in its log where its threads are."""
        with self._lock:
            for process in self.processes:
                process.send(signal.SIGUSR1)

    def stop(self) -> None:
        """All at once: what they hold can be made again from the log."""
        with self._lock:
            for process in self.processes:
                process.send(signal.SIGKILL)
            for process in self.processes:
                process.wait()

    def _start(self, place: int) -> Running:
        command = self.commands[place]
        still = (
            edge for edge in EDGES if edge.command == command[0] and self.reached[edge.name] < self.wanted[edge.name]
        )
        arms = {edge.name: self.source.randint(1, edge.most) for edge in still}
        return Running(command, self.environment, self._log(place), arms, self.prepare)

    def _log(self, place: int) -> Path:
        return self.logs / f"{self.commands[place][0]}-{place + 1}.log"


def _enter(
    command: tuple[str, ...],
    environment: Mapping[str, str],
    log: Path,
    arms: Mapping[str, int],
    prepare: Callable[[], None],
) -> None:
    """In the new process, before and while it is what the command says."""
    faulthandler.register(signal.SIGUSR1)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # nothing of a run outlives it
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.clear()
    os.environ.update(environment)
    from pipeline.cli import main

    prepare()
    arm(arms, log.parent / f"reached-{os.getpid()}")
    main(list(command), prog_name="headcount")

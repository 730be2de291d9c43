"""Runs faults beside each other: a lane is a broker and one run after the other on it."""

import random
import shutil
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

from tests.deployment.apache import Cluster
from tests.faults.table import Fault
from tests.faults.world import cluster_of


class Done(NamedTuple):
    """What came of one run, in which the fault happened so many times."""

    fault: str
    runs: int
    ok: bool
    detail: str
    seconds: float
    commit: str = ""


class Piece(NamedTuple):
    """One run that is to be done."""

    fault: Fault
    times: int
    seed: int


def run_all(
    faults: Sequence[Fault],
    times: Mapping[str, int],
    before: Iterable[Done] = (),
    *,
    lanes: int,
    within: float,
    keep: Callable[[Done], None],
) -> list[Done]:
    """What is missing of the faults' times; ``keep`` is told of each run. One that does not hold stays on the disk."""
    had = {name: sum(done.runs for done in before if done.fault == name) for name in times}
    waiting = deque(piece for fault in faults for piece in pieces(fault, times[fault.name] - had[fault.name]))
    results: list[Done] = []
    lock, deadline = threading.Lock(), time.monotonic() + within

    def next_piece() -> Piece | None:
        with lock:
            return waiting.popleft() if waiting and time.monotonic() < deadline else None

    def work(lane: Lane) -> None:
        while piece := next_piece():
            done = lane.run(piece)
            with lock:
                results.append(done)
                keep(done)

    there = [Lane() for _ in range(min(lanes, len(waiting)))]
    threads = [threading.Thread(target=work, args=(lane,), daemon=True) for lane in there]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:  # also where somebody ends it
        for lane in there:
            lane.close()
    return results


def pieces(fault: Fault, times: int) -> list[Piece]:
    """So many times, in runs of at most ``at_once``; whatever a seed decides by its remainder comes in turn."""
    source = random.SystemRandom()
    return [
        Piece(fault, min(fault.at_once, times - start), source.randrange(10**5) * 6 + number % 6)
        for number, start in enumerate(range(0, times, fault.at_once))
    ]


class Lane:
    """A broker that is started when it is needed first, and anew after a run that did not hold."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._cluster: Cluster | None = None

    def run(self, piece: Piece) -> Done:
        fault, times, seed = piece
        began, directory = time.monotonic(), Path(mkdtemp(prefix="headcount-fault-"))
        try:
            if self._cluster is None:
                place = mkdtemp(prefix="headcount-broker-")
                self._stack.callback(shutil.rmtree, place, ignore_errors=True)
                self._cluster = self._stack.enter_context(cluster_of(Path(place)))
            detail, ok = fault.run(self._cluster, directory, seed, times), True
            shutil.rmtree(directory, ignore_errors=True)
        except Exception as error:  # whatever it is, it is what was found
            traceback.print_exc()
            detail, ok = f"seed {seed}: {type(error).__name__}: {error} (see {directory})", False
            self.close()
        return Done(fault.name, times, ok, detail, time.monotonic() - began)

    def close(self) -> None:
        self._stack.close()
        self._cluster = None

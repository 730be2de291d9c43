"""``make bench-accuracy``: how near one release of open keys comes to the truth, and what it takes, beside PipelineDP.

Synthetic users as in the evaluation of DP-SQLP (Zhang et al. 2023), a statistic of users by key in one window,
(ε, δ) = (6, 1e-9), at most 32 keys a user. Rows go through the product's own fold, bounds, seals and release;
ingest and Kafka are left out. The truth is each key's number of distinct users; an absent key counts as 0.
"""

import argparse
import json
import multiprocessing
import resource
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import track

from pipeline.core.budget import largest_rho
from pipeline.core.pseudonyms import WindowKey
from pipeline.core.releasing import release_window
from pipeline.core.tallies import PartitionState, Tally
from pipeline.core.windows import Window, day_of, window_of
from pipeline.declarations import Declarations
from pipeline.noise import OpenDPNoise
from pipeline.testing import declarations
from tests.bench.population import CHUNK, KEYS, MOST, chunks, count, errors
from tests.columns import Sender, tally_of

USERS, SEEDS = 10_000_000, 5
EPSILON, DELTA = 6.0, 1e-9
LIMITS = {"keys": 95_000, "linf": 75.0, "l1": 6.9e6, "l2": 10_500.0}  # for 10,000,000 users
ROWS = 1 << 19  # folded at once
PEER_USERS = 500_000  # 50 s of CPU to PipelineDP; for ten million, in proportion, 17 minutes and 30 GB
FIRST = day_of(date(2026, 5, 1))
MONTH = window_of("month", FIRST)

STATISTICS = f"""
version = "1"
[statistics.keys]
description = "Users by key."
dimensions = ["feature"]
measures = ["users"]
windows = ["month"]
max_cells = {MOST}
"""


class Run(msgspec.Struct, kw_only=True):
    """One seed: errors over all keys (and, for the record, against events instead of users), CPU seconds, memory."""

    keys: int
    linf: float
    l1: float
    l2: float
    against_events: dict[str, float]
    cpu: dict[str, float]
    peak_rss_mb: float


class OneWindow:
    """A key store for a single window."""

    def __init__(self) -> None:
        self.key = WindowKey(secrets.token_bytes(32))

    def window(self, _: Window) -> WindowKey:
        return self.key

    def destroy(self, _: Window) -> None: ...

    def route(self) -> bytes:
        return bytes(32)


def declared() -> Declarations:
    """One open statistic a month, which has all of ε."""
    rho = largest_rho(EPSILON, DELTA / 2) * (1 - 1e-12)
    return declarations(statistics=STATISTICS, month=rho, delta=DELTA, max_epsilon=EPSILON)


def run(seed: int, users: int) -> Run:
    """Generates, tallies and releases one seed."""
    terms, keys = declared(), OneWindow()
    sender = Sender(terms.plan, [(f"k{n}",) for n in range(KEYS)], keys, seed)
    distinct, events = np.zeros(KEYS, dtype=np.int64), np.zeros(KEYS, dtype=np.int64)
    cpu = dict.fromkeys(("generate", "tally", "release"), 0.0)
    clock = time.process_time()

    def spent_on(step: str) -> None:
        nonlocal clock
        now = time.process_time()
        cpu[step] += now - clock
        clock = now

    tallies: list[Tally] = []
    for subjects, where in chunks(users, seed):  # one partition after the other, so that memory holds one
        users_of, events_of = count(subjects, where)
        distinct += users_of
        events += events_of
        spent_on("generate")
        state = PartitionState(len(tallies), -(-users // CHUNK), terms.plan)
        for start in range(0, len(subjects), ROWS):  # larger arrays would be new memory for every step
            rows = slice(start, start + ROWS)
            batch = sender.batch(subjects[rows], np.full(len(subjects[rows]), FIRST), where[rows])
            spent_on("generate")
            state.fold(batch)
            spent_on("tally")
        tallies += tally_of(state, FIRST, MONTH.end)
        spent_on("tally")
    (found,) = release_window(terms.accountant, MONTH, ["keys"], tallies, keys.key, OpenDPNoise())
    estimate = np.zeros(KEYS)
    estimate[[int(name[1:]) for (name,) in found.cells]] = found.values[0]
    spent_on("release")
    return Run(
        keys=len(found.cells),
        **errors(estimate, distinct),
        against_events=errors(estimate, events),
        cpu=cpu,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def apart(arguments: list[tuple[int, int]], processes: int) -> Iterator[Run]:
    """Runs of (seed, users), each in a process of its own, whose peak of memory is then its own too."""
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool:
        yield from pool.imap_unordered(_run, arguments)


def _run(arguments: tuple[int, int]) -> Run:
    return run(*arguments)


def worst(runs: Sequence[Run]) -> dict[str, float]:
    """Of each figure the worst: a limit that it keeps is kept by every seed."""
    return {name: (min if name == "keys" else max)(getattr(run, name) for run in runs) for name in LIMITS}


def line(name: str, figures: Mapping[str, float], more: str = "") -> str:
    return f"{name:34}" + "".join(f" {figures[key]:>12,.0f}" for key in LIMITS) + more


def beside(python: Path, users: int) -> None:
    """Prints Headcount's and PipelineDP's figures on the same users."""
    options = {"users": users, "seed": 0, "epsilon": EPSILON, "delta": DELTA}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    command = [str(python), "-m", "tests.bench.pipelinedp", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # both at once: there are two cores
        (mine,) = apart([(0, users)], 1)
        out, _ = process.communicate()
    if process.returncode:
        raise SystemExit("PipelineDP failed; its message is above")
    theirs = json.loads(out)
    print(f"\n{users:,} users, seed 0, beside PipelineDP's local backend")
    print(line("Headcount", msgspec.structs.asdict(mine), _cost(sum(mine.cpu.values()), mine.peak_rss_mb)))
    print(line("PipelineDP", theirs, _cost(theirs["cpu"], theirs["peak_rss_mb"])))


def _cost(cpu: float, memory: float) -> str:
    return f"   {cpu:,.0f} s of CPU, {memory:,.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--peer", type=Path, help="the Python of an environment that has PipelineDP")
    parser.add_argument("--peer-users", type=int, default=PEER_USERS)
    parser.add_argument("--to", type=Path, default=Path("var/accuracy.json"))
    given = parser.parse_args()
    began = time.monotonic()
    work = apart([(seed, given.users) for seed in range(given.seeds)], given.processes)
    runs = list(track(work, "seeds", total=given.seeds, console=Console(stderr=True)))
    seconds, figures = time.monotonic() - began, worst(runs)
    cpu = {step: round(sum(run.cpu[step] for run in runs), 1) for step in runs[0].cpu}
    peak = max(run.peak_rss_mb for run in runs)
    report: dict[str, Any] = {**figures, "seconds": round(seconds, 1), "peak_rss_mb": round(peak)}
    report |= {"cpu_seconds": cpu, "users": given.users, "runs": msgspec.to_builtins(runs)}
    given.to.parent.mkdir(parents=True, exist_ok=True)
    given.to.write_text(json.dumps(report, indent=1) + "\n")

    print(f"{given.users:,} users, {given.seeds} seeds, one release, epsilon {EPSILON:g}, delta {DELTA:g}")
    print(f"{'errors over all keys':34}" + "".join(f" {name:>12}" for name in LIMITS))
    for each in runs:
        print(line("a seed", msgspec.structs.asdict(each)))
    print(line("the worst of each", figures))
    if given.users == USERS:
        print(line("limits", LIMITS))
    print(line("against events instead of users", {"keys": runs[0].keys, **runs[0].against_events}))
    steps = ", ".join(f"{name} {n:,.0f}" for name, n in cpu.items())
    print(f"{seconds:,.0f} s by the clock, {sum(cpu.values()):,.0f} s of CPU ({steps}); {peak:,.0f} MB in a process")
    if given.peer:
        beside(given.peer, min(given.users, given.peer_users))
    if given.users == USERS and not all(
        (figures[n] >= v) if n == "keys" else (figures[n] <= v) for n, v in LIMITS.items()
    ):
        raise SystemExit("a figure is beyond its limit")


if __name__ == "__main__":
    main()

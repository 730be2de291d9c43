"""Runs attacks, several at once; an attack that cannot be tried is a violation, not a pass."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import Manager, get_context
from pathlib import Path
from typing import Any

import msgspec

from pipeline.audit.attacks import ATTACKS, Attack
from pipeline.audit.findings import Finding, Report, line

Watch = Callable[[str, int, int], None]  # attack, done, of


@dataclass(frozen=True)
class Outcome:
    """What one attack found, and in how long (seconds)."""

    attack: str
    findings: Sequence[Finding]
    seconds: float

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)


def run_attack(attack: Attack, *, full: bool, seed: int, report: Report) -> Outcome:
    """One attack, here and now."""
    began = time.monotonic()
    findings: list[Finding] = []
    try:
        for finding in attack.run(attack.full if full else attack.short, seed, report):
            findings.append(finding)  # noqa: PERF402 - those before an error count too
    except Exception as error:
        findings.append(not_tried(attack, error))
    return Outcome(attack.id, findings, time.monotonic() - began)


def run_attacks(attacks: Sequence[Attack], *, full: bool, seed: int, processes: int, watch: Watch) -> Iterator[Outcome]:
    """One outcome an attack, in the order of the list; each in a process of its own, the longest first."""
    with Manager() as manager, ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        said = manager.Queue()
        futures = {
            attack.id: pool.submit(_in_process, attack.id, full, seed, said)
            for attack in sorted(attacks, key=lambda attack: -attack.weight)
        }
        for attack in attacks:
            yield _await(futures[attack.id], said, watch)


def _await(future: "Future[Outcome]", said: Any, watch: Watch) -> Outcome:
    while not future.done():
        wait([future], timeout=0.2)
        while not said.empty():
            watch(*said.get())
    return future.result()


def _in_process(name: str, full: bool, seed: int, said: Any) -> Outcome:
    last = -1

    def report(done: int, of: int) -> None:
        nonlocal last
        if (percent := 100 * done // max(of, 1)) != last:
            last = percent
            said.put((name, done, of))

    report(0, 1)
    attack = next(attack for attack in ATTACKS if attack.id == name)
    return run_attack(attack, full=full, seed=seed, report=report)


def not_tried(attack: Attack, error: Exception) -> Finding:
    """The finding of an attack that ended before it had one. Its events are invented: the error's text may be shown."""
    return Finding(
        attack=f"{attack.id} {attack.name}: not tried",
        tried=f"could not be tried to its end ({type(error).__name__}: {error})",
        n=0,
        figure=1.0,
        bound=0.0,
        ok=False,
    )


def write(path: Path, outcomes: Iterable[Outcome]) -> None:
    """``audit.json``: a list of {attack, n, figure, bound, ok}."""
    lines = [line(finding) for outcome in outcomes for finding in outcome.findings]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(lines), indent=2) + b"\n")

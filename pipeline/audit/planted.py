"""A9: the audit itself. Each fault of the table is planted; the attack that is named beside it must find a violation,
and must find none where nothing is planted.

Attacks run here as in the audit, at the least size at which each is sure of its fault.
"""

from collections.abc import Callable, Iterator

from pipeline.audit import differencing, mechanism, neighbours, retries, uniques, views
from pipeline.audit.faults import FAULTS, Fault, planted
from pipeline.audit.findings import Finding, Report, at_least, at_most, no_report

Run = Callable[[int, int, Report], Iterator[Finding]]

TRIALS: dict[str, tuple[Run, int]] = {
    "A0": (neighbours.run, 100),
    "A1": (mechanism.run, 50_000),
    "A3": (uniques.run, 2_000),
    "A4": (retries.run, 6),
    "A5": (differencing.run, 100),
    "A7": (views.run, 2),
}


def run(n: int, seed: int, report: Report) -> Iterator[Finding]:
    """The first ``n`` faults."""
    tried = FAULTS[:n]
    names = sorted({fault.caught_by for fault in tried})
    steps, done = len(tried) + len(names), 0
    alarms: list[str] = []
    for name in names:
        alarms += [finding.attack for finding in trial(name, seed) if not finding.ok]
        report(done := done + 1, steps)
    missed: list[str] = []
    for fault in tried:
        if not caught(fault, seed):
            missed.append(fault.name)
        report(done := done + 1, steps)
    text = "planted faults; caught" + (f" (not: {', '.join(missed)})" if missed else "")
    yield at_least("A9 planted faults: caught", text, len(tried), len(tried) - len(missed), len(tried))
    text = "attacks without any fault; false alarms" + (f" ({', '.join(alarms)})" if alarms else "")
    yield at_most("A9 planted faults: false alarms", text, len(names), len(alarms), 0)


def trial(name: str, seed: int) -> list[Finding]:
    """What the attack finds, at its size here."""
    attack, n = TRIALS[name]
    return list(attack(n, seed, no_report))


def caught(fault: Fault, seed: int) -> bool:
    """Whether its attack finds a violation while the fault is planted."""
    with planted(fault):
        return not all(finding.ok for finding in trial(fault.caught_by, seed))

"""The closed list of attacks, with the sizes at which they are run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.audit import (
    canaries,
    differencing,
    mechanism,
    neighbours,
    opinion,
    planted,
    randomness,
    retries,
    uniques,
    views,
)
from pipeline.audit.findings import Finding, Report


@dataclass(frozen=True)
class Attack:
    """``run(n, seed, report)`` yields findings. ``short`` and ``full``: n in ``make audit`` and in ``make audit-full``.
    ``weight``: about how long it takes beside the others, so that the longest begin first.
    """

    id: str
    name: str
    run: Callable[[int, int, Report], Iterator[Finding]]
    short: int
    full: int
    weight: int


ATTACKS = (
    Attack("A0", "record and replay on neighbouring inputs", neighbours.run, 1_000, 100_000, 9),
    Attack("A1", "the mechanism alone", mechanism.run, 500_000, 1_000_000, 4),
    Attack("A2", "the whole stack in one run", canaries.run, 8_000, 20_000, 6),
    Attack("A3", "values that one subject alone has", uniques.run, 40_000, 1_000_000, 5),
    Attack("A4", "one draw for a release", retries.run, 18, 186, 5),
    Attack("A5", "differencing", differencing.run, 400, 10_000, 7),
    Attack("A6", "singling out, linkability, inference", opinion.run, 20_000, 50_000, 2),
    Attack("A7", "what is seen beside the numbers", views.run, 12, 48, 3),
    Attack("A8", "no other randomness", randomness.run, 1, 1, 1),
    Attack("A9", "the audit itself", planted.run, 12, 12, 8),
)

"""A0: record and replay on neighbouring inputs. What one subject did in one month is taken away; exact numbers move
by no more than was paid for, and nothing else moves.

Each small world has subjects who try to be seen, over a few days of two months. It is recorded; then one subject's
month after the other, or an event of nobody, is taken away until nothing is left, and what remains is replayed each
time with everything rearranged: other records, other forms, other source partitions, another number of tally
partitions, batches fetched twice, a worker that starts anew. What the noise is asked to hide is compared with the
step before (unit and bounds: decision 0005). Adding and removing are one pair.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from itertools import count, repeat
from multiprocessing import get_context
from os import cpu_count

import numpy as np

from pipeline.audit.crowd import Deed, Unit, crowd
from pipeline.audit.estimates import rate_at_least
from pipeline.audit.findings import Finding, Report, at_most
from pipeline.audit.worlds import NDJSON, Kept
from pipeline.core.contributions import Contribution, Progress, encode_contribution
from pipeline.core.events import BATCH, Record
from pipeline.core.ingest import Ingest
from pipeline.core.release import Release
from pipeline.core.tallies import FOREVER, Closed, Tally
from pipeline.core.windows import day_of
from pipeline.declarations import Declarations
from pipeline.testing import ARRIVED, OPEN, NoNoise, declarations, release, tally

# The first day and the first after the last: a month ends within each, and but in the second within a week.
SPANS = (
    (date(2026, 4, 30), date(2026, 5, 2)),
    (date(2026, 5, 31), date(2026, 6, 2)),
    (date(2026, 12, 31), date(2027, 1, 2)),
    (date(2026, 6, 29), date(2026, 7, 2)),
)
POOLED = 5_000  # pairs from which on all processors take part
AT_ONCE = 64  # worlds
ROUNDING = 1e-9

SMALL = (
    """
version = "audit"
[statistics.by_country]
description = "Declared cells."
dimensions = ["country"]
measures = ["users", "events"]
max_cells = 2
max_events = { day = 3, week = 4, month = 5 }
total = true
[statistics.intensity]
description = "A histogram."
measures = ["users"]
max_cells = 1
histogram = [1, 2, 4, 8]
""",
    """
version = "audit"
[statistics.by_feature]
description = "Open cells."
dimensions = ["feature", "duration_ms"]
measures = ["users", "events"]
max_cells = { day = 1, week = 2, month = 3 }
max_events = 2
total = true
""",
)


@dataclass
class Moved:
    """What a number of pairs came to. Ratios are of what moved to what was declared."""

    pairs: int = 0
    rearranged: int = 0
    cells: float = 0.0  # L0
    most: float = 0.0  # L∞
    norm: float = 0.0  # L2
    rho: float = 0.0
    over: int = 0  # pairs in which a ratio is over 1
    flow: int = 0  # pairs in which windows, declared cells or draws differ
    replays: int = 0  # rearrangements that change a number

    def __add__(self, other: "Moved") -> "Moved":
        return Moved(
            self.pairs + other.pairs,
            self.rearranged + other.rearranged,
            max(self.cells, other.cells),
            max(self.most, other.most),
            max(self.norm, other.norm),
            max(self.rho, other.rho),
            self.over + other.over,
            self.flow + other.flow,
            self.replays + other.replays,
        )


def run(n: int, seed: int, report: Report) -> Iterator[Finding]:
    """At least ``n`` pairs."""
    moved = Moved()
    with ExitStack() as stack:
        worlds: Iterator[Moved] = (try_world(seed, number) for number in count())
        if n >= POOLED:
            pool = stack.enter_context(ProcessPoolExecutor(cpu_count() or 1, mp_context=get_context("spawn")))
            worlds = in_batches(pool, seed)
        while moved.pairs < n:
            moved += next(worlds)
            report(min(moved.pairs, n), n)
    lower = rate_at_least(moved.over, moved.pairs, 0.05)
    tried = "a subject's month or an event of nobody taken away, all else rearranged; largest ratio to the declared"
    yield at_most("A0 neighbours: L0", f"{tried} number of cells", moved.pairs, moved.cells, 1.0, lower=lower)
    yield at_most("A0 neighbours: Linf", f"{tried} change of a cell", moved.pairs, moved.most, 1.0, lower=lower)
    yield at_most(
        "A0 neighbours: L2", f"{tried} norm of a statistic", moved.pairs, moved.norm, 1 + ROUNDING, lower=lower
    )
    yield at_most("A0 neighbours: rho", f"{tried} price of a window", moved.pairs, moved.rho, 1 + ROUNDING, lower=lower)
    tried = "pairs in which windows, cells of catalogues or numbers of draws differ"
    yield at_most(
        "A0 neighbours: control flow",
        tried,
        moved.pairs,
        moved.flow,
        0,
        lower=rate_at_least(moved.flow, moved.pairs, 0.05),
    )
    tried = "rearrangements of the same events that change a number"
    yield at_most("A0 neighbours: replays", tried, moved.rearranged, moved.replays, 0)


def in_batches(pool: ProcessPoolExecutor, seed: int) -> Iterator[Moved]:
    """Worlds in order, so many at once as there are processors to try them."""
    for batch in count():
        numbers = range(AT_ONCE * batch, AT_ONCE * (batch + 1))
        yield from pool.map(try_world, repeat(seed), numbers, chunksize=4)


def try_world(seed: int, number: int) -> Moved:
    """One world: recorded, rearranged, and replayed with one part after the other taken away, until nothing is left."""
    random = np.random.default_rng((seed, number))
    world = World(number, random)
    deeds = world.deeds
    recorded = world.count(deeds, random)
    moved = Moved(rearranged=1, replays=int(not same(recorded, world.count(deeds, random))))
    for unit in world.units(random):
        deeds = [deed for deed in deeds if deed.unit != unit]
        less = world.count(deeds, random)
        moved += compare(world.declared, recorded, less, alone=unit.subject is None)
        recorded = less
    return moved


# delta = 1: nothing is held back, so that every exact number can be looked at.
@cache
def shipped() -> Declarations:
    """The statistics that ship."""
    return declarations(delta=1.0, max_epsilon=1e9)


@cache
def small(which: int) -> Declarations:
    """Some of each kind, with bounds of other sizes."""
    return declarations(statistics=SMALL[which], delta=1.0, max_epsilon=1e9)


class World:
    """A few subjects, what they did in a span of days, and the workers that hear of it."""

    def __init__(self, number: int, random: np.random.Generator) -> None:
        self.since, self.until = (day_of(day) for day in SPANS[number // 8 % len(SPANS)])
        self.declared = shipped() if number % 8 == 7 else small(number % 2)
        self.keys = Kept(f"{number}")
        self.deeds = crowd(random, self.since, self.until)
        self.ingests: dict[int, Ingest] = {}

    def units(self, random: np.random.Generator) -> list[Unit]:
        """What is taken away, in some order: a subject's month, or an event of nobody with all its deliveries."""
        found = list(dict.fromkeys(deed.unit for deed in self.deeds))
        return [found[place] for place in random.permutation(len(found)).tolist()]

    def count(self, deeds: Sequence[Deed], random: np.random.Generator) -> "Counted":
        """The deeds through all hops, in some arrangement of records, partitions, batches and restarts."""
        sources, partitions = int(random.integers(1, 4)), int(random.integers(1, 3))
        ingest = self.ingests.get(partitions)
        if ingest is None:  # workers go on from world to neighbour, with all that they remember
            d = self.declared
            ingest = self.ingests[partitions] = Ingest(
                d.registry, d.plan, d.policy, self.keys, partitions, (self.since, self.until)
            )
        log: list[list[bytes]] = [[] for _ in range(partitions)]
        offsets = [0] * sources
        given: list[Tally | Closed] = []
        for phase, closed in ((0, self.since + 1), (1, FOREVER)):
            due = [deed for deed in deeds if deed.phase == phase]
            random.shuffle(due)
            for source, batch in arranged(due, sources, offsets, random):
                for partition, contributions in ingest.ingest(source, batch, OPEN).contributions.items():
                    log[partition].append(encode_contribution(contributions))
            for source in range(sources):
                word: Contribution = Progress(source, sources, closed, self.since, self.until)
                for each in log:
                    each.append(encode_contribution(word))
            if phase == 1 or random.integers(3) == 0:  # a worker that did half of it, before another did all
                for partition, each in enumerate(log):
                    given += tally(self.declared, each, partition=partition, partitions=partitions)[0]
        noise = NoNoise()
        return Counted(release(self.declared, given, keys=self.keys, noise=noise), noise.draws)


def arranged(
    deeds: Sequence[Deed], sources: int, offsets: list[int], random: np.random.Generator
) -> Iterator[tuple[int, list[Record]]]:
    """The deeds cut into records and dealt to source partitions; some batches are fetched twice."""
    rest = list(deeds)
    while rest:
        source, batch = int(random.integers(sources)), []
        for _ in range(int(random.integers(1, 8))):
            size = int(random.integers(1, 12))
            texts, rest = [deed.text for deed in rest[:size]], rest[size:]
            if not texts:
                break
            if random.integers(2):
                headers, value = NDJSON, b"\n".join(texts)
            else:
                headers, value = (("content-type", BATCH.encode()),), b"[" + b",".join(texts) + b"]"
            batch.append(Record(offsets[source], ARRIVED, headers, value))
            offsets[source] += 1
        yield source, batch
        if random.integers(4) == 0:
            yield source, batch[int(random.integers(len(batch))) :]


@dataclass
class Counted:
    """What the noise would have been asked to hide: exact numbers, and every call for draws."""

    releases: list[Release]
    draws: list[tuple[int, float]]
    cells: list[list[dict[tuple[str, ...], int]]] = field(init=False)  # per release and measure

    def __post_init__(self) -> None:
        self.cells = [[dict(zip(r.cells, values, strict=True)) for values in r.values] for r in self.releases]


def same(one: Counted, other: Counted) -> bool:
    """Whether two arrangements of the same events gave the same."""
    return one.releases == other.releases and one.draws == other.draws


def compare(declared: Declarations, one: Counted, other: Counted, *, alone: bool) -> Moved:
    """One pair. ``alone``: an event of nobody, which is protected as one event."""
    if [r.key for r in one.releases] != [r.key for r in other.releases] or len(one.draws) != len(other.draws):
        return Moved(pairs=1, flow=1)
    moved, flow, spent = Moved(pairs=1), False, 0.0
    draws = iter(zip(one.draws, other.draws, strict=True))
    window = ""
    for place, (a, b) in enumerate(zip(one.releases, other.releases, strict=True)):
        statistic = declared.plan.statistics[a.statistic]
        is_open = declared.plan.open(statistic)
        flow = flow or (not is_open and a.cells != b.cells)
        if f"{a.window}/{a.start}" != window:
            window, spent = f"{a.window}/{a.start}", 0.0
        for measure, name in enumerate(statistic.measures):
            (n, sigma), (m, tau) = next(draws)
            # One draw for each candidate of an open statistic: those that a subject alone has are among them.
            flow = flow or sigma != tau or (abs(n - m) > statistic.moved(a.window) if is_open else n != m)
            price = declared.accountant.price(a.statistic, name, a.window)
            changes = differences(one.cells[place][measure], other.cells[place][measure])
            norm2 = float(sum(d * d for d in changes))
            limit, bound = (1, int(name == "events")) if alone else (statistic.moved(a.window), price.bound)
            moved.cells = max(moved.cells, len(changes) / limit)
            moved.most = max(moved.most, *(_ratio(d, bound) for d in changes), 0.0)
            moved.norm = max(moved.norm, _ratio(math.sqrt(norm2), bound * math.sqrt(limit)))
            spent += norm2 / (2 * price.sigma**2)
        for measure, name in enumerate(statistic.measures if a.total is not None else ()):
            (n, sigma), (m, tau) = next(draws)
            flow = flow or (n, sigma) != (m, tau)
            price = declared.accountant.price(a.statistic, name, a.window)
            change = abs((a.total or [])[measure] - (b.total or [])[measure])
            bound = int(name == "events") if alone else price.total_bound or 0
            moved.most = max(moved.most, _ratio(change, bound))
            spent += change**2 / (2 * (price.total_sigma or math.inf) ** 2)
        moved.rho = max(moved.rho, spent / declared.policy.budget.rho(a.window))
    moved.over = int(max(moved.cells, moved.most, moved.norm, moved.rho) > 1 + ROUNDING)
    moved.flow = int(flow)
    return moved


def differences(one: dict[tuple[str, ...], int], other: dict[tuple[str, ...], int]) -> list[int]:
    """By how much each cell differs, where it does; a cell that is not there counts 0."""
    if one == other:
        return []
    return [d for cell in one | other if (d := abs(one.get(cell, 0) - other.get(cell, 0)))]


def _ratio(change: float, bound: float) -> float:
    return change / bound if bound else math.inf if change else 0.0

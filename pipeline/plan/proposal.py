"""Bounds for next month, from what was released and from nothing else: the file of statistics is all that is read.

Bounds that were chosen by looking at tallies would themselves tell something of the subjects in them.
"""

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from pipeline.core.budget import Accountant
from pipeline.core.statistics import HISTOGRAM
from pipeline.core.windows import Kind
from pipeline.plan.forecast import PART, forecast
from pipeline.plan.population import MOST_EVENTS, Floats, Population, PopulationError
from pipeline.warehouse.reader import Statistics
from pipeline.warehouse.views import quoted

MAX_CELLS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
MAX_EVENTS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)


@dataclass(frozen=True)
class Proposal:
    """``error_now``, ``error``: the expected sums of absolute errors, of users and of events."""

    kind: Kind
    now: tuple[int, int]  # max_cells, max_events
    proposed: tuple[int, int]
    error_now: tuple[float, float]
    error: tuple[float, float]


def released_population(directory: Path, statistic: str) -> Population:
    """The population that the newest month's releases speak of. Raises :class:`PopulationError` where they do not.

    Users and their events come from a histogram of events per user, popularity from the cells that are shown; what the
    total has beyond them is taken for cells half as popular as the least that is shown.
    """
    with Statistics(directory) as statistics:
        histogram = next((n for n in statistics.names() if statistics.dimensions(n) == [HISTOGRAM]), None)
        if histogram is None or statistic not in statistics.names():
            raise PopulationError(f"releases of {statistic} and of a histogram are needed; there are none in that file")
        newest = "period = 'month' AND start = (SELECT max(start) FROM {0} WHERE period = 'month')"
        buckets = statistics.sql(
            f"SELECT {HISTOGRAM} AS bucket, users FROM {quoted(histogram)} WHERE {newest.format(quoted(histogram))} "
            f"ORDER BY {HISTOGRAM}"
        )
        view = quoted(statistic)
        names = ", ' ', ".join(map(quoted, statistics.dimensions(statistic)))
        measure = "events" if "events" in statistics.frame(statistic, "month") else "users"
        cells = statistics.sql(
            f"SELECT concat({names}) AS name, {measure} AS n FROM {view} WHERE {newest.format(view)} ORDER BY n DESC"
        )
        total = 0.0
        if measure == "events" and bool(statistics.catalogue().set_index("statistic").loc[statistic, "has_total"]):
            view = quoted(f"{statistic}_total")
            [[total]] = statistics.sql(f"SELECT events FROM {view} WHERE {newest.format(view)}").to_numpy().tolist()
    users = np.maximum(buckets["users"].to_numpy(float), 0.0)
    shown = np.maximum(cells["n"].to_numpy(float), 0.0)
    if not users.sum() or not shown.sum() or len(users) < 2:
        raise PopulationError("no month was released in which a cell is shown: come back when there is one")
    held_back = max(0.0, float(total) - shown.sum())
    rest = math.ceil(held_back / (shown[-1] / 2)) if shown[-1] else 0
    shares = np.concatenate([shown, np.full(rest, held_back / max(1, rest))])
    events = _spread([str(label) for label in buckets["bucket"]], users)
    return Population(float(users.sum()), events, shares / shares.sum(), tuple(cells["name"]))


def _spread(labels: list[str], users: Floats) -> Floats:
    """Users by number of events, from buckets: even within one; beyond the last edge as they fell off before it."""
    edges = [int(label.rstrip("+").partition("-")[0]) for label in labels]
    events = np.zeros(min(MOST_EVENTS, 12 * edges[-1]) + 1)
    for low, high, n in zip(edges, edges[1:], users, strict=False):
        events[low:high] = n / (high - low)
    stayed = min(0.9, max(0.01, users[-1] / max(1.0, users[-2:].sum())))  # of those at the edge before the last
    tail = stayed ** (np.arange(len(events) - edges[-1]) / (edges[-1] - edges[-2]))
    events[edges[-1] :] = users[-1] * tail / tail.sum()
    shares: Floats = events / events.sum()
    return shares


def propose(accountant: Accountant, name: str, kind: Kind, population: Population) -> Proposal:
    """The bounds with the least expected error of all cells together: first of users, then, with those, of events."""
    statistic = accountant.plan.statistics[name]
    now = statistic.cells(kind), statistic.bound("events", kind)

    def errors(bounds: tuple[int, int]) -> tuple[float, float]:
        found = forecast(with_bounds(accountant, name, kind, *bounds), name, kind, population)
        return found.users_error, found.events_error

    cells = min(sorted({*MAX_CELLS, now[0]}), key=lambda each: errors((each, now[1]))[0])
    events = now[1]
    if "events" in statistic.measures:
        events = min(sorted({*MAX_EVENTS, now[1]}), key=lambda each: errors((cells, each))[1])
    return Proposal(kind, now, (cells, events), errors(now), errors((cells, events)))


def with_bounds(accountant: Accountant, name: str, kind: Kind, max_cells: int, max_events: int) -> Accountant:
    """The accountant under other bounds of one statistic; rho stays as it is, and noise follows."""
    plan, statistic = copy.copy(accountant.plan), accountant.plan.statistics[name]
    changed = msgspec.structs.replace(
        statistic,
        max_cells={each: statistic.cells(each) for each in PART} | {kind: max_cells},
        max_events={each: statistic.bound("events", each) for each in PART} | {kind: max_events},
    )
    plan.statistics = {**accountant.plan.statistics, name: changed}
    return Accountant(accountant.policy, plan)

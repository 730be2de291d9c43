"""What one statistic will show: which cells, how exact, and what the bounds cut off. Expectations, nothing is drawn."""

import math
from dataclasses import dataclass

import numpy as np

from pipeline.core.budget import Accountant
from pipeline.core.windows import Kind
from pipeline.plan.population import Floats, Population

PART: dict[Kind, float] = {"day": 1 / 30, "week": 7 / 30, "month": 1.0}  # of a month of 30 days
_SINGLE, _GROUPS = 300, 500  # cells beyond the first are computed in groups of nearly equal popularity

# Gauss–Hermite, three nodes: how a count varies around its expectation.
_NODES = ((-math.sqrt(3), 1 / 6), (0.0, 2 / 3), (math.sqrt(3), 1 / 6))


@dataclass(frozen=True)
class Forecast:
    """One statistic in one kind of window. Arrays have an entry for each group of equally popular cells.

    ``users``: who is active in the window. ``size``: how many cells a group has. ``true``: the users of a cell;
    ``counted``: those who are left when every user is held to ``max_cells``; ``chance``: that the cell is shown.
    ``relative_error``: the median over the shown cells of |released − true| / true, infinite where none is.
    ``users_lost``, ``events_lost``: the share that the bounds cut off. ``users_error``, ``events_error``: the expected
    sum of absolute errors over all cells, those held back counted as 0.
    """

    statistic: str
    kind: Kind
    users: float
    sigma: float
    threshold: float | None
    size: Floats
    true: Floats
    counted: Floats
    chance: Floats
    relative_error: float
    users_lost: float
    events_lost: float
    users_error: float
    events_error: float

    @property
    def cells(self) -> int:
        return round(float(self.size.sum()))

    @property
    def shown(self) -> float:
        """How many cells will be shown, in expectation."""
        return float(self.size @ self.chance)

    @property
    def bar95(self) -> float:
        return 1.959964 * self.sigma


def forecast(accountant: Accountant, name: str, kind: Kind, population: Population) -> Forecast:
    """The statistic's next window under this policy, if the population is what it is said to be."""
    statistic = accountant.plan.statistics[name]
    share = population.within(PART[kind])
    users = population.users
    size, popularity = grouped(population.cells)
    n = np.arange(len(share))
    with np.errstate(divide="ignore"):
        absent = np.exp(n[:, None] * np.log1p(-popularity)[None, :])  # n × groups: no event of n is in the cell
    absent[0] = 1.0
    kept = _kept(1 - absent, size, statistic.cells(kind))
    true = users * (share @ (1 - absent))
    counted = users * ((share * kept) @ (1 - absent))

    price, threshold = accountant.price(name, "users", kind), accountant.threshold(name, kind)
    least = -math.inf if threshold is None or threshold == -math.inf else math.ceil(threshold) - 0.5
    spread = np.sqrt(counted)
    chance = 1 - _normal((least - counted) / np.hypot(price.sigma, spread))
    loss = true - counted
    events_true = users * float(share @ n) * popularity
    events_counted, events_error = events_true, 0.0
    if "events" in statistic.measures:
        each = _clipped(popularity, len(share), statistic.bound("events", kind))
        events_counted = users * ((share * kept) @ each)
        sigma = accountant.price(name, "events", kind).sigma
        events_error = float(size @ _error(events_true, events_true - events_counted, sigma, chance))
    return Forecast(
        statistic=name,
        kind=kind,
        users=users * float(1 - share[0]),
        sigma=price.sigma,
        threshold=None if math.isinf(least) else threshold,
        size=size,
        true=true,
        counted=counted,
        chance=chance,
        relative_error=_median_error(size, true, counted, price.sigma, least),
        users_lost=1 - float(size @ counted) / max(1e-12, float(size @ true)),
        events_lost=1 - float(size @ events_counted) / max(1e-12, float(size @ events_true)),
        users_error=float(size @ _error(true, loss, price.sigma, chance)),
        events_error=events_error,
    )


def grouped(cells: Floats) -> tuple[Floats, Floats]:
    """How many cells each group has, and their popularity: the first each alone, the others by rank."""
    edges = np.unique(
        np.concatenate(
            [
                np.arange(min(len(cells), _SINGLE)),
                np.geomspace(_SINGLE, max(len(cells), _SINGLE + 1), _GROUPS).astype(int),
            ]
        )
    )
    edges = edges[edges < len(cells)]
    size = np.diff(edges, append=len(cells)).astype(float)
    return size, np.add.reduceat(cells, edges) / size


def _kept(present: Floats, size: Floats, max_cells: int) -> Floats:
    """By number of events: the share of a user's cells that ``max_cells`` leaves.

    Of n events, n − D fall into a cell that has one: D distinct cells, where n − D is taken as binomial with the mean
    that it has. Exact for two events, and wherever cells are few or many.
    """
    distinct = present @ size  # E[D] by n
    kept = np.ones(len(distinct))
    for n in range(max_cells + 1, len(distinct)):
        again = min(1.0, max(0.0, (n - distinct[n]) / (n - 1)))
        repeats = _binomial(n - 1, again)
        kept[n] = float(repeats @ np.minimum(max_cells, n - np.arange(n))) / distinct[n]
    return np.minimum(kept, 1.0)


def _binomial(n: int, p: float) -> Floats:
    """The distribution of successes in n trials."""
    if p in (0.0, 1.0):
        certain: Floats = np.eye(n + 1)[0 if p == 0 else n]
        return certain
    k = np.arange(n + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    chance: Floats = np.exp(logs[n] - logs - logs[::-1] + k * math.log(p) + (n - k) * math.log1p(-p))
    return chance


def _clipped(popularity: Floats, events: int, most: int) -> Floats:
    """n × groups: the expected events of a user with n events in a cell, counted up to ``most``: Σ_j<most P(X > j)."""
    n = np.arange(events)[:, None]
    odds = popularity / np.maximum(1e-300, 1 - popularity)
    with np.errstate(divide="ignore"):
        chance = np.exp(n * np.log1p(-np.minimum(popularity, 1 - 1e-12)))  # P(X = 0)
    more, total = 1 - chance, np.zeros_like(chance)
    for j in range(min(most, events)):
        total += np.maximum(more, 0.0)
        chance = chance * np.maximum(n - j, 0) / (j + 1) * odds
        more = more - chance
    return total


def _error(true: Floats, loss: Floats, sigma: float, chance: Floats) -> Floats:
    """The expected absolute error of a cell: that of noise and loss where it is shown, all of it where it is not."""
    z = loss / sigma
    shown = sigma * math.sqrt(2 / math.pi) * np.exp(-z * z / 2) + loss * (1 - 2 * _normal(-z))
    error: Floats = chance * shown + (1 - chance) * true
    return error


def _median_error(size: Floats, true: Floats, counted: Floats, sigma: float, least: float) -> float:
    """The median of |released − true| / true over the shown cells, whose noise lifted them over the threshold or did
    not have to.
    """
    scale = true / np.maximum(counted, 1e-300)
    low, high = 0.0, 1e6

    def below(bound: float) -> tuple[float, float]:
        within = shown = 0.0
        for node, weight in _NODES:
            met = np.maximum(counted + node * np.sqrt(counted), 1e-9)
            truth = met * scale
            floor = (least - met) / sigma
            most, under = (truth - met + bound * truth) / sigma, (truth - met - bound * truth) / sigma
            within += weight * float(size @ np.maximum(0.0, _normal(most) - _normal(np.maximum(under, floor))))
            shown += weight * float(size @ (1 - _normal(floor)))
        return within, shown

    within, shown = below(high)
    if shown < 0.5:
        return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        within, shown = below(middle)
        low, high = (middle, high) if within < shown / 2 else (low, middle)
    return high


def _normal(z: Floats) -> Floats:
    """The normal distribution function."""
    return np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in np.ravel(z)]).reshape(np.shape(z))

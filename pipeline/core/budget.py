"""The accountant: what a release costs in zCDP, how much noise that buys, and where the threshold of open cells lies.

Sources: zero-concentrated differential privacy and its conversion (Bun and Steinke 2016; Canonne, Kamath and
Steinke 2020, proposition 7); the threshold for values that come from the data (Desfontaines, Voss, Gipson and
Mandayam 2022, and DP-SQLP). Every figure is derived from ρ; none is copied.
"""

import math
from statistics import NormalDist

import msgspec

from pipeline.core.policy import Policy
from pipeline.core.release import Measure
from pipeline.core.statistics import Plan
from pipeline.core.windows import KINDS, Kind

# The most windows of each kind that hold a day of one calendar month: a month of 30 days that begins on a Sunday
# has 6 ISO weeks.
PER_MONTH: dict[Kind, int] = {"day": 31, "week": 6, "month": 1}

# Over this ε a month's guarantee is worth nothing to anyone; commands that run under such a policy say so.
MEANINGFUL_EPSILON = 20.0


class Price(msgspec.Struct, frozen=True):
    """What one measure of one statistic in one window costs: ρ, the noise it buys and the bound that the noise
    hides.
    """

    rho: float
    sigma: float
    bound: int
    total_sigma: float | None
    total_bound: int | None


class OverBudget(ValueError):
    """The policy's month costs more than its cap."""


class Accountant:
    """Prices of every release under one policy. Raises :class:`OverBudget` when a subject's month is not covered."""

    def __init__(self, policy: Policy, plan: Plan) -> None:
        self.policy = policy
        self.plan = plan
        self.rho_month = sum(PER_MONTH[kind] * policy.budget.rho(kind) for kind in plan.kinds)
        # Half of δ is for the conversion, half for the thresholds of all the windows that touch a month. δ = 1 has
        # no thresholds.
        delta = policy.budget.delta
        self.delta_window = delta / 2 / sum(PER_MONTH[k] for k in KINDS) if delta < 1 else 1.0
        self.epsilon_month = epsilon(self.rho_month, policy.budget.delta / 2)
        if self.epsilon_month > policy.budget.max_epsilon:
            raise OverBudget(
                f"a subject's month costs epsilon {self.epsilon_month:.2f}, "
                f"the policy allows {policy.budget.max_epsilon:g}: "
                "lower rho in [budget], or raise max_epsilon and announce it"
            )

    @property
    def protects(self) -> bool:
        """Whether the policy means anything: subjects are bounded, ε of a month is at most 20 and δ at most 1 in
        10,000.
        """
        budget = self.policy.budget
        return budget.bounded and self.epsilon_month <= MEANINGFUL_EPSILON and budget.delta <= 1e-4

    def cells(self, measure: Measure, kind: Kind) -> int:
        """L0: how many cells of all statistics that give this measure one subject may touch in one window, totals
        included.
        """
        return sum(s.moved(kind) + s.total for s in self.plan.of(kind).values() if measure in s.measures)

    def share(self, measure: Measure, kind: Kind) -> float:
        """The measure's part of a window's ρ; users have all of it where nobody asks for events."""
        events = self.policy.budget.events_share if self.cells("events", kind) else 0.0
        return events if measure == "events" else 1 - events

    def price(self, name: str, measure: Measure, kind: Kind) -> Price:
        """The noise for one measure of a statistic: every cell, the total included, has an equal part of the
        measure's ρ.

        A subject moves at most ``max_cells`` cells by Δ each, so they cost ``max_cells·Δ²/2σ²``; the total moves by
        ``max_cells·Δ`` (by 1 for users) and has a σ of its own.
        """
        statistic = self.plan.statistics[name]
        rho_cell = self.policy.budget.rho(kind) * self.share(measure, kind) / self.cells(measure, kind)
        bound = statistic.bound(measure, kind)
        total_bound = (1 if measure == "users" else bound * statistic.cells(kind)) if statistic.total else None
        return Price(
            rho=rho_cell * (statistic.moved(kind) + statistic.total),
            sigma=bound / math.sqrt(2 * rho_cell),
            bound=bound,
            total_sigma=None if total_bound is None else total_bound / math.sqrt(2 * rho_cell),
            total_bound=total_bound,
        )

    def threshold(self, name: str, kind: Kind) -> float | None:
        """τ: an open cell is released where its noisy users reach this; ``None`` for declared cells.

        With it, a cell that exists because of one subject alone is shown with probability at most δ over all its cells.
        """
        if not self.plan.open(self.plan.statistics[name]):
            return None
        sigma = self.price(name, "users", kind).sigma
        # Half a user more than the formula: what is drawn are integers, and P(Z ≥ k) ≤ P(N ≥ k − ½) beyond σ.
        return threshold(sigma, self.delta_window, self.cells("users", kind)) + 0.5


def threshold(sigma: float, delta: float, cells: int) -> float:
    """``1 + σ·Φ⁻¹((1−δ)^(1/cells))``; minus infinity for δ = 1, where nothing is held back.

    >>> round(threshold(22.36, 1e-9 / 2 / 38, 10))
    157
    """
    if delta == 1:
        return -math.inf
    tail = -math.expm1(math.log1p(-delta) / cells)  # 1 − (1−δ)^(1/cells), exact for the smallest δ
    return 1 - sigma * NormalDist().inv_cdf(tail)


def epsilon(rho: float, delta: float) -> float:
    """The smallest ε for which ρ-zCDP implies (ε, δ); infinite where none below 10,000 does.

    >>> round(epsilon(0.42, 5e-10), 2)
    5.99
    """
    if rho > 5_000:
        return math.inf
    low, high = 0.0, 10_000.0
    if _log_delta(rho, high) > math.log(delta):
        return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _log_delta(rho, middle) > math.log(delta) else (low, middle)
    return high


def _log_delta(rho: float, eps: float) -> float:
    """log of the least δ at this ε: the minimum over α > 1 of a unimodal function, by ternary search on log(α − 1)."""

    def at(log_gap: float) -> float:
        gap = math.exp(log_gap)  # α − 1
        return gap * ((1 + gap) * rho - eps) + (1 + gap) * math.log1p(-1 / (1 + gap)) - math.log(gap)

    low, high = -20.0, 20.0
    for _ in range(100):
        third = (high - low) / 3
        low, high = (low, high - third) if at(low + third) < at(high - third) else (low + third, high)
    return at(low)

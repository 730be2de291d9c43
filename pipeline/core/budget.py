"""The accountant: what a release costs in zCDP, how much noise that buys, and where the threshold of open cells lies.

Sources: zero-concentrated differential privacy and its conversion (Bun and Steinke 2016; Canonne, Kamath and
Steinke 2020, proposition 7); the threshold for values that come from the data (Desfontaines, Voss, Gipson and
Mandayam 2022, and DP-SQLP). Every figure is derived from ρ; none is copied.
"""

import math
from collections.abc import Iterable, Iterator
from statistics import NormalDist
from typing import NamedTuple

import msgspec

from pipeline.core.ledger import Ledger, months_of
from pipeline.core.policy import Policy
from pipeline.core.release import Measure
from pipeline.core.statistics import Plan
from pipeline.core.windows import Kind, Window

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


class Charge(NamedTuple):
    """One measure of one statistic in all windows of a kind that touch a month.

    ``moved``: how many of its cells one subject changes in one window, the total not included.
    """

    statistic: str
    measure: Measure
    kind: Kind
    windows: int
    moved: int
    price: Price


class Guarantee(NamedTuple):
    """What everything released of so many months costs one subject."""

    rho: float
    epsilon: float
    delta: float


class OverBudget(ValueError):
    """A subject's month would cost more than the policy's cap, or something is asked for that the policy has not."""


class Accountant:
    """Prices of every release under one policy. Raises :class:`OverBudget` when a subject's month is not covered."""

    def __init__(self, policy: Policy, plan: Plan) -> None:
        self.policy = policy
        self.plan = plan
        self.rho_month = math.fsum(charge.windows * charge.price.rho for charge in self.charges())
        # Half of δ is for the conversion, half for the thresholds of all the windows that touch a month and have any.
        # δ = 1 has no thresholds.
        delta = policy.budget.delta
        guarded = [k for k in plan.kinds if any(map(plan.open, plan.of(k).values()))]
        self.delta_window = delta / 2 / (sum(PER_MONTH[k] for k in guarded) or 1) if delta < 1 else 1.0
        self.epsilon_month = epsilon(self.rho_month, delta / 2)
        self.rho_cap = largest_rho(policy.budget.max_epsilon, delta / 2)
        if self.epsilon_month > policy.budget.max_epsilon:
            raise OverBudget(
                f"a subject's month costs epsilon {self.epsilon_month:.2f}, "
                f"the policy allows {policy.budget.max_epsilon:g}: "
                "lower rho in [budget], or raise max_epsilon and announce it"
            )

    def charges(self) -> Iterator[Charge]:
        """Everything that one subject's month pays for."""
        for kind in self.plan.kinds:
            for name, statistic in self.plan.of(kind).items():
                for measure in statistic.measures:
                    price = self.price(name, measure, kind)
                    yield Charge(name, measure, kind, PER_MONTH[kind], statistic.moved(kind), price)

    def guarantee(self, months: int = 1) -> Guarantee:
        """What so many months in a row cost a subject of all of them: ρ and the thresholds' δ add up, and the
        conversion's δ is spent once.
        """
        rho, delta = months * self.rho_month, self.policy.budget.delta
        return Guarantee(rho, epsilon(rho, delta / 2), min(1.0, (months + 1) * delta / 2))

    def cover(self, window: Window, names: Iterable[str], ledger: Ledger) -> None:
        """Charges the named statistics of a window to the ledger, or raises :class:`OverBudget` and charges nothing.

        What was released before counts, under whatever policy: nothing is drawn before this has said yes.
        """
        known = self.plan.of(window.kind)
        wanted = list(names)
        if missing := [name for name in wanted if name not in known]:
            raise OverBudget(
                f"{window.name}: {', '.join(missing)} is no statistic of a {window.kind} under this policy; nothing "
                "was released: declare it in the file of statistics and restart"
            )
        rho = math.fsum(self.price(name, m, window.kind).rho for name in wanted for m in known[name].measures)
        for month in months_of(window):
            after = ledger.rho(month) + rho
            if after > self.rho_cap * (1 + 1e-9):  # sums in another order differ in the last digits
                raise OverBudget(
                    f"{window.name} would bring what a subject of {month:%B %Y} has paid to rho {after:.4g}, "
                    f"the policy allows {self.rho_cap:.4g} (epsilon {self.policy.budget.max_epsilon:g}); "
                    "nothing was released: take back what was added to the policy or the statistics since "
                    "the month began, or raise max_epsilon and announce it"
                )
        ledger.charge(window, rho, len(wanted))

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


def largest_rho(eps: float, delta: float) -> float:
    """The inverse of :func:`epsilon`: the largest ρ for which ρ-zCDP implies (ε, δ).

    >>> round(largest_rho(6.0, 5e-10), 4)
    0.4218
    """
    if eps == math.inf:
        return math.inf
    low, high = 0.0, 5_000.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _log_delta(middle, eps) <= math.log(delta) else (low, middle)
    return low


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

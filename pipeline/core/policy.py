"""The policy: what the company decided to spend, and when windows close."""

from datetime import date

import msgspec

from pipeline.core.windows import Kind


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """ρ (zCDP) of everything released of one window, by kind; δ and the cap on ε of a subject's whole month.

    ``bounded = false`` lifts every bound on a subject: with it nobody is protected, and counts are those of all events.
    """

    day: float
    week: float
    month: float
    delta: float
    max_epsilon: float
    events_share: float
    bounded: bool = True

    def __post_init__(self) -> None:
        if min(self.day, self.week, self.month) <= 0 or not 0 < self.delta <= 1 or not 0 < self.events_share < 1:
            raise ValueError("every rho is over 0, delta is in (0, 1] and events_share in (0, 1)")

    def rho(self, kind: Kind) -> float:
        return {"day": self.day, "week": self.week, "month": self.month}[kind]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """All of ``schemas/policy.toml`` (the file explains the keys)."""

    version: str
    effective: date
    contact: str
    timezone: str
    lateness_hours: float
    future_minutes: float
    budget: Budget

    @property
    def lateness(self) -> float:
        """Seconds from a window's end to its closing."""
        return self.lateness_hours * 3600

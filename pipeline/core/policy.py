"""The policy: what the company decided to spend, and when windows close."""

import math
from datetime import date

import msgspec

from pipeline.core.windows import Calendar, Kind

MECHANISM = "discrete_gaussian"  # the accountant, the threshold and the bounds are worked out for it


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """ρ (zCDP) of everything released of one window, by kind; δ and the cap on ε of a subject's whole month.

    ``mechanism``: where the noise comes from; there is one.
    ``bounded = false`` lifts every bound on a subject: with it nobody is protected, and counts are those of all events.
    """

    day: float
    week: float
    month: float
    delta: float
    max_epsilon: float
    events_share: float
    bounded: bool = True
    mechanism: str = MECHANISM

    def __post_init__(self) -> None:
        if self.mechanism != MECHANISM:
            raise ValueError(f'there is no such mechanism: write mechanism = "{MECHANISM}", or leave the line out')
        # Written so that nan is refused too.
        if not all(0 < rho < math.inf for rho in (self.day, self.week, self.month)):
            raise ValueError("every rho is over 0 and finite")
        if not (0 < self.delta <= 1 and 0 < self.events_share < 1 and self.max_epsilon > 0):
            raise ValueError("delta is in (0, 1], events_share in (0, 1), max_epsilon over 0")

    def rho(self, kind: Kind) -> float:
        return {"day": self.day, "week": self.week, "month": self.month}[kind]


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of ``schemas/policy.toml`` (the file explains the keys)."""

    version: str
    effective: date
    contact: str
    timezone: str
    lateness_hours: float
    future_minutes: float
    budget: Budget

    def __post_init__(self) -> None:
        if not (0 <= self.lateness_hours < math.inf and 0 <= self.future_minutes < math.inf):
            raise ValueError("lateness_hours and future_minutes are 0 or more")
        try:
            Calendar(self.timezone)
        except (ValueError, OSError, KeyError):
            raise ValueError("timezone is a time zone, such as UTC or Europe/Amsterdam") from None

    @property
    def lateness(self) -> float:
        """Seconds from a window's end to its closing."""
        return self.lateness_hours * 3600

"""What an attack found: a figure beside a bound, how often it was tried, and what follows."""

from collections.abc import Callable
from typing import Literal

import msgspec

Report = Callable[[int, int], None]  # done, of


def no_report(done: int, of: int) -> None:
    """For where nobody looks."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one attack.

    ``tried``: what, in a sentence. ``n``: how often. ``sense``: whether the figure must stay at or under its bound, or
    reach it (where an attack shows that it would have seen something). ``lower``: the 95 % lower confidence bound of
    what the figure estimates; a count of what must never happen has 0. ``ok``: the verdict, drawn with a margin for
    sampling that is stated in ``docs/audit.md``, so that a false alarm is rarer than one run in 10,000.
    """

    attack: str
    tried: str
    n: int
    figure: float
    bound: float
    ok: bool
    lower: float = 0.0
    sense: Literal["at most", "at least"] = "at most"

    @property
    def verdict(self) -> str:
        """For people: what may be concluded, and at which size."""
        if not self.ok:
            return f"BROKEN at n = {self.n:,}, 95 % lower bound {self.lower:.4g}"
        return f"no violation found at n = {self.n:,}, 95 % lower bound {self.lower:.4g}"


class Line(msgspec.Struct, frozen=True):
    """One entry of ``audit.json``."""

    attack: str
    n: int
    figure: float
    bound: float
    ok: bool


def line(finding: Finding) -> Line:
    """What machines read of a finding."""
    return Line(finding.attack, finding.n, finding.figure, finding.bound, finding.ok)


def at_most(
    attack: str,
    tried: str,
    n: int,
    figure: float,
    bound: float,
    *,
    lower: float | None = None,
    sure: float | None = None,
) -> Finding:
    """A figure that must stay at or under its bound. ``sure``: what of the figure is beyond doubt; it decides."""
    decides = figure if sure is None else sure
    shown = decides if lower is None else lower
    return Finding(
        attack=attack,
        tried=tried,
        n=n,
        figure=float(figure),
        bound=bound,
        ok=bool(decides <= bound),
        lower=float(shown),
    )


def at_least(attack: str, tried: str, n: int, figure: float, bound: float, *, lower: float | None = None) -> Finding:
    """A figure that must reach its bound: the attack has power."""
    return Finding(
        attack=attack,
        tried=tried,
        n=n,
        figure=float(figure),
        bound=bound,
        ok=bool(figure >= bound),
        lower=float(figure if lower is None else lower),
        sense="at least",
    )

"""A1: the mechanism alone. What the accountant's σ and the sampler make of one subject, there or not.

The test is the likelihood-ratio test at its midpoint, which is the best one between two discrete Gaussians a distance
apart. μ is taken at σ = Δ = 20 and not at 1: between integers the discrete Gaussian's errors are those of μ·(1 +
1/24σ²), 4 % over μ at σ = 1 (zCDP, which is what is accounted, is the same), and a hundredth of a percent at 20.
"""

import math
from collections import Counter
from collections.abc import Iterator

from pipeline.audit.estimates import DOUBT, discrete_gaussian, misfit, mu_at_least, mu_of, mu_of_errors
from pipeline.audit.findings import Finding, Report, at_least, at_most
from pipeline.noise import OpenDPNoise
from pipeline.testing import declarations

BOUND = 20  # Δ, so that σ is 20 and μ is 1
AT_ONCE = 10_000
FIT = 4.8  # standard deviations: one run in 10⁶ on either side

DECLARED = f"""
version = "audit"
[statistics.by_platform]
description = "Events by platform; of a budget of which one half is paid for a cell."
dimensions = ["platform"]
measures = ["users", "events"]
max_cells = 1
max_events = {BOUND}
windows = ["day"]
"""


def run(n: int, _: int, report: Report) -> Iterator[Finding]:
    """``n`` draws a side. The seed has no say in noise."""
    declared = declarations(statistics=DECLARED, day=1.0, events_share=0.5, max_epsilon=1e6)
    price = declared.accountant.price("by_platform", "events", "day")
    mu = mu_of(0.5)  # half of ρ = 1 is for events, of which a subject has one cell
    noise = OpenDPNoise()
    sides: list[Counter[int]] = []
    for there in (0, BOUND):
        seen: Counter[int] = Counter()
        for start in range(0, n, AT_ONCE):
            seen.update(noise.add([there] * min(AT_ONCE, n - start), price.sigma))
            report(start + there // BOUND * n, 2 * n)
        sides.append(seen)
    absent, present = sides
    middle = BOUND / 2
    wrong = (
        sum(count for value, count in absent.items() if value >= middle),
        sum(count for value, count in present.items() if value < middle),
    )
    figure = mu_of_errors(wrong[0] / n, wrong[1] / n)
    lower = mu_at_least(*wrong, n, 0.05)
    tried = f"draws a side at σ = {price.sigma:g}, Δ = {price.bound}; guess by the midpoint"
    allowed = mu * (1 + 1 / 24 / price.sigma**2)
    yield at_most("A1 mechanism: mu", tried, n, figure, allowed, lower=lower, sure=mu_at_least(*wrong, n, DOUBT))
    # The lower bound lies 5.1/√n under μ, with a standard deviation of 1.9/√n: 0.98 from half a million draws on.
    enough = min(0.98, 1 - 13.7 / math.sqrt(n)) * mu
    yield at_least("A1 mechanism: power", "the same; its 95 % lower bound of μ", n, lower, enough, lower=lower)
    moved = Counter({value - BOUND: count for value, count in present.items()})
    fit = misfit(absent + moved, discrete_gaussian(price.sigma))
    yield at_most(
        "A1 mechanism: fit",
        f"χ² of {2 * n:,} draws against the discrete Gaussian, in standard deviations",
        2 * n,
        abs(fit),
        FIT,
    )
    whole = sum(type(value) is not int for value in absent | present)
    yield at_most("A1 mechanism: integers", "draws that are no integers", 2 * n, whole, 0)

"""A3: values that one subject alone has, in open dimensions. And whether a cell is shown by its noisy users alone.

At the shipped δ none of a million may be seen. At a raised δ some are, at a rate that can be measured and must stay
under its bound. And cells of every size, from 1 user to over the threshold, are shown as often as noise alone would
show them: a test of the true count against some k would show one size always and the next never.
"""

import math
from collections.abc import Iterator
from datetime import date

from pipeline.audit.estimates import (
    DOUBT,
    at_least_so_many,
    at_most_so_many,
    discrete_gaussian,
    rate_at_least,
    rate_at_most,
)
from pipeline.audit.findings import Finding, Report, at_least, at_most
from pipeline.audit.worlds import Kept, by_day, declaring, line, records, released, tallied, word
from pipeline.declarations import Declarations
from pipeline.noise import OpenDPNoise
from pipeline.testing import declarations
from pipeline.testing import run as count

SINCE, UNTIL = date(2026, 5, 5), date(2026, 5, 6)
TIME = "2026-05-05T12:00:00Z"
AT_ONCE = 20_000  # subjects of one world
RAISED = 0.5  # δ of the month; a window's is a 76th of it
HELD = 3  # unique values of one subject, at the raised δ
TIMES = 200  # releases of cells of every size
BOTH = declaring(by_day("feature", events=5), by_day("app_version"))  # two open dimensions


def run(n: int, _: int, report: Report) -> Iterator[Finding]:
    """``n`` values of one subject each. The seed has no say: everything here is counted."""
    shown, bound = alone(n, report)
    expected = n * bound
    tried = f"values of one subject alone, in two open dimensions (expected: {expected:.2g}); released"
    yield at_most("A3 uniques: released", tried, n, shown, 0, lower=rate_at_least(shown, n, 0.05))
    subjects = max(2_000, n // 10)
    seen, delta, due = raised(subjects)
    rate = seen / subjects
    lower, sure = (rate_at_least(seen, subjects, doubt) for doubt in (0.05, DOUBT))
    tried = f"subjects with {HELD} values of their own of whom any is shown, δ raised to {delta:.4f} a window"
    yield at_most("A3 uniques: rate at a raised delta", tried, subjects, rate, delta, lower=lower, sure=sure)
    upper = rate_at_most(seen, subjects, DOUBT)
    tried = f"the same; upper bound of the rate beside {due:.4f}, which noise alone gives"
    yield at_least("A3 uniques: power", tried, subjects, upper, due, lower=rate)
    sizes, least = every_size()
    tried = (
        f"cells of 1 to {sizes} users, released {TIMES} times: least likely number of showings, as -log10 of its chance"
    )
    yield at_most("A3 uniques: shown by noisy users", tried, sizes * TIMES, least, -math.log10(DOUBT))


def alone(n: int, report: Report) -> tuple[int, float]:
    """How many of ``n`` values that one subject alone has are released, and the chance of each."""
    declared = declarations(statistics=BOTH)
    shown, subjects = 0, n // 2
    for start in range(0, subjects, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, subjects))
        lines = [
            line(f"u-{i}", TIME, i, feature=f"v.{word(i)}", app_version=f"{i // 10_000}.{i % 10_000}") for i in numbers
        ]
        result = count(declared, records(lines), noise=OpenDPNoise(), since=SINCE, until=UNTIL)
        shown += sum(len(release.cells) for release in result.releases)
        report(2 * numbers[-1] + 2, n)
    return shown, chance(declared, "by_feature")


def chance(declared: Declarations, name: str, users: int = 1) -> float:
    """The probability with which noise alone shows a cell of so many users."""
    threshold = declared.accountant.threshold(name, "day") or 0.0
    sigma = declared.accountant.price(name, "users", "day").sigma
    return math.fsum(p for z, p in discrete_gaussian(sigma).items() if users + z >= threshold)


def raised(subjects: int) -> tuple[int, float, float]:
    """How many subjects have a value of their own shown at a raised δ; that δ; and the rate that noise alone gives."""
    declared = declarations(statistics=declaring(by_day("feature", cells=HELD)), delta=RAISED)
    owners: set[int] = set()
    for start in range(0, subjects, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, subjects))
        lines = [
            line(f"u-{i}", TIME, f"{i}/{j}", feature=f"v.{word(HELD * i + j)}") for i in numbers for j in range(HELD)
        ]
        owner: dict[tuple[str, ...], int] = {(f"v.{word(HELD * i + j)}",): i for i in numbers for j in range(HELD)}
        result = count(declared, records(lines), noise=OpenDPNoise(), since=SINCE, until=UNTIL)
        owners |= {owner[cell] for release in result.releases for cell in release.cells}
    return len(owners), declared.accountant.delta_window, 1 - (1 - chance(declared, "by_feature")) ** HELD


def every_size() -> tuple[int, float]:
    """The largest size of a cell, and −log10 of the least likely number of showings, over all sizes."""
    declared = declarations(statistics=declaring(by_day("feature")))
    sizes = math.ceil(2 * (declared.accountant.threshold("by_feature", "day") or 0.0))
    lines = [
        line(f"u-{size}-{i}", TIME, f"{size}/{i}", feature=f"s.{word(size)}")
        for size in range(1, sizes + 1)
        for i in range(size)
    ]
    shown = dict.fromkeys(range(1, sizes + 1), 0)
    size_of: dict[tuple[str, ...], int] = {(f"s.{word(size)}",): size for size in shown}
    keys, noise = Kept(), OpenDPNoise()
    tallies = tallied(declared, records(lines), keys, SINCE, UNTIL)
    for _ in range(TIMES):
        for release in released(declared, tallies, keys, noise):
            for cell in release.cells:
                shown[size_of[cell]] += 1
    least = 1.0
    for size, times in shown.items():
        due = chance(declared, "by_feature", size)
        least = min(least, at_least_so_many(times, TIMES, due), at_most_so_many(times, TIMES, due))
    return sizes, -math.log10(min(1.0, max(least * 2 * sizes, 1e-300)))

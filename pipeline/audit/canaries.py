"""A2: the whole stack, attacked in one run. Broker, worker, three hops, log, projector, file; then guesses from the
file.

One-run auditing (Steinke, Nasr and Jagielski 2023; for f-DP Mahloujifar, Melis and Chaudhuri 2024). Every canary is a
subject that a fair coin puts in or leaves out, with a declared cell to itself, and who spends the whole of what the
policy grants a subject in August 2026: 31 days, 6 weeks and the month. For each, the likelihood ratio of all that was
released of its cell makes a guess. Cells are disjoint and their noise is independent, so the right guesses are
binomial; under μ-GDP each is right with probability Φ(μ/2) at most, whatever else is known. Power: the same μ,
reached to within the sampling.
"""

import math
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np

from pipeline.audit.estimates import DOUBT, mu_of, mu_of_guesses, rate_at_least
from pipeline.audit.findings import Finding, Report, at_least, at_most
from pipeline.audit.worlds import line, word
from pipeline.declarations import read_declarations
from pipeline.replay import replay
from pipeline.settings import Settings

SINCE, UNTIL = date(2026, 8, 1), date(2026, 9, 1)  # of all months the one with most windows

FIELDS = """
version = "audit"
types = ["usage.feature.used.v1"]
[fields.nest]
kind = "catalogue"
values = [{values}]
required = true
purpose = "a cell for each canary"
sensitivity = "none: invented"
generalisation = "none"
owner = "audit"
until = 2099-12-31
"""
STATISTICS = """
version = "audit"
[statistics.by_nest]
description = "Canaries."
dimensions = ["nest"]
measures = ["users", "events"]
max_cells = 1
max_events = 1
"""


def run(n: int, seed: int, report: Report) -> Iterator[Finding]:
    """``n`` canaries."""
    random = np.random.default_rng((seed, 2))
    inside = random.random(n) < 0.5
    with TemporaryDirectory(prefix="headcount-audit-") as name:
        directory = Path(name)
        settings = declare(directory, n)
        events = directory / "events.ndjson"
        sent = write(events, inside, random)
        done = 0

        def forward(stage: str, so_far: int, _: int | None) -> None:
            nonlocal done
            done = max(done, so_far if stage == "sent" else sent)
            report(done, sent)

        summary = replay([events], directory / "out", settings, report=forward)
        rho = read_declarations(settings, SINCE).accountant.rho_month
        score, middle = scores(directory / "out" / "statistics.duckdb", n)
    right = int(((score > middle) == inside).sum())
    mu, figure = mu_of(rho), mu_of_guesses(right / n)
    lower, sure = (mu_of_guesses(rate_at_least(right, n, doubt)) for doubt in (0.05, DOUBT))
    tried = f"canaries, {sent:,} events through broker, worker and projector; μ of {right:,} right guesses"
    yield at_most("A2 whole stack: mu", tried, n, figure, mu, lower=lower, sure=sure)
    tried = "the same; that lower bound beside 0.8 μ"
    yield at_least("A2 whole stack: power", tried, n, lower, 0.8 * mu, lower=lower)
    yield at_most(
        "A2 whole stack: events lost",
        "events neither accepted nor rejected",
        sent,
        lost(summary.events_in - summary.accepted, summary.rejected),
        0,
    )


def lost(missing: int, rejected: dict[str, int]) -> int:
    """How many events have no outcome, or one that they should not have."""
    return abs(missing - sum(rejected.values())) + sum(rejected.values())


def declare(directory: Path, n: int) -> Settings:
    """The shipped policy over one statistic with a cell for each canary."""
    values = ", ".join(f'"{word(place)}"' for place in range(n))
    fields, statistics = directory / "fields.toml", directory / "statistics.toml"
    fields.write_text(FIELDS.format(values=f'{values}, "other"'))
    statistics.write_text(STATISTICS)
    return Settings(fields=fields, statistics=statistics, since=SINCE.isoformat(), until=UNTIL.isoformat())


def write(path: Path, inside: "np.ndarray[tuple[int], np.dtype[np.bool_]]", random: np.random.Generator) -> int:
    """One event a day of each canary that is in, days and subjects mixed; gives how many there are."""
    times = [f"{SINCE + timedelta(days=day)}T12:00:00Z" for day in range((UNTIL - SINCE).days)]
    who = np.flatnonzero(inside)
    order = random.permutation(len(who) * len(times))
    with path.open("wb") as file:
        for place in order.tolist():
            canary, day = int(who[place // len(times)]), place % len(times)
            file.write(line(f"canary-{canary}", times[day], place, nest=word(canary)) + b"\n")
    return len(order)


def scores(path: Path, n: int) -> "tuple[np.ndarray[tuple[int], np.dtype[np.float64]], float]":
    """Per canary the sum of all its released numbers, each by its precision; and that sum's middle of in and out."""
    place = {word(canary): canary for canary in range(n)}
    score, middle = np.zeros(n), 0.0
    with duckdb.connect(str(path), read_only=True) as connection:
        variances = connection.execute("SELECT release, sigma * sigma FROM released.measure").fetchall()
        middle = math.fsum(0.5 / variance for _, variance in variances)
        query = """
            SELECT CAST(c.nest AS VARCHAR), sum(c.users / u.sigma ** 2 + c.events / e.sigma ** 2)
            FROM released.by_nest AS c
            JOIN released.measure AS u ON u.release = c.release AND u.measure = 'users'
            JOIN released.measure AS e ON e.release = c.release AND e.measure = 'events'
            GROUP BY ALL
        """
        for value, evidence in connection.execute(query).fetchall():
            if value in place:
                score[place[value]] = evidence
    return score, middle

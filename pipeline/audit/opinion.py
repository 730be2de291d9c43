"""A6: singling out, linkability and inference, as the Article 29 Working Party's opinion 05/2014 (WP216) names them.

Scored as Anonymeter does (Giomi, Boenisch, Wehmeyer and Tasnádi 2023): an attacker who has all releases guesses about
people who are in them, and about as many of the same kind who are not (the control); risk is by how much the first
succeeds more often, (a − c)/(1 − c), with Wilson intervals; a naive guesser, who has no release, shows whether the
attack tries anything. What is learnt about everybody alike (a feature is popular on a platform) is no risk to anyone,
and is what statistics are for. :mod:`~pipeline.audit.linking` is the last of A6.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product

import numpy as np

from pipeline.audit.estimates import wilson
from pipeline.audit.findings import Finding, Report, at_most
from pipeline.audit.linking import linking
from pipeline.audit.worlds import line, records
from pipeline.core.release import Release
from pipeline.core.releasing import Noise
from pipeline.declarations import Declarations
from pipeline.noise import OpenDPNoise
from pipeline.testing import declarations
from pipeline.testing import run as count

SINCE, UNTIL = date(2026, 5, 5), date(2026, 5, 6)
LIMIT = 0.05  # of the upper end of a 95 % interval
CANDIDATES = 10  # among whom one is linked

PLATFORMS = ("ios", "android", "web", "windows", "macos", "linux")
VERSIONS = tuple(f"{major}.{minor}" for major, minor in product(range(1, 7), range(5)))
FEATURES = tuple(f"feature.{letter}{other}" for letter, other in product("abcdef", "uvwxyz"))
COUNTRIES = ("AT", "BE", "CH", "DE", "DK", "ES", "FI", "FR", "GB", "IE", "IT", "LU", "NL", "NO", "PL", "PT", "SE", "US")
DURATIONS = (500, 5_000, 30_000, 300_000, 900_000)


@dataclass(frozen=True)
class Person:
    """What one person did on the day, and with what; no statistic has the country."""

    platform: str
    version: str
    feature: str
    duration: int
    country: str


def people(n: int, random: np.random.Generator) -> list[Person]:
    """People of one kind: few values are common and many rare; features go with platforms, durations with features."""

    def skewed(size: int, turned: int = 0) -> int:
        return int(min(random.zipf(1.6) - 1, size - 1) + turned) % size

    found = []
    for _ in range(n):
        platform, version = skewed(len(PLATFORMS)), skewed(len(VERSIONS))
        feature = skewed(len(FEATURES), 5 * platform)
        duration, country = skewed(len(DURATIONS), feature), skewed(len(COUNTRIES))
        found.append(
            Person(PLATFORMS[platform], VERSIONS[version], FEATURES[feature], DURATIONS[duration], COUNTRIES[country])
        )
    return found


def run(n: int, seed: int, report: Report) -> Iterator[Finding]:
    """``n`` people in the releases, as many who are not, and one guess about each."""
    yield from attack(declarations(), OpenDPNoise(), n, seed, report)
    yield from linking(n // 10, seed)


def attack(declared: Declarations, noise: Noise, n: int, seed: int, report: Report) -> Iterator[Finding]:
    """The three attacks on what these declarations and this noise release."""
    random = np.random.default_rng((seed, 6))
    inside, outside = people(n, random), people(n, random)
    lines = [
        line(
            f"u-{i}",
            "2026-05-05T12:00:00Z",
            i,
            feature=p.feature,
            platform=p.platform,
            app_version=p.version,
            duration_ms=p.duration,
            country=p.country,
        )
        for i, p in enumerate(inside)
    ]
    known = Known(count(declared, records(lines), noise=noise, since=SINCE, until=UNTIL).releases, declared)
    for number, (name, guesses) in enumerate(
        (
            ("singling out", singling_out(known, inside, outside, random)),
            ("linkability", linkability(known, inside, outside, random)),
            ("inference", inference(known, inside, outside, random)),
        )
    ):
        yield from scored(name, *guesses)
        report(number + 1, 3)


class Known:
    """What the attacker makes of the day's releases: noisy shares of cells, none under a user."""

    def __init__(self, releases: Sequence[Release], declared: Declarations) -> None:
        self.shares: dict[str, dict[tuple[str, ...], float]] = {}
        for release in releases:
            if release.window == "day":
                cells = zip(release.cells, release.values[0], strict=True)
                self.shares[release.statistic] = {cell: max(float(value), 1.0) for cell, value in cells}
        amount = declared.registry.fields["duration_ms"]
        self.bucket = {d: amount.labels[max(i for i, edge in enumerate(amount.edges) if edge <= d)] for d in DURATIONS}

    def of(self, statistic: str, *cell: str) -> float:
        """How many users the cell has; half a one where it is not shown."""
        return self.shares.get(statistic, {}).get(cell, 0.5)

    def drawn(self, statistic: str, n: int, random: np.random.Generator) -> list[tuple[str, ...]]:
        """Cells at random, the fewer users the likelier."""
        cells = self.shares.get(statistic, {})
        if not cells:
            return [("", "")] * n
        weights = np.array([1 / value for value in cells.values()])
        names = list(cells)
        return [names[int(place)] for place in random.choice(len(names), size=n, p=weights / weights.sum())]

    def single(self) -> Iterator[tuple[str, ...]]:
        """The open cells that seem to have one user."""
        for statistic in ("feature_use", "active_users_by_app_version"):
            yield from (cell for cell, value in self.shares.get(statistic, {}).items() if value == 1)

    def predicate(self, cell: tuple[str, ...]) -> "Predicate":
        """Who is in the cell."""
        return (cell[0], cell[1], None, None, None) if len(cell) == 2 else (None, None, cell[0], None, None)

    def fulfilled(self, group: list[Person]) -> Counter["Predicate"]:
        """How many people fulfil each predicate of the forms that are guessed."""
        found: Counter[Predicate] = Counter()
        for p in group:
            found[p.feature, p.platform, p.version, self.bucket[p.duration], p.country] += 1
            found[p.feature, p.platform, None, None, None] += 1
            found[None, None, p.version, None, None] += 1
        return found


Predicate = tuple[str | None, str | None, str | None, str | None, str | None]
"""Feature, platform, version, duration, country; ``None``: any."""
Guesses = tuple[int, int, int, int]  # right inside, right outside, right without releases, of how many


def singling_out(known: Known, inside: list[Person], outside: list[Person], random: np.random.Generator) -> Guesses:
    """Predicates that exactly one person fulfils: cells of one user, if any is shown, and conjunctions of rare ones."""
    n = len(inside)
    guesses: set[Predicate] = {known.predicate(cell) for cell in known.single()}
    naive: set[Predicate] = set()
    for _ in range(20):  # at random until there are enough different ones
        countries = random.integers(len(COUNTRIES), size=n).tolist()
        drawn = (
            known.drawn(name, n, random)
            for name in ("feature_use", "active_users_by_app_version", "duration_by_feature")
        )
        for use, version, duration, country in zip(*drawn, countries, strict=True):
            if len(guesses) < n:
                guesses.add((use[0], use[1], version[0], duration[1], COUNTRIES[country]))
        any_value = (random.integers(len(v), size=n).tolist() for v in (FEATURES, PLATFORMS, VERSIONS, DURATIONS))
        for a, b, c, d, country in zip(*any_value, countries, strict=True):
            if len(naive) < len(guesses):
                naive.add((FEATURES[a], PLATFORMS[b], VERSIONS[c], known.bucket[DURATIONS[d]], COUNTRIES[country]))
    there, elsewhere = (known.fulfilled(group) for group in (inside, outside))
    return (
        sum(there[guess] == 1 for guess in guesses),
        sum(elsewhere[guess] == 1 for guess in guesses),
        sum(there[guess] == 1 for guess in naive),
        len(guesses),
    )


def linkability(known: Known, inside: list[Person], outside: list[Person], random: np.random.Generator) -> Guesses:
    """Who, of ten, is the one whose other half of a record this is? (platform, version) to (feature, duration)."""

    def right(group: list[Person], *, with_releases: bool) -> int:
        found = 0
        strangers = random.integers(len(group), size=(len(group), CANDIDATES - 1))
        ties = random.random((len(group), CANDIDATES))
        for person, others, tie in zip(group, strangers.tolist(), ties, strict=True):
            candidates = [person, *(group[other] for other in others)]
            likely = [
                known.of("feature_use", c.feature, person.platform)
                / sum(known.of("feature_use", c.feature, p) for p in PLATFORMS)
                if with_releases
                else 0.0
                for c in candidates
            ]
            found += max(range(CANDIDATES), key=lambda place: (likely[place], tie[place])) == 0
        return found

    return (
        right(inside, with_releases=True),
        right(outside, with_releases=True),
        right(inside, with_releases=False),
        len(inside),
    )


def inference(known: Known, inside: list[Person], outside: list[Person], random: np.random.Generator) -> Guesses:
    """The feature that a person used, from all else: platform, version and duration."""
    best: dict[tuple[str, int], str] = {}
    for platform, duration in product(PLATFORMS, DURATIONS):
        best[platform, duration] = max(
            FEATURES,
            key=lambda f: (
                known.of("feature_use", f, platform) * known.of("duration_by_feature", f, known.bucket[duration])
            ),
        )
    naive = [FEATURES[place] for place in random.integers(len(FEATURES), size=len(inside)).tolist()]
    a, c = (sum(best[p.platform, p.duration] == p.feature for p in group) for group in (inside, outside))
    return a, c, sum(p.feature == guess for p, guess in zip(inside, naive, strict=True)), len(inside)


def scored(name: str, right: int, control: int, naive: int, n: int) -> Iterator[Finding]:
    """The upper end of the risk's interval, and whether the attack beats a guesser without releases."""
    risk, width = risk_of(right, control, n)
    rates = f"right {right / n:.3f}, control {control / n:.3f}, naive {naive / n:.3f}"
    tried = f"guesses; {rates}; upper 95 % limit of the risk"
    yield at_most(f"A6 WP216: {name}", tried, n, risk + width, LIMIT, lower=max(0.0, risk - width))


def risk_of(right: int, control: int, n: int) -> tuple[float, float]:
    """(a − c)/(1 − c) and the half width of its 95 % interval, as Anonymeter propagates Wilson's.

    >>> tuple(round(x, 3) for x in risk_of(600, 200, 1000))
    (0.499, 0.041)
    """
    (a, da), (c, dc) = wilson(right, n), wilson(control, n)
    return (a - c) / (1 - c), ((da / (1 - c)) ** 2 + ((a - 1) / (1 - c) ** 2 * dc) ** 2) ** 0.5

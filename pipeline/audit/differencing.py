"""A5: differences between numbers that were released apart: parent and cells, sibling statistics, days, week and
month.

The attacker knows everybody's events, and whether the target took part only from the releases. Each way of
subtracting is tried on fresh releases of a world with and of one without the target; no guess may beat a coin by more
than 2Φ(μ/2) − 1, where ρ = μ²/2 is what the windows cost. The last way is the likelihood ratio of all numbers at
once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import product
from math import sqrt

from pipeline.audit.estimates import DOUBT, advantage, mu_of, rate_at_least, rate_at_most
from pipeline.audit.findings import Finding, Report, at_least, at_most
from pipeline.audit.worlds import Kept, line, records, released, tallied
from pipeline.core.release import Release
from pipeline.core.windows import window_named
from pipeline.declarations import Declarations
from pipeline.noise import OpenDPNoise
from pipeline.testing import NoNoise, declarations

SINCE, UNTIL = date(2026, 4, 27), date(2026, 5, 4)  # a week of two months
DAYS = tuple(f"day-2026-05-0{day}" for day in (1, 2, 3))
WEEK, MONTH = "week-2026-04-27", "month-2026-05-01"
WINDOWS = (*DAYS, WEEK, MONTH)
OTHERS = 250  # enough that cells are shown

Place = tuple[str, str, str, tuple[str, ...] | None]  # statistic, window, measure, cell (None: the total)
Numbers = dict[Place, float]


@dataclass(frozen=True)
class Way:
    """A linear combination of released numbers; a cell that is not shown counts as the attacker knows the others."""

    name: str
    of: Callable[[Place, float, float], float]  # place, change by the target, σ → weight


def _in(statistic: str, measure: str, *windows: str) -> Callable[[Place], bool]:
    return lambda place: place[0] == statistic and place[2] == measure and place[1] in windows


def _signed(plus: Callable[[Place], bool], minus: Callable[[Place], bool]) -> Callable[[Place, float, float], float]:
    return lambda place, _, __: float(plus(place)) - float(minus(place))


def _total(measure: str, window: str) -> Callable[[Place], bool]:
    return lambda place: place == ("feature_use", window, measure, None)


def _cells(measure: str, window: str) -> Callable[[Place], bool]:
    return lambda place: place[:3] == ("feature_use", window, measure) and place[3] is not None


WAYS = (
    Way("total alone", _signed(_total("events", DAYS[0]), lambda _: False)),
    Way("total less cells", _signed(_total("events", DAYS[0]), _cells("events", DAYS[0]))),
    Way(
        "parent less siblings",
        _signed(_in("active_users", "users", DAYS[0]), _in("active_users_by_platform", "users", DAYS[0])),
    ),
    Way("week less days", _signed(_in("active_users", "users", WEEK), _in("active_users", "users", *DAYS))),
    Way("month less week", _signed(_in("active_users", "users", MONTH), _in("active_users", "users", WEEK))),
    Way("everything at once", lambda _, change, sigma: change / sigma**2),
)


def run(n: int, seed: int, report: Report) -> Iterator[Finding]:
    """``n`` releases a side."""
    declared = declarations()
    keys = Kept(f"{seed}")
    only = {window_named(name) for name in WINDOWS}
    others = list(crowd())
    target = list(deeds("target", 3))
    sides = [tallied(declared, records(lines), keys, SINCE, UNTIL) for lines in (others, others + target)]
    # What the attacker knows: every exact number with and without the target, and every σ.
    absent, present = (exact(released(open_to_all(), tallies, keys, NoNoise(), only)) for tallies in sides)
    sigma = sigmas(released(open_to_all(), sides[1], keys, NoNoise(), only))
    change = {place: present[place] - absent.get(place, 0.0) for place in present}
    weights = {way.name: {p: w for p in present if (w := way.of(p, change[p], sigma[p]))} for way in WAYS}
    noise = OpenDPNoise()
    right = {way.name: [0, 0] for way in WAYS}
    for trial, there in product(range(n), (0, 1)):
        numbers = exact(released(declared, sides[there], keys, noise, only))
        for name, each in weights.items():
            told, middle = 0.0, 0.0
            for place, weight in each.items():
                told += weight * (
                    numbers.get(place, absent.get(place, 0.0) + change[place] / 2) - absent.get(place, 0.0)
                )
                middle += weight * change[place] / 2
            said = told > middle if middle >= 0 else told < middle
            right[name][there] += said == bool(there)
        report(2 * trial + there + 1, 2 * n)
    mu = mu_of(sum(declared.policy.budget.rho(window.kind) for window in only))
    bound = advantage(mu)
    for way in WAYS:
        no, yes = right[way.name]
        figure = yes / n + no / n - 1
        lower, sure = (beaten(yes, no, n, doubt) for doubt in (0.05, DOUBT / len(WAYS)))
        tried = f"releases a side of {len(WINDOWS)} windows; advantage over a coin"
        yield at_most(f"A5 differencing: {way.name}", tried, n, figure, bound, lower=lower, sure=sure)
    reach = advantage(sqrt(sum(change[p] ** 2 / sigma[p] ** 2 for p in change)))
    upper = rate_at_most(right[WAYS[-1].name][1], n, DOUBT) + rate_at_most(right[WAYS[-1].name][0], n, DOUBT) - 1
    tried = "the same, everything at once; its upper bound beside 0.8 of what the target's changes should give away"
    yield at_least("A5 differencing: power", tried, n, upper, 0.8 * reach, lower=figure)


def beaten(yes: int, no: int, n: int, doubt: float) -> float:
    """A lower bound of the advantage."""
    return rate_at_least(yes, n, doubt / 2) + rate_at_least(no, n, doubt / 2) - 1


def crowd() -> Iterator[bytes]:
    """Everybody else: enough of them in two features that those are shown; one feature is nobody's but a few's."""
    for person in range(OTHERS):
        for day in ("2026-04-29", "2026-05-01", "2026-05-02"):
            yield line(f"u-{person}", f"{day}T10:00:00Z", f"{day}/{person}", **ordinary(person))


def ordinary(person: int) -> dict[str, object]:
    """What one of many does."""
    feature = "rare" if person % 50 == 0 else "search"
    return {"feature": feature, "platform": "web", "app_version": "1.0", "duration_ms": 5_000}


def deeds(subject: str, cells: int) -> Iterator[bytes]:
    """All that the target can be counted for: several cells, many events, on each day of May."""
    for day, cell, event in product(("2026-05-01", "2026-05-02", "2026-05-03"), range(cells), range(20)):
        feature = ("search", "rare", "own")[cell]
        yield line(
            subject,
            f"{day}T10:00:00Z",
            f"{day}/{cell}/{event}",
            feature=feature,
            platform="web",
            app_version="1.0",
            duration_ms=5,
        )


def open_to_all() -> Declarations:
    """The shipped declarations with nothing held back: what an attacker who knows everything knows."""
    return declarations(delta=1.0, max_epsilon=1e9)


def exact(releases: list[Release]) -> Numbers:
    """Every number of the releases, by its place."""
    numbers: Numbers = {}
    for r in releases:
        window = f"{r.window}-{r.start}"
        for place, measure in enumerate(r.measures):
            for cell, value in zip(r.cells, r.values[place], strict=True):
                numbers[r.statistic, window, measure.name, cell] = value
            if r.total is not None:
                numbers[r.statistic, window, measure.name, None] = r.total[place]
    return numbers


def sigmas(releases: list[Release]) -> Numbers:
    """The noise in every number of the releases, by its place."""
    known: dict[tuple[str, str, str], tuple[float, float | None]] = {
        (r.statistic, f"{r.window}-{r.start}", m.name): (m.sigma, m.total_sigma) for r in releases for m in r.measures
    }
    return {p: (known[p[:3]][1] or 1.0) if p[3] is None else known[p[:3]][0] for p in exact(releases)}

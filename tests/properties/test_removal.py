"""What a subject did can be taken away, and hardly anything shows it: within the bounds that the noise is made for."""

from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.audit.neighbours import try_world
from pipeline.core.release import Release
from pipeline.core.windows import KINDS, Kind, day_of
from pipeline.testing import MemoryKeyStore, NoNoise, Result, declarations, event, record, run

from .worlds import SHOW_ALL, SINCE, SUBJECTS, UNTIL, Event, events, examples

HEAVY = st.sampled_from((1, 7))  # how often each event is repeated: more than max_events in a cell


def counted(contents: Iterable[Event]) -> tuple[Result, NoNoise]:
    noise = NoNoise()
    result = run(SHOW_ALL, [record(*contents)], keys=MemoryKeyStore("removal"), noise=noise, since=SINCE, until=UNTIL)
    return result, noise


def often(contents: list[Event], n: int) -> list[Event]:
    return [each | {"id": f"{each['id']}/{i}"} for each in contents for i in range(n)]


def cells(release: Release, measure: int) -> Counter[tuple[str, ...]]:
    return Counter(dict(zip(release.cells, release.values[measure], strict=True)))


def differences(one: Release, other: Release, measure: int) -> list[int]:
    """By how much each cell differs, where it does; a cell that is not there counts 0."""
    a, b = cells(one, measure), cells(other, measure)
    return [abs(a[cell] - b[cell]) for cell in a | b if a[cell] != b[cell]]


@examples(30)
@given(events(most=25), HEAVY, st.sampled_from(SUBJECTS), st.sampled_from(["2026-04", "2026-05"]))
def test_removing_a_subjects_month_changes_few_cells_by_little(
    contents: list[Event], n: int, subject: str, month: str
) -> None:
    contents = often(contents, n)
    rest = [e for e in contents if e["subject"] != subject or not e["time"].startswith(month)]
    (all_of_them, _), (without, _) = counted(contents), counted(rest)

    assert [r.key for r in all_of_them.releases] == [r.key for r in without.releases]
    for one, other in zip(all_of_them.releases, without.releases, strict=True):
        statistic = SHOW_ALL.plan.statistics[one.statistic]
        for place, measure in enumerate(statistic.measures):
            price = SHOW_ALL.accountant.price(one.statistic, measure, one.window)
            changed = differences(one, other, place)
            assert len(changed) <= statistic.moved(one.window)
            assert all(difference <= price.bound for difference in changed)
            if one.total is not None and other.total is not None and price.total_bound is not None:
                assert abs(one.total[place] - other.total[place]) <= price.total_bound


@examples(20)
@given(events(most=25), st.sampled_from(SUBJECTS))
def test_removing_a_subject_changes_neither_declared_cells_nor_the_number_of_their_draws(
    contents: list[Event], subject: str
) -> None:
    remaining = [each for each in contents if each["subject"] != subject]
    (one, _), (other, _) = counted(contents), counted(remaining)
    declared = [
        [r.cells for r in result.releases if not SHOW_ALL.plan.open(SHOW_ALL.plan.statistics[r.statistic])]
        for result in (one, other)
    ]
    assert declared[0] == declared[1]
    noises = []
    for part in (contents, remaining):
        noises.append(NoNoise())
        run(DECLARED_CELLS, [record(*part)], noise=noises[-1], since=SINCE, until=UNTIL)
    assert noises[0].draws == noises[1].draws


DECLARED_CELLS = declarations(
    statistics="""
    version = "1"
    [statistics.by_platform]
    description = "d"
    dimensions = ["platform"]
    measures = ["users", "events"]
    max_cells = 1
    max_events = 3
    total = true
    [statistics.by_duration]
    description = "d"
    dimensions = ["duration_ms", "plan"]
    measures = ["users"]
    max_cells = 2
    """
)


@examples(20)
@given(events(least=1, most=25), st.data())
def test_removing_an_event_of_nobody_changes_one_cell_by_one(contents: list[Event], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(contents) - 1))
    contents[place]["subject"] = None
    (one, _), (other, _) = counted(contents), counted(contents[:place] + contents[place + 1 :])
    for a, b in zip(one.releases, other.releases, strict=True):
        for measure, name in enumerate(SHOW_ALL.plan.statistics[a.statistic].measures):
            changed = differences(a, b, measure)
            assert changed in ([[], [1]] if name == "events" else [[]])


def test_a_subject_that_does_everything_moves_no_more_than_the_bounds() -> None:
    quiet = [event(subject="u-2", feature="a", platform="ios", id="quiet")]
    busy = [
        event(
            subject="u-1",
            feature=f"f-{i % 30}",
            platform=("ios", "web")[i % 2],
            app_version=f"{i % 9}.1",
            duration_ms=10 ** (i % 7),
            id=f"{i}",
        )
        for i in range(900)
    ]
    (with_, _), (without, _) = counted(quiet + busy), counted(quiet)
    for kind in KINDS:
        moved: Counter[str] = Counter()
        for one, other in zip(with_.releases, without.releases, strict=True):
            if one.window == kind and one.start <= "2026-05-01" < one.end:
                for place, measure in enumerate(SHOW_ALL.plan.statistics[one.statistic].measures):
                    moved[measure] += len(differences(one, other, place))
                    if one.total is not None and other.total is not None:
                        moved[measure] += one.total[place] != other.total[place]
        # In a week one more is paid for: who has events in the other month too moves between two buckets.
        assert moved["users"] == SHOW_ALL.accountant.cells("users", kind) - (kind == "week") == 10
        assert moved["events"] == SHOW_ALL.accountant.cells("events", kind) == 4


# -- the unit of the guarantee is a subject's calendar month, and not all that the subject ever did


def one_statistic(kind: Kind) -> Any:
    return declarations(
        statistics=f"""
        version = "1"
        [statistics.by_platform]
        description = "d"
        dimensions = ["platform"]
        measures = ["users"]
        max_cells = 1
        windows = ["{kind}"]
        """
    )


def cost_of_a_month(kind: Kind, month: list[Event], rest: list[Event], seed: str, since: date, until: date) -> float:
    """ρ of taking the month away from what the subject did: Σ d²/2σ² over every number that changes."""
    declared = one_statistic(kind)
    sigma = declared.accountant.price("by_platform", "users", kind).sigma
    results = [
        run(declared, [record(*contents)], keys=MemoryKeyStore(seed), since=since, until=until)
        for contents in (month + rest, rest)
    ]
    pairs = zip(results[0].releases, results[1].releases, strict=True)
    return sum(d**2 for one, other in pairs for d in differences(one, other, 0)) / (2 * sigma**2)


# 6 ISO weeks touch November 2026, and the first and the last hold days of other months. If what is left of the subject
# there took the place of what was taken away, two cells would change where one is paid for.
def test_what_a_subject_did_in_one_month_costs_no_more_than_the_month() -> None:
    since, until = date(2026, 10, 26), date(2026, 12, 7)
    days = [since + timedelta(days=i) for i in range((until - since).days)]
    each = [
        event(subject="u-1", platform="web" if day.month == 11 else "ios", time=f"{day}T10:00:00Z", id=str(day_of(day)))
        for day in days
    ]
    month = [e for e in each if e["time"].startswith("2026-11")]
    rest = [e for e in each if not e["time"].startswith("2026-11")]
    for kind in KINDS:
        paid = one_statistic(kind).accountant.rho_month
        dearest = max(cost_of_a_month(kind, month, rest, f"{seed}", since, until) for seed in range(16))
        assert dearest <= paid * 1.000001, kind


# -- subjects who try to be seen, all rearranged, workers that start anew; `headcount audit` does it 100,000 times


@examples(15)
@given(st.integers(0, 2**32), st.integers(0, 15))
def test_neighbours_that_are_rearranged_stay_within_the_bounds(seed: int, number: int) -> None:
    moved = try_world(seed, number)
    assert moved.pairs > 0
    assert (moved.over, moved.flow, moved.replays) == (0, 0, 0)

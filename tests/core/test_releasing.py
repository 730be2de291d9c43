"""The third hop: where exact counts meet noise, and how much of them is left."""

import math
from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidTag

from pipeline.core.pseudonyms import WindowKey
from pipeline.core.release import Release
from pipeline.core.releasing import release_window
from pipeline.core.tallies import StatisticTally, Tally
from pipeline.core.windows import Window, date_of, day_of, window_named, window_of
from pipeline.declarations import Declarations
from pipeline.testing import EXACT, NoNoise, declarations, event, record, run

DECLARED = declarations()
SHOW_ALL = declarations(delta=1.0, max_epsilon=1e9)  # minus infinity for a threshold; bounds as ever
DAY = "day-2026-05-01"
KEY = WindowKey(bytes(32))


class Shifted(NoNoise):
    """Noise that moves the exact counts as it likes: what is shown may depend on its result and on nothing else."""

    def __init__(self, shifts: dict[int, int]) -> None:
        super().__init__()
        self.shifts = shifts

    def add(self, values: Sequence[int], sigma: float) -> list[int]:
        super().add(values, sigma)
        return [value + self.shifts.get(value, 0) for value in values]


def uses(users: dict[tuple[str, str], int], *, times: int = 1) -> list[dict[str, Any]]:
    """So many users of each feature and platform, each ``times`` times; nobody is in two cells."""
    return [
        event(feature=feature, platform=platform, subject=f"{feature}/{platform}/{i}")
        for (feature, platform), n in users.items()
        for i in range(n)
        for _ in range(times)
    ]


def tallies(
    users: dict[str, int], *, partition: int = 0, partitions: int = 1, window: str = DAY, sealed: bool = True
) -> Tally:
    """A tally of ``feature_use`` on the web, made by hand."""
    cells = [(KEY.seal("feature", name), b"web") for name in users]
    counts = list(users.values())
    statistic = StatisticTally(cells, counts, [2 * n for n in counts], sum(counts), 2 * sum(counts))
    return Tally(
        partition=partition, partitions=partitions, window=window, accepted=1, statistics={"feature_use": statistic}
    )


def released(declared: Declarations, *parts: Tally, noise: NoNoise | None = None) -> Release:
    window = window_named(parts[0].window)
    (found,) = release_window(declared.accountant, window, ["feature_use"], parts, KEY, noise or NoNoise())
    return found


def columns(release: Release) -> dict[tuple[str, ...], tuple[int, ...]]:
    return dict(zip(release.cells, zip(*release.values, strict=True), strict=True))


# -- cells


@pytest.mark.parametrize("users", [{}, {("x", "web"): 1}, {("x", "ios"): 200, ("y", "web"): 3}])
def test_every_declared_cell_is_released_in_every_window(users: dict[tuple[str, str], int]) -> None:
    result = run(DECLARED, [record(*uses(users))], since=date(2026, 5, 1), until=date(2026, 5, 3))
    platforms = DECLARED.registry.fields["platform"].values
    for window in (DAY, "day-2026-05-02", "week-2026-04-27", "month-2026-05-01"):
        found = result.counts("active_users_by_platform", window)
        assert list(found) == [(platform,) for platform in platforms]
        of_window = users if window != "day-2026-05-02" else {}
        for platform in platforms:
            assert found[platform,]["users"] == sum(n for (_, p), n in of_window.items() if p == platform)
        assert len(result.counts("intensity", window)) == 7
        assert len(result.counts("active_users", window)) == 1


def test_noise_may_make_a_declared_cell_negative() -> None:
    result = run(DECLARED, [record(event(platform="web"))], noise=Shifted({0: -5, 1: -7}))
    assert {counts["users"] for counts in result.counts("active_users_by_platform", DAY).values()} == {-5, -6}


def test_an_open_cell_is_released_where_its_noisy_users_reach_the_threshold() -> None:
    threshold = DECLARED.accountant.threshold("feature_use", "day")
    assert threshold is not None
    least = math.ceil(threshold)
    found = released(DECLARED, tallies({"below": least - 1, "at": least, "above": least + 1}))
    assert found.cells == [("above", "web"), ("at", "web")]
    assert columns(found)["at", "web"] == (least, 2 * least)
    assert found.measures[0].threshold == threshold


def test_what_is_shown_is_decided_on_noisy_users_and_never_on_exact_ones() -> None:
    """Noise that turns everything round turns what is shown round."""
    found = released(DECLARED, tallies({"one": 1, "many": 10_000}), noise=Shifted({1: 1000, 10_000: -10_000}))
    assert columns(found) == {("one", "web"): (1001, 2)}


def test_events_are_drawn_for_the_shown_cells_only_and_decide_nothing() -> None:
    noise = NoNoise()
    found = released(DECLARED, tallies({"one": 1, "many": 10_000, "more": 20_000}), noise=noise)
    assert found.cells == [("many", "web"), ("more", "web")]
    # users of all three; events of two; the totals
    assert [n for n, _ in noise.draws] == [3, 2, 1, 1]


def test_cells_are_sorted_so_that_their_order_says_nothing() -> None:
    one = released(SHOW_ALL, tallies({"b": 1, "a": 5, "c": 3}))
    other = released(SHOW_ALL, tallies({"c": 3, "b": 1, "a": 5}))
    assert one == other
    assert one.cells == sorted(one.cells)


def test_delta_of_one_holds_nothing_back() -> None:
    found = released(SHOW_ALL, tallies({"one": 1}), noise=Shifted({1: -1000}))
    assert columns(found) == {("one", "web"): (-999, 2)}
    assert found.measures[0].threshold is None


def test_an_exact_policy_gives_exact_counts() -> None:
    exact = declarations(policy=EXACT)
    events = uses({("x", "web"): 3, ("y", "ios"): 1}, times=40)
    from pipeline.noise import OpenDPNoise

    result = run(exact, [record(*events)], noise=OpenDPNoise())
    assert result.counts("feature_use", DAY) == {
        ("x", "web"): {"users": 3, "events": 120},
        ("y", "ios"): {"users": 1, "events": 40},
    }


# -- draws


def test_the_number_of_draws_of_declared_cells_does_not_depend_on_the_data() -> None:
    statistics = """
    version = "1"
    [statistics.a]
    description = "d"
    dimensions = ["platform", "plan"]
    measures = ["users", "events"]
    max_cells = 2
    total = true
    [statistics.b]
    description = "d"
    measures = ["users"]
    max_cells = 1
    histogram = [1, 5]
    """
    declared = declarations(statistics=statistics)
    drawn = []
    for events in ([], [event()], uses({("x", "web"): 300, ("y", "toaster"): 5}, times=3)):
        noise = NoNoise()
        run(declared, [record(*events)], noise=noise, since=date(2026, 5, 1), until=date(2026, 5, 2))
        drawn.append(noise.draws)
    assert drawn[0] == drawn[1] == drawn[2]
    assert sum(n for n, _ in drawn[0]) == 3 * (2 * 8 * 6 + 2 + 2)


def test_every_number_has_the_noise_of_its_price() -> None:
    noise = NoNoise()
    found = released(DECLARED, tallies({"many": 10_000}), noise=noise)
    users, events = found.measures
    assert [sigma for _, sigma in noise.draws] == [users.sigma, events.sigma, users.total_sigma, events.total_sigma]
    for measure in found.measures:
        price = DECLARED.accountant.price("feature_use", measure.name, "day")
        assert (measure.sigma, measure.bound, measure.rho) == (price.sigma, price.bound, price.rho)
        assert measure.sigma > 0
    assert found.rho == pytest.approx(users.rho + events.rho)


@pytest.mark.parametrize("kind", ["day", "week", "month"])
def test_the_releases_of_a_window_cost_what_the_policy_gives_it(kind: Any) -> None:
    window = window_of(kind, day_of(date(2026, 5, 1)))
    found = release_window(DECLARED.accountant, window, DECLARED.plan.of(kind), [], KEY, NoNoise())
    assert sum(release.rho for release in found) == pytest.approx(DECLARED.policy.budget.rho(kind))


# -- totals


def test_the_total_less_what_is_shown_is_what_was_held_back() -> None:
    users = {("popular", "web"): 200, ("popular", "ios"): 190, ("rare", "web"): 40, ("rarer", "ios"): 1}
    result = run(DECLARED, [record(*uses(users, times=2))], partitions=3)
    found = result.release("feature_use", DAY)
    assert found.cells == [("popular", "ios"), ("popular", "web")]
    assert found.total == [431, 862]
    assert found.total[1] - sum(found.values[1]) == 2 * 41


def test_the_total_is_the_partitions_own_and_not_a_sum_of_cells() -> None:
    part = tallies({"a": 5})
    statistic = msgspec.structs.replace(part.statistics["feature_use"], total_users=4, total_events=77)
    part = msgspec.structs.replace(part, statistics={"feature_use": statistic})
    assert released(SHOW_ALL, part).total == [4, 77]


def test_the_total_of_users_counts_a_subject_of_several_cells_once() -> None:
    events = [event(subject="u-1", feature=feature) for feature in ("a", "b", "c")]
    found = run(SHOW_ALL, [record(*events)]).release("feature_use", DAY)
    assert found.total == [1, 3]
    assert found.values == [[1, 1, 1], [1, 1, 1]]


def test_a_statistic_without_a_total_has_none() -> None:
    assert run(DECLARED, [record(event())]).release("active_users_by_app_version", DAY).total is None


# -- partitions


def test_partitions_add_up() -> None:
    parts = [
        tallies(users, partition=i, partitions=2) for i, users in enumerate([{"a": 100, "b": 7}, {"a": 95, "c": 300}])
    ]
    found = released(DECLARED, *parts)
    assert columns(found) == {("a", "web"): (195, 390), ("c", "web"): (300, 600)}
    assert found.total == [502, 1004]


def test_a_partition_without_the_statistic_adds_nothing() -> None:
    empty = Tally(partition=1, partitions=2, window=DAY, accepted=0, statistics={})
    assert released(SHOW_ALL, tallies({"a": 1}), empty) == released(SHOW_ALL, tallies({"a": 1}))


def test_a_window_can_be_opened_with_its_own_key_only() -> None:
    with pytest.raises(InvalidTag):
        release_window(
            DECLARED.accountant,
            window_named(DAY),
            ["feature_use"],
            [tallies({"a": 1})],
            WindowKey(bytes([1] * 32)),
            NoNoise(),
        )


# -- what a release says of itself


@pytest.mark.parametrize("window", [DAY, "week-2026-04-27", "month-2026-05-01"])
def test_a_release_names_its_window_its_policy_and_its_price(window: str) -> None:
    found = run(DECLARED, [record(event())]).release("feature_use", window)
    named: Window = window_named(window)
    assert (found.window, found.start, found.end) == (named.kind, str(date_of(named.start)), str(date_of(named.end)))
    assert found.number == 1
    assert (found.policy, found.contact) == (DECLARED.policy.version, DECLARED.policy.contact)
    assert (found.epsilon, found.delta) == (DECLARED.accountant.epsilon_month, 1e-9)
    assert found.protects
    assert [(d.name, d.kind) for d in found.dimensions] == [("feature", "open"), ("platform", "catalogue")]
    assert found.dimensions[1].values == DECLARED.registry.fields["platform"].values
    assert found.max_cells == 3


def test_only_what_was_asked_for_is_released() -> None:
    found = release_window(DECLARED.accountant, window_named(DAY), ["intensity"], [], KEY, NoNoise())
    assert [release.statistic for release in found] == ["intensity"]
    assert release_window(DECLARED.accountant, window_named(DAY), [], [], KEY, NoNoise()) == []


def test_a_release_is_a_pure_function_of_the_tallies_and_the_draw() -> None:
    assert msgspec.json.encode(released(DECLARED, tallies({"a": 300}))) == msgspec.json.encode(
        released(DECLARED, tallies({"a": 300}))
    )

"""The ledger is a fold over releases; what it does not cover is refused before anything is drawn."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.budget import OverBudget
from pipeline.core.ledger import Cost, Ledger, Spent, decode_cost
from pipeline.core.pseudonyms import WindowKey
from pipeline.core.release import Release, encode_release
from pipeline.core.releasing import release_window
from pipeline.core.windows import KINDS, date_of, day_of, window_named, window_of, windows_between
from pipeline.testing import EXACT, NoNoise, declarations

DECLARED = declarations()
ACCOUNTANT = DECLARED.accountant
KEY = WindowKey(bytes(32))
MAY = date(2026, 5, 1)


def release(window: str, ledger: Ledger, *names: str, noise: NoNoise | None = None) -> list[Release]:
    """The releases of a window in which nobody was."""
    found = window_named(window)
    wanted = names or tuple(DECLARED.plan.of(found.kind))
    return release_window(ACCOUNTANT, found, wanted, [], KEY, noise or NoNoise(), ledger)


def costs() -> st.SearchStrategy[list[Cost]]:
    def cost(kind: Any, day: int, rho: float) -> Cost:
        return Cost(window=kind, start=date_of(window_of(kind, 20_000 + day).start).isoformat(), rho=rho)

    return st.lists(st.builds(cost, st.sampled_from(KINDS), st.integers(0, 400), st.floats(1e-6, 1.0)), max_size=30)


def test_a_week_of_two_months_is_charged_to_both() -> None:
    ledger = Ledger([Cost(window="week", start="2026-04-27", rho=0.01), Cost(window="day", start="2026-05-01", rho=1)])
    assert ledger.spent == {
        (date(2026, 4, 1), "week"): Spent(1, 0.01),
        (MAY, "week"): Spent(1, 0.01),
        (MAY, "day"): Spent(1, 1.0),
    }
    assert ledger.rho(MAY) == pytest.approx(1.01)


@given(costs(), st.randoms())
def test_the_order_of_the_log_does_not_matter(charges: list[Cost], random: Any) -> None:
    shuffled = list(charges)
    random.shuffle(shuffled)
    one, other = Ledger(charges).spent, Ledger(shuffled).spent
    assert one.keys() == other.keys()
    for account, spent in one.items():
        assert other[account] == (spent.releases, pytest.approx(spent.rho))


def test_what_a_release_charges_is_what_its_record_says() -> None:
    ledger = Ledger()
    releases = release("week-2026-04-27", ledger)
    again = Ledger(decode_cost(encode_release(each)) for each in releases)
    assert again.spent.keys() == ledger.spent.keys()
    for account, spent in ledger.spent.items():
        assert again.spent[account] == (spent.releases, pytest.approx(spent.rho))


@pytest.mark.parametrize("month", [date(2026, 5, 1), date(2026, 2, 1), date(2028, 2, 1), date(2025, 6, 1)])
def test_every_window_that_touches_a_month_is_covered(month: date) -> None:
    ledger = Ledger()
    span = window_of("month", day_of(month))
    for kind in KINDS:
        for window in windows_between(kind, span.start, span.end):
            ACCOUNTANT.cover(window, DECLARED.plan.of(kind), ledger)
    assert 0.35 < ledger.rho(month) <= ACCOUNTANT.rho_month * (1 + 1e-9)


# -- refused


def test_what_the_month_cannot_pay_is_refused_before_any_draw() -> None:
    """As after a change in the middle of a month: each policy alone would be covered, both together are not."""
    noise, ledger = NoNoise(), Ledger([Cost(window="month", start="2026-05-01", rho=ACCOUNTANT.rho_cap - 0.005)])
    before = dict(ledger.spent)
    with pytest.raises(OverBudget, match=r"May 2026.*nothing was released.*raise max_epsilon"):
        release("day-2026-05-02", ledger, noise=noise)
    assert noise.draws == []
    assert ledger.spent == before
    assert release("day-2026-05-02", ledger, "active_users", noise=noise)  # 0.0007 of the 0.005 that are left
    assert release("day-2026-06-01", ledger)


def test_a_week_needs_both_of_its_months_to_pay() -> None:
    ledger = Ledger([Cost(window="month", start="2026-04-01", rho=ACCOUNTANT.rho_cap)])
    with pytest.raises(OverBudget, match="April 2026"):
        release("week-2026-04-27", ledger)
    assert release("week-2026-05-04", ledger)


def test_the_second_release_of_a_month_is_refused_where_the_first_took_all() -> None:
    ledger = Ledger()
    declared = declarations(day=0.0001, week=0.0001, month=0.41)
    window = window_named("month-2026-05-01")
    declared.accountant.cover(window, ["active_users"], ledger)
    declared.accountant.cover(window, declared.plan.of("month").keys() - {"active_users"}, ledger)
    with pytest.raises(OverBudget):
        declared.accountant.cover(window, ["feature_use"], ledger)


@pytest.mark.parametrize("names", [("salaries",), ("active_users", "salaries")])
def test_a_statistic_that_was_not_declared_is_refused_before_any_draw(names: tuple[str, ...]) -> None:
    noise = NoNoise()
    with pytest.raises(OverBudget, match="salaries is no statistic of a day under this policy; nothing was released"):
        release("day-2026-05-01", Ledger(), *names, noise=noise)
    assert noise.draws == []


def test_a_policy_without_a_cap_covers_everything() -> None:
    accountant = declarations(policy=EXACT).accountant
    ledger = Ledger()
    for _ in range(3):
        accountant.cover(window_named("month-2026-05-01"), ["active_users"], ledger)
    assert ledger.spent[MAY, "month"].releases == 3

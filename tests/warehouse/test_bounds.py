"""The 95 % bounds hold the truth 19 times in 20: over cells, and over sums that analysts make with the macros.

Known counts go through the release's own code with OpenDP's noise into a published DuckDB file. Of n ≥ 10,000 that hold
with probability 0.95 each, fewer than 94 % or more than 96 % do once in 200,000 times; the discrete noise makes 0.95
at most 0.953.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.core.counting import StatisticTally
from pipeline.core.ledger import Ledger
from pipeline.core.pseudonyms import WindowKey
from pipeline.core.release import Release
from pipeline.core.releasing import release_window
from pipeline.core.tallies import Tally
from pipeline.core.windows import KINDS, day_of, windows_between
from pipeline.noise import OpenDPNoise
from pipeline.testing import declarations
from pipeline.warehouse.reader import Statistics
from pipeline.warehouse.snapshots import publish
from pipeline.warehouse.tables import apply
from pipeline.warehouse.work import open_work

DAYS = 720
FIRST = date(2026, 1, 1)

STATISTICS = """
version = "test"
[statistics.by_place]
description = "Users and events by country and plan."
dimensions = ["country", "plan"]
measures = ["users", "events"]
max_cells = 3
max_events = 5
total = true
windows = ["day"]
"""

# What is summed over, and how many sums there are.
SUMS = {
    "countries": ("start, plan", 6 * DAYS),
    "plans": ("start, country", 20 * DAYS),
    "a week of days": ("country, plan, date_trunc('week', start)", 6 * 20 * 104),
    "countries and months": ("plan, date_trunc('month', start)", 6 * 24),
    "everything of a day": ("start", DAYS),
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Statistics]:
    """720 days of 120 declared cells, with the truth beside them in a table of its own."""
    declared = declarations(statistics=STATISTICS)
    cells = declared.plan.declared_cells(declared.plan.statistics["by_place"])
    random, noise, key = np.random.default_rng(2026), OpenDPNoise(), WindowKey(bytes(32))
    releases: list[Release] = []
    truth: list[tuple[str, str, str, int, int]] = []
    totals: list[tuple[str, int, int]] = []
    ledger = Ledger()
    for window in windows_between("day", day_of(FIRST), day_of(FIRST) + DAYS):
        users = random.zipf(1.3, len(cells)).clip(0, 50_000) - 1
        events = users + random.binomial(users, 0.5)
        sealed = [tuple(value.encode() for value in cell) for cell in cells]
        total = (int(users.sum()) // 2, int(events.sum()))
        tally = Tally(
            partition=0,
            partitions=1,
            window=window.name,
            accepted=0,
            statistics={"by_place": StatisticTally(sealed, users.tolist(), events.tolist(), *total)},
        )
        found = release_window(declared.accountant, window, ["by_place"], [tally], key, noise, ledger)
        releases += found
        truth += [
            (found[0].start, *cell, n, m) for cell, n, m in zip(cells, users.tolist(), events.tolist(), strict=True)
        ]
        totals.append((found[0].start, *total))
    directory: Path = tmp_path_factory.mktemp("bounds")
    with open_work(directory / "work.duckdb") as work:
        apply(work, releases)
        publish(work, directory)
    with Statistics(directory) as statistics:
        _attach(statistics, "truth", pd.DataFrame(truth, columns=["start", "country", "plan", "users", "events"]))
        _attach(statistics, "true_total", pd.DataFrame(totals, columns=["start", "users", "events"]))
        yield statistics


def _attach(statistics: Statistics, name: str, frame: pd.DataFrame) -> None:
    frame["start"] = pd.to_datetime(frame["start"])
    statistics._connection.register(name, frame)


def held(statistics: Statistics, query: str) -> tuple[int, float]:
    """How many there are, and the share of them that hold. The query gives a column ``holds``."""
    [(n, share)] = statistics.sql(f"SELECT count(*), avg(holds::INT) FROM ({query})").itertuples(index=False)
    return int(n), float(share)


@pytest.mark.parametrize("measure", ["users", "events"])
def test_of_all_cells_95_in_100_bounds_hold(published: Statistics, measure: str) -> None:
    n, share = held(
        published,
        f"SELECT t.{measure} BETWEEN r.{measure}_lower AND r.{measure}_upper AS holds "
        "FROM by_place AS r JOIN truth AS t USING (start, country, plan) WHERE r.period = 'day'",
    )
    assert n == 120 * DAYS >= 10_000
    assert 0.94 <= share <= 0.96


@pytest.mark.parametrize("measure", ["users", "events"])
@pytest.mark.parametrize("sums", SUMS)
def test_of_sums_by_the_macros_95_in_100_bounds_hold(published: Statistics, sums: str, measure: str) -> None:
    keys, expected = SUMS[sums]
    n, share = held(
        published,
        f"SELECT sum(t.{measure}) BETWEEN sum_lower(r.{measure}, r.{measure}_variance) "
        f"AND sum_upper(r.{measure}, r.{measure}_variance) AS holds "
        f"FROM by_place AS r JOIN truth AS t USING (start, country, plan) WHERE r.period = 'day' GROUP BY {keys}",
    )
    assert n == pytest.approx(expected, rel=0.01)
    # Four and a half standard deviations of a share of n, or one in a hundred, whichever is more.
    margin = max(0.01, 4.5 * (0.95 * 0.05 / n) ** 0.5)
    assert 0.95 - margin <= share <= 0.95 + margin


@pytest.mark.parametrize("measure", ["users", "events"])
def test_bounds_of_totals_hold(published: Statistics, measure: str) -> None:
    n, share = held(
        published,
        f"SELECT t.{measure} BETWEEN r.{measure}_lower AND r.{measure}_upper AS holds "
        "FROM by_place_total AS r JOIN true_total AS t USING (start)",
    )
    assert n == DAYS
    assert abs(share - 0.95) < 4.5 * (0.95 * 0.05 / n) ** 0.5


def test_bounds_that_were_added_up_would_not_hold_95_in_100(published: Statistics) -> None:
    """Sums of bounds are far too wide: what the macros do differs, and this test can tell."""
    _, share = held(
        published,
        "SELECT sum(t.users) BETWEEN sum(r.users_lower) AND sum(r.users_upper) AS holds "
        "FROM by_place AS r JOIN truth AS t USING (start, country, plan) GROUP BY start, plan",
    )
    assert share > 0.999


def test_the_files_ledger_is_the_accountants_own_fold_over_the_releases(tmp_path: Path) -> None:
    """A year of all shipped statistics; most of its months share weeks."""
    declared, ledger = declarations(), Ledger()
    releases: list[Release] = []
    for kind in KINDS:
        for window in windows_between(kind, day_of(FIRST), day_of(FIRST) + 365):
            names = declared.plan.of(kind)
            releases += release_window(
                declared.accountant, window, names, [], WindowKey(bytes(32)), OpenDPNoise(), ledger
            )
    with open_work(tmp_path / "work.duckdb") as work:
        apply(work, releases)
        rows = work.execute("SELECT month, period, releases, rho FROM ledger").fetchall()
    assert {(month, period): count for month, period, count, _ in rows} == {
        account: spent.releases for account, spent in ledger.spent.items()
    }
    again = Ledger(releases)
    for month, period, _, rho in rows:
        assert rho == pytest.approx(ledger.spent[month, period].rho, rel=1e-12)
        assert rho == pytest.approx(again.spent[month, period].rho, rel=1e-12)

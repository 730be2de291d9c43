"""The fold: releases in, the same tables out, whatever their order, batches and repetitions."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from duckdb import DuckDBPyConnection
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.release import Release
from pipeline.warehouse.errors import BusyError, UnusableReleaseError, WarehouseError
from pipeline.warehouse.tables import apply, holds
from pipeline.warehouse.work import open_work, positions

from .conftest import PLATFORMS, build_open_release, build_release, dimension, measure

Content = Callable[[DuckDBPyConnection], dict[str, Any]]
Build = Callable[..., Release]


def memory() -> DuckDBPyConnection:
    return open_work(Path(":memory:"))


# A history in which nearly everything changes once: values, dimensions, measures, descriptions, policies.
HISTORY: tuple[Release, ...] = (
    build_release(day="2026-01-01"),
    build_release(day="2026-01-02", policy="2026-2", epsilon=5.0),
    build_release(day="2026-01-02", number=2, values=[[1, 2, 3, 4], [5, 6, 7, 8]]),
    build_release(day="2026-02-01", dimensions=[dimension("platform", "ios", "visionos", "web", "other")]),
    build_release(day="2026-03-01", dimensions=[dimension("platform", "tv", *PLATFORMS, description="on what")]),
    build_release(day="2026-03-02", dimensions=[dimension("plan", "free", "premium"), dimension("platform", "ios")]),
    build_release(day="2026-01-01", window="week"),
    build_release(day="2026-01-01", window="month", description="platforms, described anew"),
    build_release("active", dimensions=[], measures=[measure("users", 22.4)]),
    build_release("active", "2026-05-02", dimensions=[]),
    build_open_release(),
    build_open_release("2026-05-02", cells=[], values=[[], []]),
    build_open_release("2026-06-01", dimensions=(dimension("feature"), dimension("platform", "web", "ios"))),
    build_open_release("2026-06-02", cells=[("zoom", "web")], values=[[200], [300]], total=None),
    build_open_release("2026-06-03", dimensions=(dimension("feature", "export", "search"), dimension("platform"))),
)


@pytest.fixture(scope="module")
def expected(content: Content) -> dict[str, Any]:
    with memory() as connection:
        apply(connection, HISTORY)
        return content(connection)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_the_order_the_batches_and_the_repetitions_of_releases_do_not_matter(
    data: st.DataObject, content: Content, expected: dict[str, Any]
) -> None:
    order = data.draw(st.permutations(HISTORY))
    repeated = data.draw(st.lists(st.sampled_from(HISTORY), max_size=5))
    log = [*order, *repeated]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(log) - 1), max_size=6)))
    with memory() as connection:
        for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True):
            apply(connection, log[start:end])
        assert content(connection) == expected


def test_applying_a_release_twice_changes_nothing(work: DuckDBPyConnection, content: Content) -> None:
    assert apply(work, HISTORY) == len(HISTORY)
    before = content(work)
    assert apply(work, HISTORY) == 0
    assert apply(work, [HISTORY[0], HISTORY[0]]) == 0
    assert content(work) == before


@pytest.mark.parametrize("thing", [{"statistic": "x"}, b"{}", object(), None])
def test_nothing_but_a_release_reaches_the_warehouse(work: DuckDBPyConnection, thing: Any) -> None:
    with pytest.raises(TypeError, match="accepts a Release"):
        apply(work, [thing])


GOOD = build_release()
CONTRADICTIONS: dict[str, Release] = {
    "a name is not of the form": msgspec.structs.replace(GOOD, statistic='x"; DROP TABLE y; --'),
    "a name is not of the form ": msgspec.structs.replace(GOOD, statistic="name\n"),
    "warehouse itself uses the statistic's name": msgspec.structs.replace(GOOD, statistic="release"),
    "warehouse itself uses the statistic's name ": msgspec.structs.replace(GOOD, statistic="active_total"),
    "warehouse itself uses a dimension's name": build_release(dimensions=[dimension("users_lower", "a")]),
    "warehouse itself uses a dimension's name ": build_release(dimensions=[dimension("start", "a")]),
    "two columns have one name": build_release(dimensions=[dimension("x", "a"), dimension("x", "b")]),
    "the measures are not users, events": build_release(measures=[]),
    "declares no values, or an open one does": build_release(
        dimensions=[msgspec.structs.replace(dimension("x", "a"), kind="open")]
    ),
    "declares a value twice": build_release(dimensions=[dimension("x", "a", "a")], cells=[("a",)], values=[[1], [1]]),
    "no window starts on that date": msgspec.structs.replace(GOOD, start="2026-05-40"),
    "no window starts on that date ": msgspec.structs.replace(GOOD, window="week"),
    "the window does not end on that date": msgspec.structs.replace(GOOD, end="2026-05-03"),
    "no window starts on that date  ": msgspec.structs.replace(GOOD, start="20260501"),
    "not a finite number": msgspec.structs.replace(GOOD, rho=float("nan")),
    "or negative": build_release(measures=[measure("users", -1.0)]),
    "does not fit 64 bits": build_release(values=[[2**63, 0, 0, 0], [0, 0, 0, 0]]),
    "one value per cell and measure": build_release(values=[[1, 2, 3], [1, 2, 3, 4]]),
    "how much noise is in it": build_release(
        measures=[msgspec.structs.replace(measure("users", 1.0), total_sigma=None)], total=[4]
    ),
    "one total per measure": build_release(total=[1]),
    "one value per dimension": build_release(cells=[("ios", "x")], values=[[1], [1]]),
    "a cell is there twice": build_release(cells=[("ios",), ("ios",)], values=[[1, 1], [1, 1]]),
    "its catalogue does not declare": build_release(cells=[("amiga",)], values=[[1], [1]]),
}


@pytest.mark.parametrize(("reason", "release"), CONTRADICTIONS.items(), ids=lambda value: str(value).strip()[:40])
def test_a_release_that_contradicts_itself_is_refused_and_nothing_is_changed(
    work: DuckDBPyConnection, content: Content, reason: str, release: Release
) -> None:
    before = content(work)
    with pytest.raises(UnusableReleaseError, match=reason.strip()) as caught:
        apply(work, [build_release(day="2026-04-01"), release], {0: 2})
    assert caught.value.position == 1
    assert content(work) == before
    assert positions(work) == {}
    assert "amiga" not in str(caught.value)
    assert "DROP" not in str(caught.value)


def test_another_release_under_a_known_key_is_refused(work: DuckDBPyConnection, content: Content) -> None:
    other = build_release(values=[[9, 9, 9, 9], [9, 9, 9, 9]])
    with pytest.raises(UnusableReleaseError, match="differ"):
        apply(work, [GOOD, other])
    apply(work, [GOOD])
    before = content(work)
    with pytest.raises(UnusableReleaseError, match="differs") as caught:
        apply(work, [build_release(day="2026-05-02"), other])
    assert caught.value.position == 1
    assert content(work) == before
    assert holds(work, GOOD)
    assert not holds(work, other)


def test_positions_are_kept_with_the_releases(tmp_path: Path) -> None:
    with open_work(tmp_path / "work.duckdb") as connection:
        apply(connection, [GOOD], {0: 4, 2: 7})
        apply(connection, [], {0: 5})
    with open_work(tmp_path / "work.duckdb") as connection:
        assert positions(connection) == {0: 5, 2: 7}
        assert holds(connection, GOOD)


def test_an_error_of_duckdb_leaves_no_trace_and_quotes_no_value(work: DuckDBPyConnection, content: Content) -> None:
    # Somebody else changed the file: DuckDB's own message would quote the value that does not fit any more.
    apply(work, [GOOD])
    work.execute("ALTER TABLE released.by_platform ALTER users TYPE SMALLINT")
    before = content(work)
    with pytest.raises(WarehouseError, match="nothing was changed") as caught:
        apply(work, [build_release(day="2026-05-02", values=[[99_999, 1, 2, 3], [1, 2, 3, 4]])])
    assert "99" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert content(work) == before


def test_a_new_value_of_a_catalogue_takes_its_natural_place(work: DuckDBPyConnection) -> None:
    apply(work, [build_release(day="2026-05-01")])
    apply(
        work,
        [build_release(day="2026-05-02", dimensions=[dimension("platform", "ios", "tv", "web", "other")])],
    )
    rows = work.execute("SELECT DISTINCT platform FROM by_platform ORDER BY platform").fetchall()
    # android is not declared any more, its old cells are still there
    assert [platform for (platform,) in rows] == ["ios", "android", "tv", "web", "other"]
    assert work.execute("SELECT count(*) FROM by_platform").fetchall() == [(8,)]


def test_a_catalogue_that_becomes_open_is_a_text(work: DuckDBPyConnection) -> None:
    apply(work, [build_release()])
    anything = dimension("platform")
    apply(work, [build_release(day="2026-05-02", dimensions=[anything], cells=[("amiga",)], values=[[3], [4]])])
    assert work.execute("SELECT DISTINCT typeof(platform) FROM by_platform").fetchall() == [("VARCHAR",)]
    assert work.execute("SELECT users FROM by_platform WHERE platform = 'amiga'").fetchall() == [(3,)]


def test_a_dimension_that_a_release_does_not_have_is_null(work: DuckDBPyConnection) -> None:
    apply(work, [build_release()])
    both = [dimension("plan", "free", "premium"), dimension("platform", *PLATFORMS)]
    apply(work, [build_release(day="2026-05-02", dimensions=both)])
    assert work.execute(
        "SELECT start::VARCHAR, plan, count(*) FROM by_platform GROUP BY ALL ORDER BY ALL"
    ).fetchall() == [
        ("2026-05-01", None, 4),
        ("2026-05-02", "free", 4),
        ("2026-05-02", "premium", 4),
    ]
    columns = [column[0] for column in work.execute("FROM by_platform").description]
    assert columns[:5] == ["period", "start", "end_date", "plan", "platform"]


def test_a_measure_that_a_release_does_not_have_is_null_with_its_bounds(work: DuckDBPyConnection) -> None:
    apply(work, [build_release("active", dimensions=[], measures=[measure("users", 20.0)])])
    apply(work, [build_release("active", "2026-05-02", dimensions=[])])
    rows = work.execute("SELECT users, events, events_lower, events_grade FROM active ORDER BY start").fetchall()
    assert rows[0] == (100, None, None, None)
    assert rows[1][:2] == (100, 200)


@pytest.mark.parametrize("word", ["select", "order", "group", "place", "window", "key", "cells", "value", "batch"])
def test_words_of_sql_and_of_the_fold_may_be_names(work: DuckDBPyConnection, word: str) -> None:
    apply(work, [build_release(word, dimensions=[dimension(word, "a", "b")])])
    apply(work, [build_release(word, "2026-05-02", dimensions=[dimension(word, "a", "c")], total=[1, 2])])
    assert work.execute(f'SELECT count(DISTINCT "{word}") FROM "{word}"').fetchall() == [(3,)]
    assert work.execute(f'SELECT events FROM "{word}_total"').fetchall() == [(2,)]


def test_values_and_descriptions_with_quotes_are_taken_as_they_are(work: DuckDBPyConnection) -> None:
    odd = dimension("plan", "l'été", 'the "best"', "a;b", description="it's a plan; -- or not")
    apply(work, [build_release(dimensions=[odd], description="o'clock")])
    rows = work.execute("SELECT plan FROM by_platform ORDER BY plan").fetchall()
    assert rows == [("l'été",), ('the "best"',), ("a;b",)]


def test_a_hundred_thousand_cells_are_folded_as_they_are(work: DuckDBPyConnection) -> None:
    cells = [(f"feature-{n // 4}", PLATFORMS[n % 4]) for n in range(100_000)]
    values = [[n - 50 for n in range(100_000)], [7 * n for n in range(100_000)]]
    apply(work, [build_open_release(cells=cells, values=values)])
    rows = work.execute("SELECT feature, platform, users, events FROM feature_use").fetchall()
    assert sorted(rows) == sorted((*cell, *numbers) for cell, *numbers in zip(cells, *values, strict=True))


def test_a_work_file_that_is_open_elsewhere_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "work.duckdb"
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(BusyError, match="another process has"):
            open_work(path)
    finally:
        holder.kill()
        holder.wait()

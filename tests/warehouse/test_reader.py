"""Reading from Python: typed frames with bounds, of the newest snapshot, and no way to anything else."""

import warnings
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from duckdb import DuckDBPyConnection

from pipeline.warehouse.errors import NothingPublishedError, WarehouseError
from pipeline.warehouse.reader import ProtectsNobody, Statistics
from pipeline.warehouse.snapshots import LINK, publish
from pipeline.warehouse.tables import apply
from pipeline.warehouse.work import open_work

from .conftest import PLATFORMS, build_open_release, build_release, dimension, measure


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two statistics of two days, a week and a month."""
    directory = tmp_path_factory.mktemp("published")
    releases = [build_release(window="week"), build_release(window="month", values=[[9, 8, 7, 6], [5, 4, 3, 2]])]
    for day in ("2026-05-01", "2026-05-02"):
        releases += [build_release(day=day), build_open_release(day)]
    with open_work(directory / "work.duckdb") as connection:
        apply(connection, releases)
        publish(connection, directory)
    return directory


@pytest.mark.parametrize("source", ["", LINK, "snapshots/statistics-000001.duckdb"])
def test_a_directory_its_link_and_a_snapshot_can_be_opened(published: Path, source: str) -> None:
    with Statistics(published / source) as statistics:
        assert statistics.names() == ["by_platform", "feature_use"]
        assert statistics.path.name == "statistics-000001.duckdb"


def test_a_frame_has_real_types_and_its_bounds(published: Path) -> None:
    with Statistics(published) as statistics:
        frame = statistics.frame("by_platform")
    assert frame.columns.tolist() == [
        "period",
        "start",
        "end_date",
        "platform",
        *(f"users{suffix}" for suffix in ("", "_lower", "_upper", "_variance", "_grade")),
        *(f"events{suffix}" for suffix in ("", "_lower", "_upper", "_variance", "_grade")),
    ]
    assert frame["start"].dtype.kind == "M"
    assert frame["start"].tolist() == [pd.Timestamp("2026-05-01")] * 4 + [pd.Timestamp("2026-05-02")] * 4
    assert frame["users"].dtype == "int64"
    assert frame["platform"].tolist() == list(PLATFORMS) * 2
    assert frame["platform"].cat.ordered
    assert frame["platform"].cat.categories.tolist() == list(PLATFORMS)
    assert frame["users_grade"].cat.categories.tolist() == ["precise", "good", "rough", "noise"]
    assert ((frame["users_upper"] - frame["users_lower"]) / 2 / 1.96).round(2).eq(20.0).all()


def test_a_frame_holds_one_kind_of_window(published: Path) -> None:
    with Statistics(published) as statistics:
        assert statistics.frame("by_platform", window="month")["users"].tolist() == [9, 8, 7, 6]
        assert len(statistics.frame("by_platform", window="week")) == 4
        with pytest.raises(ValueError, match="day, week, month"):
            statistics.frame("by_platform", window="hour")  # type: ignore[arg-type]


def test_totals_are_a_frame_of_their_own(published: Path) -> None:
    with Statistics(published) as statistics:
        frame = statistics.frame("feature_use", total=True)
        assert frame["events_held_back"].tolist() == [700, 700]
        assert len(statistics.frame("feature_use")) == 6
        with pytest.raises(WarehouseError, match="by_platform has no totals"):
            statistics.frame("by_platform", total=True)


def test_gaps_do_not_turn_counts_into_fractions(work: DuckDBPyConnection, tmp_path: Path) -> None:
    apply(work, [build_release("active", dimensions=[], measures=[measure("users", 20.0)])])
    apply(work, [build_release("active", "2026-05-02", dimensions=[])])
    publish(work, tmp_path)
    with Statistics(tmp_path) as statistics:
        frame = statistics.frame("active")
        assert frame["events"].dtype == "Int64"
        assert frame["events"].tolist() == [pd.NA, 200]
        assert frame["users"].dtype == "int64"
        assert statistics.sql("SELECT sum(users) AS users FROM active")["users"].dtype == "Int64"
        assert statistics.sql("SELECT sum(users_variance) AS v FROM active")["v"].dtype == "float64"


def test_a_sum_beyond_what_a_float_can_hold_is_not_rounded_in_silence(published: Path) -> None:
    with Statistics(published) as statistics:
        assert statistics.sql("SELECT sum(9007199254740993) AS n FROM by_platform")["n"].dtype == "float64"


def test_describing_a_statistic_gives_its_comments(published: Path) -> None:
    with Statistics(published) as statistics:
        frame = statistics.describe("feature_use").set_index("column")
        assert statistics.dimensions("feature_use") == ["feature", "platform"]
        assert statistics.dimensions("by_platform") == ["platform"]
    assert str(frame.loc["feature", "comment"]).startswith("The feature.")
    assert frame.loc["platform", "type"] == "ENUM('ios', 'android', 'web', 'other')"
    assert frame["comment"].str.len().min() > 10


def test_dimensions_are_in_the_order_of_the_newest_release(work: DuckDBPyConnection, tmp_path: Path) -> None:
    apply(work, [build_release()])
    both = [dimension("plan", "free", "premium"), dimension("platform", *PLATFORMS)]
    apply(work, [build_release(day="2026-05-02", dimensions=both)])
    publish(work, tmp_path)
    with Statistics(tmp_path) as statistics:
        assert statistics.dimensions("by_platform") == ["plan", "platform"]


def test_the_other_tables_are_one_call_away(published: Path) -> None:
    with Statistics(published) as statistics:
        assert statistics.catalogue()["releases"].tolist() == [4, 2]
        assert statistics.ledger()["rho"].sum() == pytest.approx(0.07)
        assert statistics.policies()["contact"].tolist() == ["privacy@example.org"]


def test_an_unknown_statistic_is_answered_with_those_there_are(published: Path) -> None:
    with Statistics(published) as statistics, pytest.raises(WarehouseError, match="by_platform, feature_use"):
        statistics.frame("x; DROP TABLE y")


def test_a_newer_snapshot_is_seen_when_asked_for(work: DuckDBPyConnection, tmp_path: Path) -> None:
    apply(work, [build_release()])
    publish(work, tmp_path)
    with Statistics(tmp_path) as old:
        assert not old.refresh()
        apply(work, [build_release(day="2026-05-02")])
        publish(work, tmp_path)
        assert len(old.frame("by_platform")) == 4
        with Statistics(tmp_path) as new:
            assert len(new.frame("by_platform")) == 8
        assert old.refresh()
        assert len(old.frame("by_platform")) == 8
        assert not old.refresh()


def test_before_anything_is_published_the_error_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NothingPublishedError, match=r"`make demo`.*`headcount project`"):
        Statistics(tmp_path)
    (tmp_path / LINK).symlink_to("snapshots/gone.duckdb")
    with pytest.raises(NothingPublishedError):
        Statistics(tmp_path)


@pytest.mark.parametrize(
    "query",
    [
        "CREATE TABLE main.x (a INTEGER)",
        "DELETE FROM released.by_platform",
        "COPY by_platform TO '/tmp/x.csv'",
        "SELECT * FROM read_text('/etc/hostname')",
        "ATTACH '/tmp/x.duckdb'",
        "SET enable_external_access = true",
        "SET threads = 1",
        "INSTALL httpfs",
    ],
)
def test_a_query_reads_the_statistics_and_nothing_else(published: Path, query: str) -> None:
    with Statistics(published) as statistics, pytest.raises(duckdb.Error):
        statistics.sql(query)


def test_a_policy_for_tests_is_announced(work: DuckDBPyConnection, tmp_path: Path) -> None:
    apply(work, [build_release(), build_release(day="2026-05-02", protects=False, policy="exact")])
    publish(work, tmp_path)
    with pytest.warns(ProtectsNobody, match="policy exact protects nobody: for tests only"):
        statistics = Statistics(tmp_path)
    with statistics:
        assert statistics.warning == "policy exact protects nobody: for tests only"


def test_where_all_releases_protect_nothing_is_announced(published: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Statistics(published) as statistics:
            assert statistics.warning is None

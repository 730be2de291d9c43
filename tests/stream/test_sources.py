"""Files of events: every form gives the same events, and what cannot be sent is counted."""

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard

from pipeline.core.events import MAX_EVENT
from pipeline.settings import SettingsError
from pipeline.sources import BATCH_BYTES, read_events, read_stream
from pipeline.testing import event

EVENTS = [json.dumps(event(subject=f"u-{n}", id=f"e-{n}")).encode() for n in range(1_234)]

MAPPING = """
[event]
id = "row"
source = "'shop'"
time = "moment"
subject = "who"
[data]
feature = "'bought.' || what"
duration_ms = "CAST(ms AS BIGINT)"
"""
ROWS = [
    ("ann", "tea", "2026-05-01 10:00:00", 5),
    ("Jörg", 'a "b", c', "2026-05-01 23:59:59", 0),
    (None, "x", None, None),
]


def lines(path: Path, mapping: Path | None = None, batch: int = 500) -> list[bytes]:
    return [line for each in read_events(path, mapping, batch) for line in each.value.split(b"\n")]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\n\n \t\n"])
@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        ("ndjson", bytes),
        ("jsonl", bytes),
        ("ndjson.gz", gzip.compress),
        ("ndjson.zst", zstandard.ZstdCompressor().compress),
    ],
)
@pytest.mark.parametrize("last", [True, False], ids=["ends", "does not end"])
def test_every_form_gives_the_events_in_order(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes], ending: bytes, last: bool
) -> None:
    path = tmp_path / f"events.{suffix}"
    path.write_bytes(pack(ending.join(EVENTS) + ending * last))
    batches = list(read_events(path))
    assert [each.events for each in batches] == [500, 500, 234]
    assert b"\n".join(each.value for each in batches) == b"\n".join(EVENTS)
    assert not any(each.oversized for each in batches)


def test_several_frames_in_one_file_are_all_read(tmp_path: Path) -> None:
    halves = [b"\n".join(EVENTS[:600]) + b"\n", b"\n".join(EVENTS[600:])]
    (tmp_path / "e.gz").write_bytes(b"".join(map(gzip.compress, halves)))
    (tmp_path / "e.zst").write_bytes(b"".join(map(zstandard.ZstdCompressor().compress, halves)))
    assert lines(tmp_path / "e.gz") == EVENTS
    assert lines(tmp_path / "e.zst") == EVENTS


@pytest.mark.parametrize("batch", [1, 7, 10_000])
def test_a_batch_holds_so_many_events_at_most(tmp_path: Path, batch: int) -> None:
    path = tmp_path / "e.ndjson"
    path.write_bytes(b"\n".join(EVENTS))
    sizes = [each.events for each in read_events(path, batch=batch)]
    assert max(sizes) <= batch
    assert sum(sizes) == len(EVENTS)


def test_a_batch_of_large_events_is_sent_earlier(tmp_path: Path) -> None:
    large = [b'{"x":"%s"}' % (b"y" * 60_000)] * 100
    (tmp_path / "e.ndjson").write_bytes(b"\n".join(large))
    batches = list(read_events(tmp_path / "e.ndjson"))
    assert all(len(each.value) <= BATCH_BYTES + MAX_EVENT for each in batches)
    assert sum(each.events for each in batches) == 100


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [MAX_EVENT - 1, MAX_EVENT])
def test_a_line_of_the_largest_size_is_sent(tmp_path: Path, size: int, ending: bytes) -> None:
    line = b'"' + b"x" * (size - 2) + b'"'
    (tmp_path / "e.ndjson").write_bytes(ending.join([line, b"{}", line]))
    assert lines(tmp_path / "e.ndjson") == [line, b"{}", line]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    "size", [MAX_EVENT + 1, MAX_EVENT + 2, MAX_EVENT + 3, 1 << 20, (1 << 20) + MAX_EVENT + 2, 3 << 20]
)
def test_a_larger_line_is_counted_whether_or_not_it_is_sent_and_costs_no_other(
    tmp_path: Path, size: int, ending: bytes
) -> None:
    """The worker rejects what is over the limit by a few bytes; what is over it by more is not sent at all."""
    line = b'"' + b"x" * (size - 2) + b'"'
    (tmp_path / "e.ndjson").write_bytes(ending.join([b"{}", line, b'{"a":1}', line]))
    batches = list(read_events(tmp_path / "e.ndjson"))
    sent = [each for batch in batches for each in batch.value.split(b"\n")]
    assert [each for each in sent if len(each) <= MAX_EVENT] == [b"{}", b'{"a":1}']
    assert sum(each.events + each.oversized for each in batches) == 4
    assert all(len(each.value) <= 4 * MAX_EVENT for each in batches)


def test_a_file_of_oversized_lines_alone_is_counted(tmp_path: Path) -> None:
    (tmp_path / "e.ndjson").write_bytes((b"x" * (MAX_EVENT + 10) + b"\n") * 3)
    assert [(each.value, each.events, each.oversized) for each in read_events(tmp_path / "e.ndjson")] == [(b"", 0, 3)]


def test_an_oversized_line_is_not_held_in_memory(tmp_path: Path) -> None:
    asked: list[int] = []

    class Stream(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            asked.append(size)
            return super().readline(size)

    stream = Stream(b"x" * (64 << 20) + b"\n{}\n")
    assert [(each.value, each.oversized) for each in read_stream(stream)] == [(b"{}", 1)]
    assert 0 < min(asked) <= max(asked) <= 1 << 20


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n \n\t\n"])
def test_a_file_without_events_gives_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "e.ndjson").write_bytes(content)
    (tmp_path / "e.gz").write_bytes(gzip.compress(content))
    assert list(read_events(tmp_path / "e.ndjson")) == []
    assert list(read_events(tmp_path / "e.gz")) == []


@pytest.mark.parametrize("name", ["e.gz", "e.zst"])
@pytest.mark.parametrize("damage", ["truncated", "not compressed"])
def test_a_damaged_file_is_an_error_that_says_so_and_quotes_nothing(tmp_path: Path, name: str, damage: str) -> None:
    text = b"\n".join(EVENTS * 20)
    packed = gzip.compress(text) if name == "e.gz" else zstandard.ZstdCompressor().compress(text)
    (tmp_path / name).write_bytes(packed[: len(packed) // 2] if damage == "truncated" else text)
    with pytest.raises(SettingsError, match=name) as refused:
        list(read_events(tmp_path / name))
    assert "specversion" not in str(refused.value)


def write_table(path: Path, rows: list[Any] = ROWS) -> Path:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (who VARCHAR, what VARCHAR, moment VARCHAR, ms VARCHAR)")
        connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
        kind = "PARQUET" if ".parquet" in path.suffixes else "CSV, HEADER"
        connection.execute(f"COPY t TO '{path}' (FORMAT {kind})")
    return path


def write_many(path: Path, who: str, rows: int) -> Path:
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT {who} AS who, 'tea' AS what, '2026-05-01 10:00:00' AS moment, range AS ms "
            f"FROM range({rows})) TO '{path}'"
        )
    return path


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    path = tmp_path / "map.toml"
    path.write_text(MAPPING)
    return path


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.parquet"])
def test_a_table_becomes_events_by_its_mapping(tmp_path: Path, mapping: Path, name: str) -> None:
    path = write_table(tmp_path / name)
    common = {"specversion": "1.0", "source": "shop", "type": "usage.feature.used.v1"}
    assert [json.loads(line) for line in lines(path, mapping)] == [
        {
            **common,
            "id": "1",
            "time": "2026-05-01T10:00:00Z",
            "subject": "ann",
            "data": {"feature": "bought.tea", "duration_ms": 5},
        },
        {
            **common,
            "id": "2",
            "time": "2026-05-01T23:59:59Z",
            "subject": "Jörg",
            "data": {"feature": 'bought.a "b", c', "duration_ms": 0},
        },
        {**common, "id": "3", "time": None, "subject": None, "data": {"feature": "bought.x", "duration_ms": None}},
    ]


def test_rows_of_a_table_keep_their_order_and_have_ids_of_their_own(tmp_path: Path, mapping: Path) -> None:
    path = write_many(tmp_path / "e.parquet", "'u-' || (range * 7919 % 25000)", 25_000)
    found = [json.loads(line) for line in lines(path, mapping)]
    assert [each["subject"] for each in found] == [f"u-{n * 7919 % 25_000}" for n in range(25_000)]
    assert [each["id"] for each in found] == [str(n + 1) for n in range(25_000)]


@pytest.mark.parametrize("name", ["e.csv", "e.parquet", "e.csv.gz"])
def test_a_table_without_a_mapping_is_an_error_that_says_so(tmp_path: Path, name: str) -> None:
    path = write_table(tmp_path / name)
    with pytest.raises(SettingsError, match=f"{name} needs --map"):
        list(read_events(path))


@pytest.mark.parametrize(
    "text",
    ["", "not toml", "[event]\nid = 'row'", MAPPING.replace("[data]", "[dat]"), MAPPING.replace("time", "zeit")],
)
def test_a_mapping_that_is_none_is_an_error_that_says_what_it_needs(tmp_path: Path, text: str) -> None:
    (tmp_path / "map.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"map\.toml"):
        list(read_events(write_table(tmp_path / "e.csv"), tmp_path / "map.toml"))


@pytest.mark.parametrize("sql", ["absent_column", "no such thing", "who ||", "CAST(who AS INTEGER)", "error(who)"])
def test_an_expression_that_does_not_fit_is_an_error_that_quotes_no_row(tmp_path: Path, sql: str) -> None:
    """Also where it only fails at a late row: what the database says of it would name who is in the row."""
    last = "CASE range WHEN 29999 THEN 'jan.jansen@voorbeeld.example' ELSE range::VARCHAR END"
    path = write_many(tmp_path / "e.parquet", last, 30_000)
    (tmp_path / "map.toml").write_text(MAPPING.replace('feature = "', f'feature = "CAST(({sql}) AS VARCHAR) || '))
    with pytest.raises(SettingsError, match=r"map\.toml does not fit e\.parquet") as refused:
        list(read_events(path, tmp_path / "map.toml"))
    assert "jansen" not in str(refused.value)

"""Files of events as batches of NDJSON lines: NDJSON itself (plain, .gz, .zst), CSV and Parquet with a mapping.

A mapping is a TOML file of SQL expressions over the columns of the file, one per attribute of the event::

    [event]
    id = "row"
    source = "'reviews'"
    time = "date"
    subject = "reviewer"

    [data]
    feature = "'vendor' || vendor"

``row`` is the row's number. ``type`` is ``usage.feature.used.v1`` where it is not given; ``time`` is a timestamp in
UTC.
"""

import gzip
import io
import tomllib
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import zstandard

from pipeline.core.events import MAX_EVENT
from pipeline.settings import SettingsError

BATCH_EVENTS = 500
BATCH_BYTES = 512 << 10


class Lines(NamedTuple):
    """A record's worth of events, one a line; ``oversized``: how many were too large to be sent at all."""

    value: bytes
    events: int
    oversized: int
    read: int  # bytes of the file behind them, for progress


def read_events(path: Path, mapping: Path | None = None, batch: int = BATCH_EVENTS) -> Iterator[Lines]:
    """The events of a file, in order. Raises :class:`SettingsError` where the file needs a mapping and has none."""
    suffixes = path.suffixes
    if ".csv" in suffixes or ".parquet" in suffixes:
        if mapping is None:
            raise SettingsError(f"{path.name} needs --map FILE: which column is what (`headcount replay --help`)")
        yield from _batches(_mapped(path, mapping), batch)
        return
    with path.open("rb") as raw:
        try:
            yield from _batches(_lines(_decompress(raw, path.suffix), raw), batch)
        except (OSError, EOFError, zlib.error, zstandard.ZstdError):
            raise SettingsError(
                f"{path.name} is damaged, or not what its name says: nothing after it was read"
            ) from None


def read_stream(stream: BinaryIO, batch: int = BATCH_EVENTS) -> Iterator[Lines]:
    """The events of an open NDJSON stream, in order."""
    yield from _batches(_lines(stream, None), batch)


def _decompress(raw: BinaryIO, suffix: str) -> BinaryIO:
    if suffix == ".gz":
        return cast(BinaryIO, gzip.open(raw, "rb"))
    if suffix == ".zst":
        return cast(BinaryIO, io.BufferedReader(_Zstandard(raw)))
    return raw


class _Zstandard(io.RawIOBase):
    """All frames of a file. Raises ``EOFError`` where the last is cut off, which the library's own reader does not."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._frame.unused_data if self._frame.eof else b""
            packed = packed or self._raw.read(128 << 10)
            if self._frame.eof:
                self._frame, self._begun = zstandard.ZstdDecompressor().decompressobj(), False
            if not packed:
                if self._begun:
                    raise EOFError
                return 0
            self._ready, self._begun = self._frame.decompress(packed), True
        taken = self._ready[: len(buffer)]
        buffer[: len(taken)] = taken
        self._ready = self._ready[len(taken) :]
        return len(taken)


def _lines(stream: BinaryIO, raw: BinaryIO | None) -> Iterator[tuple[bytes | None, int]]:
    """Each line that is not blank, ``None`` for one over the limit: it is skipped without being held in memory."""
    while line := stream.readline(MAX_EVENT + 2):
        position = raw.tell() if raw is not None else 0
        if len(line) > MAX_EVENT + 1 and not line.endswith(b"\n"):
            while (rest := stream.readline(1 << 20)) and not rest.endswith(b"\n"):
                pass
            yield None, position
        elif stripped := line.strip():
            yield stripped, position


def _mapped(path: Path, mapping: Path) -> Iterator[tuple[bytes | None, int]]:
    import duckdb

    try:
        tables = tomllib.loads(mapping.read_text())
        event = {"type": "'usage.feature.used.v1'", **tables["event"]}
        time = event.pop("time")
        data = tables["data"]
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise SettingsError(
            f"{mapping}: a mapping has [event] with id, source and time, and [data] ({error})"
        ) from None
    attributes = [
        "'specversion', '1.0'",
        f"'time', strftime(TRY_CAST(({time}) AS TIMESTAMP), '%Y-%m-%dT%H:%M:%SZ')",
    ]
    attributes += [f"'{name}', CAST(({sql}) AS VARCHAR)" for name, sql in event.items()]
    members = ", ".join(f"'{name}', ({sql})" for name, sql in data.items())
    reader = "read_parquet" if ".parquet" in path.suffixes else "read_csv"
    query = (
        f"SELECT CAST(json_object({', '.join(attributes)}, 'data', json_object({members})) AS VARCHAR) "
        f"FROM (SELECT *, row_number() OVER () AS row FROM {reader}(?))"
    )
    with duckdb.connect() as connection:
        connection.execute("SET temp_directory = ''")  # nothing of an event is ever spilled to a disk
        try:
            cursor = connection.execute(query, [str(path)])
            while rows := cursor.fetchmany(10_000):
                for (text,) in rows:
                    yield text.encode(), 0
        except duckdb.Error as error:  # its text quotes rows
            raise SettingsError(
                f"{mapping} does not fit {path.name}: {type(error).__name__} in one of its expressions"
            ) from None


def _batches(lines: Iterable[tuple[bytes | None, int]], batch: int) -> Iterator[Lines]:
    held: list[bytes] = []
    size = oversized = position = 0
    for line, position in lines:
        if line is None:
            oversized += 1
            continue
        held.append(line)
        size += len(line)
        if len(held) >= batch or size >= BATCH_BYTES:
            yield Lines(b"\n".join(held), len(held), oversized, position)
            held, size, oversized = [], 0, 0
    if held or oversized:
        yield Lines(b"\n".join(held), len(held), oversized, position)

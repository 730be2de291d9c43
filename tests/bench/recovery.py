"""``python -m tests.bench.recovery 1000000 5000000``: how long from a kill to caught up, with a checkpoint and without.

So many rows are folded into the open windows of a day, a week and a month, and a checkpoint is written; then a new
state is made, from the log's values and from the files. The broker is not in it: fetching the log's bytes comes on top.
"""

import asyncio
import os
import secrets
import sys
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pipeline.core.contributions import Contributions, WindowColumns, encode_contribution
from pipeline.core.events import Record
from pipeline.core.pseudonyms import PSEUDONYM_BYTES
from pipeline.core.windows import day_of, window_of
from pipeline.declarations import read_declarations
from pipeline.settings import Settings
from pipeline.stream.checkpoints import Checkpoints
from pipeline.stream.tallying import TallyHop
from pipeline.stream.topics import CONTRIBUTIONS
from pipeline.stream.transport import Batch
from pipeline.testing import MemoryKeyStore

ROWS_A_RECORD = 500
RECORDS_A_FETCH = 200
VALUES_A_DIMENSION = 40
CELLS = 5_000
EVENTS_A_SUBJECT = 20
DAY = day_of(date(2026, 5, 6))
DECLARED = read_declarations(Settings(), date(2026, 11, 1))


def record_of(number: int, subjects: int) -> bytes:
    """One record of contributions: rows of random subjects, cells and tokens."""
    rows, draw = ROWS_A_RECORD, np.random.default_rng(number)
    who = draw.integers(0, subjects, rows).astype("<u8")
    names = [[b"%d-%d" % (d, v) for v in range(VALUES_A_DIMENSION)] for d in range(len(DECLARED.plan.finest))]
    cells = (draw.pareto(1.0, rows) * 20).astype(np.int64) % CELLS  # a few are met often, most rarely
    places = [((cells * (2 * d + 3)) % (CELLS + d) % VALUES_A_DIMENSION).astype("<i4") for d in range(len(names))]
    columns = []
    for kind in DECLARED.plan.kinds:
        start = window_of(kind, DAY).start
        words = np.stack([who * np.uint64(0x9E3779B97F4A7C15), who], axis=1)
        assert words.itemsize * 2 == PSEUDONYM_BYTES
        columns.append(window_columns(kind, words.tobytes(), start, names, places))
    return encode_contribution(
        Contributions(
            partition=0,
            last=number,
            offsets=np.full(rows, number, dtype="<i8").tobytes(),
            indexes=np.arange(rows, dtype="<i4").tobytes(),
            tokens=os.urandom(8 * rows),
            known=bytes([1]) * rows,
            windows=columns,
        )
    )


def window_columns(kind: Any, words: bytes, start: int, names: list[list[bytes]], places: list[Any]) -> WindowColumns:
    cells = np.concatenate([np.zeros(ROWS_A_RECORD, dtype="<i4"), *places]).tobytes()
    return WindowColumns(kind, words, [(start, 0)], [[(start, name) for name in each] for each in names], cells)


async def nowhere(*_: object) -> None:
    """What is sent goes."""


def hop(checkpoints: Checkpoints | None) -> TallyHop:
    return TallyHop(DECLARED.plan, nowhere, partitions=1, bounded=True, checkpoints=checkpoints, every=1e9)


def fold(to: TallyHop, log: list[bytes]) -> float:
    """Seconds."""
    began = time.perf_counter()
    for start in range(0, len(log), RECORDS_A_FETCH):
        fetched = enumerate(log[start : start + RECORDS_A_FETCH], start)
        batch = Batch(CONTRIBUTIONS, 0, start, [Record(offset, 0.0, (), value) for offset, value in fetched])
        asyncio.run(to.handle(batch))
    return time.perf_counter() - began


def measure(rows: int, directory: Path) -> None:
    log = [record_of(number, max(1, rows // EVENTS_A_SUBJECT)) for number in range(rows // ROWS_A_RECORD)]
    checkpoints = Checkpoints(directory, MemoryKeyStore(secrets.token_hex(32)), DECLARED.plan, "", bounded=True)
    first = hop(checkpoints)
    first.begin(0, 0, None)
    without = fold(first, log)
    state = first.assigned[0].state
    held = state.seen.nbytes + sum(window.nbytes for window in state.windows.values())
    began = time.perf_counter()
    checkpoints.write(state, len(log))
    written = time.perf_counter() - began
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    began = time.perf_counter()
    assert hop(checkpoints).begin(0, 0, 0) == len(log)
    read = time.perf_counter() - began
    print(
        f"{rows:>12,} rows: from the log {without:6.1f} s ({sum(map(len, log)) >> 20:,} MiB), "
        f"from a checkpoint {read:5.2f} s ({size >> 20:,} MiB, written in {written:.2f} s); state {held >> 20:,} MiB"
    )


if __name__ == "__main__":
    for given in sys.argv[1:] or ("1000000", "5000000"):
        with TemporaryDirectory(prefix="headcount-recovery-") as temporary:
            measure(int(given), Path(temporary))

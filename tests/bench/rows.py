"""Rows of contributions by chance, in a day, a week and a month that stay open."""

import os
from datetime import date

import numpy as np

from pipeline.core.contributions import Contributions, WindowColumns, encode_contribution
from pipeline.core.pseudonyms import PSEUDONYM_BYTES
from pipeline.core.windows import day_of, window_of
from pipeline.declarations import read_declarations
from pipeline.replay import PARTITIONS
from pipeline.settings import Settings

ROWS_A_RECORD = 500
VALUES_A_DIMENSION = 40
CELLS = 5_000
DAY = day_of(date(2026, 5, 6))
PLAN = read_declarations(Settings(), date(2026, 11, 1)).plan
NAMES = [[b"%d-%d" % (d, v) for v in range(VALUES_A_DIMENSION)] for d in range(len(PLAN.finest))]


def record_of(number: int, subjects: int) -> bytes:
    """One record of contributions: rows of random subjects of its partition, of random cells, with random tokens."""
    rows, draw = ROWS_A_RECORD, np.random.default_rng(number)
    who = (draw.integers(0, subjects, rows) * PARTITIONS + number % PARTITIONS).astype("<u8")
    words = np.stack([who * np.uint64(0x9E3779B97F4A7C15), who], axis=1)
    assert words.itemsize * 2 == PSEUDONYM_BYTES
    cells = (draw.pareto(1.0, rows) * 20).astype(np.int64) % CELLS  # a few are met often, most rarely
    places = [((cells * (2 * d + 3)) % (CELLS + d) % VALUES_A_DIMENSION).astype("<i4") for d in range(len(NAMES))]
    columns = np.concatenate([np.zeros(rows, dtype="<i4"), *places]).tobytes()
    starts = [(kind, window_of(kind, DAY).start) for kind in PLAN.kinds]
    return encode_contribution(
        Contributions(
            partition=0,
            last=number,
            offsets=np.full(rows, number, dtype="<i8").tobytes(),
            indexes=np.arange(rows, dtype="<i4").tobytes(),
            tokens=os.urandom(8 * rows),
            known=bytes([1]) * rows,
            windows=[
                WindowColumns(
                    kind, words.tobytes(), [(start, 0)], [[(start, name) for name in names] for names in NAMES], columns
                )
                for kind, start in starts
            ],
        )
    )

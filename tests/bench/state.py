"""What the open state takes, and whether its cost is linear: the fold is fed with pseudonyms of chance, no broker."""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from pipeline.core.counting import WindowState
from pipeline.core.numbers import mix
from tests.bench.common import peak_rss_mb

CELLS = 720  # of the job
PAIRS_EACH = 5  # pairs of a subject


def window_of(pairs: int, batch: int = 4_000) -> WindowState:
    """An open window with so many distinct pairs, each met twice."""
    state = WindowState(3)
    for dimension, size in enumerate((40, 3, 6)):
        for value in range(size):
            state.code(dimension, b"%d" % value)
    for number in np.array_split(np.arange(2 * pairs) % pairs, max(1, 2 * pairs // batch)):
        subjects = (number // PAIRS_EACH).astype(np.uint64)
        words = np.stack([mix(subjects + np.uint64(1)), mix(subjects + np.uint64(1 << 40))], axis=1)
        cell = (mix(subjects) % np.uint64(CELLS)).astype(np.int64) + number % PAIRS_EACH
        codes = [np.zeros(len(number)), cell // 18 % 40, cell // 6 % 3, cell % 6]
        state.add(words, np.stack(codes, axis=1).astype(np.int32), np.ones(len(number), dtype=bool))
    state.settle()
    return state


def cost(pairs: int) -> tuple[int, int, float, float]:
    """The pairs, bytes, CPU seconds, and the peak MB of this process."""
    began = time.process_time()
    state = window_of(pairs)
    return pairs, state.nbytes, time.process_time() - began, peak_rss_mb()


def measure() -> str:
    """A table of sizes and CPU seconds."""
    lines = [
        "## Open state",
        "",
        f"{PAIRS_EACH} pairs a subject, two events a pair. Bytes a pair are those of pairs, subjects and cells; the",
        "tokens that find duplicates take 14 to 28 bytes an event of the shortest window beside them.",
        "",
        "| pairs | MB | bytes a pair | CPU s per million rows | peak MB of a process |",
        "|---|---|---|---|---|",
    ]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as fresh:
        for pairs, size, spent, peak in fresh.map(cost, (250_000, 2_500_000, 10_000_000)):
            lines.append(
                f"| {pairs:,} | {size / 1e6:.0f} | {size / pairs:.1f} | {spent / 2 / pairs * 1e6:.2f} | {peak:.0f} |"
            )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(measure())

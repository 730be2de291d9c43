"""A partition's state as columns of bytes: one part a window, so that each can be sealed under the window's own key.

``restore(save(state)) == state``: what is folded after it is counted as if nothing had happened in between.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from pipeline.core.bounding import Pairs
from pipeline.core.contributions import Progress
from pipeline.core.counting import WindowState
from pipeline.core.statistics import Plan
from pipeline.core.tallies import PartitionState, Seen
from pipeline.core.windows import Window, window_named

FORMAT = 1  # raise it when what is below, or the state itself, changes


class SavedWindow(msgspec.Struct, frozen=True):
    """One open window. Pseudonyms, sealed values and tokens are in it: personal, like contributions."""

    accepted: int
    values: list[list[bytes]]
    cells: bytes  # uint64, rows of ``width``
    width: int
    anonymous: bytes  # int64 a cell
    subjects: bytes  # two uint64 a subject
    pairs: bytes  # uint64 a pair
    counts: bytes  # uint32 a pair
    tokens: bytes  # uint64 an event; in windows of the shortest kind only


class SavedPartition(msgspec.Struct, frozen=True):
    """What the windows have in common: how far the log is folded (``offset``), and what it said. Nothing personal."""

    format: int
    log: str  # the topic's identity: one that was made anew is another
    shape: str  # of the rows
    partition: int
    partitions: int
    offset: int
    next: dict[int, int]
    progress: list[Progress]
    closed: int | None
    windows: list[str]


def shape_of(plan: Plan) -> str:
    """What a state of another plan would differ in."""
    return f"{','.join(plan.kinds)}/{','.join(plan.finest)}"


def save(state: PartitionState, log: str, offset: int) -> SavedPartition:
    """All but the windows."""
    return SavedPartition(
        FORMAT,
        log,
        shape_of(state.plan),
        state.partition,
        state.partitions,
        offset,
        dict(state.next),
        list(state.progress.values()),
        state.closed,
        [window.name for window in sorted(state.windows)],
    )


def save_window(state: PartitionState, window: Window) -> SavedWindow:
    """One of its windows."""
    open_window = state.windows[window]
    _, values, anonymous = open_window.finest()
    cells = open_window.packed()
    subjects, pairs, counts = open_window.pairs.save()
    tokens = state.seen.of(window.start).tobytes() if window.kind == state.plan.kinds[0] else b""
    return SavedWindow(
        open_window.accepted,
        values,
        cells.tobytes(),
        cells.shape[1],
        anonymous.tobytes(),
        subjects.tobytes(),
        pairs.tobytes(),
        counts.tobytes(),
        tokens,
    )


def restore(
    saved: SavedPartition, windows: Mapping[Window, SavedWindow], plan: Plan, *, bounded: bool
) -> PartitionState:
    """The state. Raises ``ValueError`` where the parts do not fit one another."""
    if {window_named(name) for name in saved.windows} != set(windows):
        raise ValueError("windows are missing")
    state = PartitionState(saved.partition, saved.partitions, plan, bounded=bounded)
    state.next, state.closed = dict(saved.next), saved.closed
    state.progress = {word.partition: word for word in saved.progress}
    for window, each in windows.items():
        words = np.frombuffer(each.subjects, dtype="<u8").reshape(-1, 2)
        pairs = Pairs.made_of(words, _column(each.pairs, "<u8"), _column(each.counts, "<u4"))
        cells = _column(each.cells, "<u8").reshape(-1, each.width)
        state.windows[window] = WindowState.made_of(
            each.accepted, pairs, cells, each.values, _column(each.anonymous, "<i8")
        )
    shortest = plan.kinds[0]
    state.seen = Seen.made_of((w.start, _column(e.tokens, "<u8")) for w, e in windows.items() if w.kind == shortest)
    return state


def _column(data: bytes, kind: str) -> Any:
    """A copy that may be written to."""
    return np.frombuffer(data, dtype=kind).copy()

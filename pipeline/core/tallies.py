"""The second hop's state: a fold over contributions that can be thrown away and made again from the log.

``empty → fold → close``. Folding skips what it has folded (by provenance) and what it has seen (by token), so
duplicates, restarts and re-cut batches change nothing. Closing bounds each subject on that subject's data alone and
gives a
:class:`Tally`, in which no pseudonym is left.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from hashlib import blake2b

import msgspec
import numpy as np

from pipeline.core.bounding import Pairs, bound
from pipeline.core.contributions import Codes, Contributions, Flags, Ints, Progress, WindowColumns, Words
from pipeline.core.outcomes import Reason, Rejection
from pipeline.core.statistics import Plan, histogram_labels
from pipeline.core.windows import Kind, Window, day_of, window_of, windows_between

Cell = tuple[bytes, ...]

FOREVER = day_of(date.max)  # the last day that a calendar knows: "everything was sent"


class StatisticTally(msgspec.Struct, frozen=True):
    """Exact counts of one statistic: one entry a cell in each list, and the totals. Small counts: operators only."""

    cells: list[Cell]
    users: list[int]
    events: list[int]
    total_users: int
    total_events: int


class Tally(msgspec.Struct, frozen=True, kw_only=True, tag="tally"):
    """What one partition counted in one closed window. No pseudonym.

    ``partition`` of ``partitions``; ``window``: its name; ``accepted``: the rows that were counted.
    """

    partition: int
    partitions: int
    window: str
    accepted: int
    statistics: dict[str, StatisticTally]


class Closed(msgspec.Struct, frozen=True, kw_only=True, tag="closed"):
    """A partition's word that it has given out the tallies of every window that ends by day ``closed``.

    ``since``: its word before this one, ``None`` for its first. ``windows``: the names of those given out in between.
    """

    partition: int
    partitions: int
    closed: int
    since: int | None = None
    windows: list[str] = []


@dataclass
class WindowState:
    """One open window: the finest cells met so far, and the rows as (pseudonym, cell) pairs with their number of
    events.
    """

    codes: dict[tuple[int, Cell], int] = field(default_factory=dict)  # part of the window, cell → code
    pairs: Pairs = field(default_factory=Pairs)
    anonymous: dict[int, int] = field(default_factory=dict)  # cell → events without a subject
    tokens: set[bytes] = field(default_factory=set)
    accepted: int = 0

    def code(self, part: int, cell: Cell) -> int:
        return self.codes.setdefault((part, cell), len(self.codes))

    def add(self, words: Words, codes: Ints, known: Flags) -> None:
        """Adds rows: pseudonyms (rows × 2), codes of cells, and whether anyone is known."""
        self.accepted += len(codes)
        self.pairs.append(words[known], codes[known])
        for code in codes[~known].tolist():
            self.anonymous[code] = self.anonymous.get(code, 0) + 1


class PartitionState:
    """All open windows of one partition of contributions.

    ``next``: per source partition, the first offset that is not folded yet. ``progress``: per source partition, its
    word. ``closed``: windows that end by this day were given out.
    """

    def __init__(self, partition: int, partitions: int, plan: Plan, *, bounded: bool = True) -> None:
        self.partition = partition
        self.partitions = partitions
        self.plan = plan
        self.bounded = bounded
        self.next: dict[int, int] = {}
        self.progress: dict[int, Progress] = {}
        self.windows: dict[Window, WindowState] = {}
        self.closed: int | None = None

    def fold(self, batch: Contributions) -> list[Rejection]:
        """Adds a batch; returns the rows that were not counted: duplicates, and rows of windows that are closed."""
        offsets = np.frombuffer(batch.offsets, dtype="<i8")
        first = int(np.searchsorted(offsets, self.next.get(batch.partition, 0)))
        self.next[batch.partition] = max(self.next.get(batch.partition, 0), batch.last + 1)
        if first == len(offsets):
            return []
        keep = np.ones(len(offsets), dtype=bool)
        keep[:first] = False
        reasons = dict.fromkeys(self._closed_rows(batch.windows[0], keep), Reason.LATE)
        keep[list(reasons)] = False
        reasons |= dict.fromkeys(self._duplicates(batch, keep), Reason.DUPLICATE)
        keep[list(reasons)] = False
        known = np.frombuffer(batch.known, dtype=bool)
        for columns in batch.windows:
            self._add(columns, keep, known)
        indexes = np.frombuffer(batch.indexes, dtype="<i4")
        return [
            Rejection(reason, batch.partition, int(offsets[row]), int(indexes[row]))
            for row, reason in sorted(reasons.items())
        ]

    def advance(self, progress: Progress) -> Iterator[Tally | Closed]:
        """Takes a source partition's word; gives the tallies of the windows that every source partition has passed."""
        known = self.progress.get(progress.partition)
        if known is None or progress.closed > known.closed:
            self.progress[progress.partition] = progress
        if len(self.progress) < progress.partitions:
            return
        closed = min(word.closed for word in self.progress.values())
        if self.closed is not None and closed <= self.closed:
            return
        due = self._due(progress.since, progress.until, closed)
        for window in due:
            yield self._close(window)
        since, self.closed = self.closed, closed
        yield Closed(
            partition=self.partition,
            partitions=self.partitions,
            closed=closed,
            since=since,
            windows=[window.name for window in due],
        )

    def _due(self, since: int | None, until: int | None, closed: int) -> list[Window]:
        """The windows that end by ``closed`` and were not given out yet, empty ones included, in order.

        They are those of the declared days ``[since, until)``; without a declaration, those between the first and
        the last event: then a window's existence depends on the data, which is for replays of files only.
        """
        due = {window for window in self.windows if window.end <= closed}
        for kind in self.plan.kinds:
            met = [window for window in due if window.kind == kind]
            first = min((window.start for window in met), default=None) if since is None else since
            last = max((window.end for window in met), default=None) if until is None and closed >= FOREVER else until
            if first is None or (last is None and closed >= FOREVER):
                continue
            start = first if self.closed is None else max(first, self.closed)
            end = closed if last is None else min(last, closed)
            due.update(window for window in windows_between(kind, start, end) if window.end <= closed)
        return sorted(due)

    def _close(self, window: Window) -> Tally:
        state = self.windows.pop(window, None) or WindowState()
        return Tally(
            partition=self.partition,
            partitions=self.partitions,
            window=window.name,
            accepted=state.accepted,
            statistics={
                name: count_statistic(self.plan, name, window.kind, state, bounded=self.bounded)
                for name in self.plan.of(window.kind)
            },
        )

    def _closed_rows(self, columns: WindowColumns, keep: Flags) -> list[int]:
        """Rows whose shortest window was given out already: their source broke its word, or its clock."""
        if self.closed is None:
            return []
        gone = np.array([window_of(columns.kind, s).end <= self.closed for s, _, _ in columns.dictionary], dtype=bool)
        if not gone.any():
            return []
        return np.flatnonzero(gone[columns.codes()] & keep).tolist()

    def _duplicates(self, batch: Contributions, keep: Flags) -> list[int]:
        """Rows whose token the shortest window has seen; remembers those of the others."""
        columns = batch.windows[0]
        codes = columns.codes()
        states = self._states(columns, codes[keep])
        tokens = batch.tokens
        repeated = []
        for row in np.flatnonzero(keep).tolist():
            seen = states[codes[row]].tokens
            token = tokens[8 * row : 8 * row + 8]
            if token in seen:
                repeated.append(row)
            else:
                seen.add(token)
        return repeated

    def _add(self, columns: WindowColumns, keep: Flags, known: Flags) -> None:
        places = columns.codes()
        codes = np.zeros(len(columns.dictionary), dtype=np.int64)
        starts = np.zeros(len(columns.dictionary), dtype=np.int64)
        for place, state in self._states(columns, places[keep]).items():
            start, part, cell = columns.dictionary[place]
            starts[place], codes[place] = start, state.code(part, cell)
        for start in np.unique(starts[places[keep]]).tolist():
            rows = keep & (starts == start)[places]
            self._state(columns.kind, start).add(columns.words()[rows], codes[places[rows]], known[rows])

    def _states(self, columns: WindowColumns, used: Codes) -> dict[int, WindowState]:
        """The state of the window of each entry of the dictionary that rows use; no row, no window."""
        return {place: self._state(columns.kind, columns.dictionary[place][0]) for place in np.unique(used).tolist()}

    def _state(self, kind: Kind, start: int) -> WindowState:
        window = window_of(kind, start)
        state = self.windows.get(window)
        if state is None:
            state = self.windows[window] = WindowState()
        return state


def count_statistic(plan: Plan, name: str, kind: Kind, state: WindowState, *, bounded: bool) -> StatisticTally:
    """The exact counts of one statistic in one window, each subject held to its bounds."""
    statistic = plan.statistics[name]
    places = plan.places(statistic)
    cells: dict[Cell, int] = {}
    projection = np.full(len(state.codes), -1, dtype=np.int64)  # code → cell of the statistic, -1: none
    parts = np.zeros(len(state.codes), dtype=np.int64)  # code → part of the window
    for (part, finest), code in state.codes.items():
        parts[code] = part
        cell = tuple([finest[place] for place in places])
        if all(cell) or not cell:
            projection[code] = cells.setdefault(cell, len(cells))
    if statistic.histogram:
        return _histogram(state, statistic.histogram)
    most = statistic.cells(kind) if bounded else None
    subjects, where, events = bound(state.pairs, projection, parts, _hashes(cells), most)
    if bounded:
        events = np.minimum(events, statistic.bound("events", kind))
    users_of = np.bincount(where, minlength=len(cells))
    events_of = np.zeros(len(cells), dtype=np.int64)
    np.add.at(events_of, where, events)
    for code, n in state.anonymous.items():  # event-level: each is one event and nobody's
        if projection[code] >= 0:
            events_of[projection[code]] += n
    shown = np.flatnonzero(users_of + events_of)
    names = list(cells)
    return StatisticTally(
        cells=[names[cell] for cell in shown.tolist()],
        users=users_of[shown].tolist(),
        events=events_of[shown].tolist(),
        total_users=len(np.unique(subjects)),
        total_events=int(events_of.sum()),
    )


def _histogram(state: WindowState, edges: tuple[int, ...]) -> StatisticTally:
    """Subjects by their number of events: each fills one bucket."""
    subjects, _, _, counts = state.pairs.columns()
    per_subject = np.zeros(int(subjects[-1]) + 1 if len(subjects) else 0, dtype=np.int64)
    np.add.at(per_subject, subjects, counts)
    buckets = np.bincount(np.searchsorted(edges, per_subject, side="right") - 1, minlength=len(edges))
    labels = histogram_labels(edges)
    return StatisticTally(
        cells=[(label.encode(),) for label in labels],
        users=buckets.tolist(),
        events=[0] * len(labels),
        total_users=len(per_subject),
        total_events=int(counts.sum()),
    )


def _hashes(cells: dict[Cell, int]) -> Words:
    """A hash of each cell by its name, so that the choice of cells does not depend on the order of arrival."""
    return np.array(
        [
            int.from_bytes(blake2b(b"".join(len(v).to_bytes(2) + v for v in cell), digest_size=8).digest())
            for cell in cells
        ],
        dtype=np.uint64,
    )

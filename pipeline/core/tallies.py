"""The second hop's state: a fold over contributions that can be thrown away and made again from the log.

``empty → fold → close``. Folding skips what it has folded (by provenance) and what it has seen (by token), so
duplicates, restarts and re-cut batches change nothing. Closing bounds each subject on that subject's data alone and
gives a
:class:`Tally`, in which no pseudonym is left.
"""

from collections.abc import Iterable, Iterator
from datetime import date

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.core.contributions import Contributions, Progress, WindowColumns
from pipeline.core.counting import StatisticTally, WindowState, count_statistic
from pipeline.core.numbers import Flags, Ints, Numbers, Words, first_met, mix
from pipeline.core.outcomes import Reason, Rejection
from pipeline.core.statistics import Plan
from pipeline.core.windows import Window, day_of, window_of, windows_between

FOREVER = day_of(date.max)  # the last day that a calendar knows: "everything was sent"


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


class Seen:
    """The tokens of the events that were counted, until their window is given out. 14 to 28 bytes an event."""

    def __init__(self) -> None:
        self._tokens = Numbers(1)
        self._starts = np.empty(0, dtype=np.int32)  # per token: the first day of its window, or of room to spare

    @property
    def nbytes(self) -> int:
        return self._tokens.nbytes + self._starts.nbytes

    def of(self, start: int) -> Words:
        """What is remembered of the window that begins on this day."""
        count = len(self._tokens)
        tokens: Words = self._tokens.keys[self._starts[:count] == start, 0]
        return tokens

    @classmethod
    def made_of(cls, remembered: Iterable[tuple[int, Words]]) -> "Seen":
        """From what :meth:`of` gave for each day."""
        made, parts = cls(), [(start, tokens) for start, tokens in remembered if len(tokens)]
        if parts:
            made._tokens = Numbers.made_of(np.concatenate([tokens for _, tokens in parts]).reshape(-1, 1))
            made._starts = np.concatenate([np.full(len(tokens), start, dtype=np.int32) for start, tokens in parts])
        return made

    def add(self, tokens: Words, starts: Ints) -> Flags:
        """Remembers tokens of windows that begin on these days; which of the rows were not seen before."""
        known = len(self._tokens)
        fresh = first_met(self._tokens.of((tokens ^ mix(starts.astype(np.uint64))).reshape(-1, 1)), known)
        count = len(self._tokens)
        if count > len(self._starts):
            room = np.empty(max(1024, count // 4), dtype=np.int32)
            self._starts = np.concatenate([self._starts[:known], np.empty(count - known, np.int32), room])
        self._starts[known:count] = starts[fresh]
        return fresh

    def forget(self, starts: list[int]) -> None:
        """The windows that begin on these days are given out."""
        count = len(self._tokens)
        kept = ~np.isin(self._starts[:count], starts)
        if not kept.all():
            tokens, self._tokens = self._tokens.keys[kept], Numbers(1)
            self._tokens.of(tokens)
            self._starts = self._starts[:count][kept]


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
        self.seen = Seen()
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
        rows = np.flatnonzero(keep)
        if len(rows):
            known = np.frombuffer(batch.known, dtype=bool)[rows]
            for columns in batch.windows:
                self._add(columns, rows, known)
        if not reasons:
            return []
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
        self.seen.forget([window.start for window in due if window.kind == self.plan.kinds[0]])
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
        state = self.windows.pop(window, None) or WindowState(len(self.plan.finest))
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
        gone = np.array([window_of(columns.kind, start).end <= self.closed for start, _ in columns.windows], dtype=bool)
        if not gone.any():
            return []
        rows: list[int] = np.flatnonzero(gone[columns.places()[0]] & keep).tolist()
        return rows

    def _duplicates(self, batch: Contributions, keep: Flags) -> list[int]:
        """Rows whose token the shortest window has seen; remembers those of the others."""
        rows = np.flatnonzero(keep)
        columns = batch.windows[0]
        starts = np.array([start for start, _ in columns.windows], dtype=np.int64)
        tokens = np.frombuffer(batch.tokens, dtype="<u8")
        fresh = self.seen.add(tokens[rows], starts[columns.places()[0][rows]])
        repeated: list[int] = rows[~fresh].tolist()
        return repeated

    def _add(self, columns: WindowColumns, rows: Ints, known: Flags) -> None:
        """Adds these rows to the states of their windows. No row, no window."""
        places = columns.places()[:, rows]
        states: dict[int, WindowState] = {}
        numbers = np.zeros(len(columns.windows), dtype=np.int64)  # place of a window → its state's
        cells = np.empty((len(rows), len(places)), dtype=np.int32)
        for place in _used(places[0], len(columns.windows)):
            start = columns.windows[place][0]
            if start not in states:
                states[start] = self._state(window_of(columns.kind, start), len(columns.values))
            numbers[place] = list(states).index(start)
        parts = np.array([part for _, part in columns.windows], dtype=np.int32)
        cells[:, 0] = parts[places[0]]
        for dimension, met in enumerate(columns.values):
            codes = np.zeros(len(met), dtype=np.int32)
            for place in _used(places[1 + dimension], len(met)):
                start, value = met[place]
                codes[place] = states[start].code(dimension, value)
            cells[:, 1 + dimension] = codes[places[1 + dimension]]
        words = columns.words()[rows]
        if len(states) == 1:
            (state,) = states.values()
            state.add(words, cells, known)
            return
        of = numbers[places[0]]
        order = np.argsort(of, kind="stable")
        words, cells, known = words[order], cells[order], known[order]
        ends = np.searchsorted(of[order], np.arange(len(states) + 1)).tolist()
        for state, begin, end in zip(states.values(), ends[:-1], ends[1:], strict=True):
            state.add(words[begin:end].copy(), cells[begin:end].copy(), known[begin:end].copy())

    def _state(self, window: Window, dimensions: int) -> WindowState:
        state = self.windows.get(window)
        if state is None:
            state = self.windows[window] = WindowState(dimensions)
        return state


def _used(places: npt.NDArray[np.int32], size: int) -> list[int]:
    """Which places occur, in order."""
    used = np.zeros(size, dtype=bool)
    used[places] = True
    found: list[int] = np.flatnonzero(used).tolist()
    return found

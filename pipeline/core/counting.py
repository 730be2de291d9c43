"""What one open window holds, and the exact counts that come of it when it closes."""

from hashlib import blake2b
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.core.bounding import Pairs, bound
from pipeline.core.numbers import Flags, Ints, Numbers, Words, mix_all
from pipeline.core.statistics import Plan, histogram_labels
from pipeline.core.windows import Kind

Cell = tuple[bytes, ...]
Codes = npt.NDArray[np.int32]

_WAITING = 1 << 11  # rows that may wait before they are numbered: a batch may touch hundreds of windows


class StatisticTally(msgspec.Struct, frozen=True):
    """Exact counts of one statistic: one entry a cell in each list, and the totals. Small counts: operators only."""

    cells: list[Cell]
    users: list[int]
    events: list[int]
    total_users: int
    total_events: int


class WindowState:
    """One open window: the finest cells met so far, and the rows as (pseudonym, cell) pairs with their number of
    events.

    A finest cell is its part of the window and one code a dimension; codes are per window, in order of arrival.
    """

    def __init__(self, dimensions: int) -> None:
        self.accepted = 0
        self.pairs = Pairs()
        self._values: list[dict[bytes, int]] = [{} for _ in range(dimensions)]
        self._cells = Numbers(_words_for(1 + dimensions))
        self._anonymous: Ints = np.zeros(0, dtype=np.int64)  # cell → events without a subject
        self._waiting: list[tuple[Words, Codes, Flags]] = []
        self._rows = 0

    @property
    def nbytes(self) -> int:
        """What the columns take; the values of dimensions and what waits come to little beside them."""
        return self.pairs.nbytes + self._cells.nbytes + self._anonymous.nbytes

    @classmethod
    def made_of(cls, accepted: int, pairs: Pairs, cells: Words, values: list[list[bytes]], anonymous: Ints) -> Self:
        """From what :meth:`finest` and the pairs gave; ``cells``: as they are packed."""
        made = cls(len(values))
        made.accepted, made.pairs, made._anonymous = accepted, pairs, anonymous
        made._cells = Numbers.made_of(cells)
        made._values = [{value: code for code, value in enumerate(each)} for each in values]
        return made

    def packed(self) -> Words:
        """All finest cells by their code, in words."""
        self.settle()
        return self._cells.keys

    def code(self, dimension: int, value: bytes) -> int:
        """The code of a dimension's value."""
        codes = self._values[dimension]
        return codes.setdefault(value, len(codes))

    def add(self, words: Words, cells: Codes, known: Flags) -> None:
        """Adds rows, whose arrays it keeps: pseudonyms (rows × 2), cells (rows × (part, codes)), is anyone known."""
        self.accepted += len(known)
        self._waiting.append((words, cells, known))
        self._rows += len(known)
        if self._rows > _WAITING:
            self.settle()

    def settle(self) -> None:
        """Numbers the rows that wait."""
        if not self._waiting:
            return
        words, cells, known = (np.concatenate(columns) for columns in zip(*self._waiting, strict=True))
        self._waiting, self._rows = [], 0
        codes = self._cells.of(_packed(cells))
        if known.all():
            self.pairs.append(words, codes)
            return
        self.pairs.append(words[known], codes[known])
        anonymous = np.bincount(codes[~known], minlength=len(self._cells))
        anonymous[: len(self._anonymous)] += self._anonymous
        self._anonymous = anonymous

    def finest(self) -> tuple[Codes, list[list[bytes]], Ints]:
        """All finest cells by their code (cells × (part, codes)), the values behind the codes of each dimension, and
        how many events without a subject each cell has.
        """
        self.settle()
        cells = self._cells.keys.view(np.int32)[:, : 1 + len(self._values)]
        anonymous = np.zeros(len(cells), dtype=np.int64)
        anonymous[: len(self._anonymous)] = self._anonymous
        return cells, [list(codes) for codes in self._values], anonymous


def count_statistic(plan: Plan, name: str, kind: Kind, state: WindowState, *, bounded: bool) -> StatisticTally:
    """The exact counts of one statistic in one window, each subject held to its bounds."""
    statistic = plan.statistics[name]
    finest, values, anonymous = state.finest()
    if statistic.histogram:
        return _histogram(state, statistic.histogram)
    dimensions = [_Values(values[place]) for place in plan.places(statistic)]
    projection, cells = _project(finest[:, 1:], dimensions, plan.places(statistic))
    names = _names(cells, dimensions)
    most = statistic.cells(kind) if bounded else None
    choice = most is not None and most < len(names)
    hashes = _hashes(cells, dimensions) if choice else np.empty(0, dtype=np.uint64)
    subjects, where, events = bound(
        state.pairs, projection, finest[:, 0].astype(np.int64), hashes, most if choice else None
    )
    if bounded:
        events = np.minimum(events, statistic.bound("events", kind))
    users_of = np.bincount(where, minlength=len(names))
    events_of = np.zeros(len(names), dtype=np.int64)
    np.add.at(events_of, where, events)
    counted = projection >= 0  # event-level: each event without a subject is one event and nobody's
    np.add.at(events_of, projection[counted], anonymous[counted])
    shown = np.flatnonzero(users_of + events_of)
    return StatisticTally(
        cells=[names[cell] for cell in shown.tolist()],
        users=users_of[shown].tolist(),
        events=events_of[shown].tolist(),
        total_users=int(np.count_nonzero(np.diff(subjects, prepend=-1))),
        total_events=int(events_of.sum()),
    )


class _Values:
    """The values of one dimension by their code: ``rank`` in order, ``empty`` of what the event lacks (-1: none)."""

    def __init__(self, values: list[bytes]) -> None:
        self.values = values
        self.rank = np.empty(len(values), dtype=np.int64)
        self.rank[sorted(range(len(values)), key=values.__getitem__)] = np.arange(len(values))
        self.empty = values.index(b"") if b"" in values else -1

    def hashes(self) -> Words:
        """A hash of each value, so that the choice of cells does not depend on the order of arrival."""
        return np.frombuffer(b"".join(blake2b(v, digest_size=8).digest() for v in self.values), dtype=np.uint64)


def _project(finest: Codes, dimensions: list[_Values], places: tuple[int, ...]) -> tuple[Ints, Codes]:
    """Finest cell → cell of the statistic, -1 where the event lacks a value that it takes; and the codes of each cell,
    in the order of their values.
    """
    present = np.ones(len(finest), dtype=bool)
    for place, dimension in zip(places, dimensions, strict=True):
        present &= finest[:, place] != dimension.empty
    numbers = Numbers(_words_for(max(1, len(places))))
    found = numbers.of(
        _packed(finest[present][:, list(places)] if places else np.zeros((int(present.sum()), 1), np.int32))
    )
    cells = numbers.keys.view(np.int32)[:, : len(places)]
    order = np.arange(len(cells))
    if places:
        order = np.lexsort([dimension.rank[cells[:, n]] for n, dimension in reversed(list(enumerate(dimensions)))])
    ranks = np.empty(len(cells), dtype=np.int64)
    ranks[order] = np.arange(len(cells))
    projection = np.full(len(finest), -1, dtype=np.int64)
    projection[present] = ranks[found]
    return projection, cells[order]


def _names(cells: Codes, dimensions: list[_Values]) -> list[Cell]:
    """The values of each cell."""
    if not dimensions:
        return [()] * len(cells)
    columns = ([each.values[code] for code in cells[:, n].tolist()] for n, each in enumerate(dimensions))
    return list(zip(*columns, strict=True))


def _hashes(cells: Codes, dimensions: list[_Values]) -> Words:
    """A hash of each cell by its values."""
    return mix_all([each.hashes()[cells[:, n]] for n, each in enumerate(dimensions)])


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


def _words_for(columns: int) -> int:
    """How many 64-bit words hold as many columns of 32 bits."""
    return (columns + 1) // 2


def _packed(columns: Codes) -> Words:
    """Rows of 32-bit codes as rows of 64-bit words."""
    rows, width = columns.shape
    packed = np.zeros((rows, 2 * _words_for(width)), dtype=np.int32)
    packed[:, :width] = columns
    return packed.view(np.uint64)

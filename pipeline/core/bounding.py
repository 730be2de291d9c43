"""Pairs of subject and cell, and the bounds on what one subject may add: columns, sorted and reduced in bulk.

Pairs are kept as a sorted run plus rows that wait; when as many wait as are sorted, both become one run, so adding
costs O(log n) sorts a row in all and memory stays at 28 bytes a pair.
"""

import numpy as np

from pipeline.core.contributions import Ints, Words

_WAITING = 1 << 16  # rows that may wait before the first sort


class Pairs:
    """Distinct (pseudonym, cell) pairs and how many events each has."""

    def __init__(self) -> None:
        self._words: Words = np.empty((0, 2), dtype=np.uint64)
        self._codes: Ints = np.empty(0, dtype=np.int64)
        self._counts: Ints = np.empty(0, dtype=np.int64)
        self._waiting: list[tuple[Words, Ints]] = []
        self._rows = 0

    def append(self, words: Words, codes: Ints) -> None:
        """Adds rows of one event each: pseudonyms (rows × 2) and codes of cells."""
        if not len(codes):
            return
        self._waiting.append((words.copy(), codes))
        self._rows += len(codes)
        if self._rows > max(_WAITING, len(self._codes)):
            self._sort()

    def columns(self) -> tuple[Ints, Words, Ints, Ints]:
        """Per pair, sorted by subject and cell: the subject's number (0, 1, …), pseudonym, code of the cell, events."""
        self._sort()
        changed = np.ones(len(self._codes), dtype=bool)
        changed[1:] = (self._words[1:] != self._words[:-1]).any(axis=1)
        return np.cumsum(changed) - 1, self._words, self._codes, self._counts

    def _sort(self) -> None:
        if not self._waiting:
            return
        words = np.concatenate([self._words, *(w for w, _ in self._waiting)])
        codes = np.concatenate([self._codes, *(c for _, c in self._waiting)])
        counts = np.concatenate([self._counts, np.ones(self._rows, dtype=np.int64)])
        order = np.lexsort((codes, words[:, 1], words[:, 0]))
        words, codes, counts = words[order], codes[order], counts[order]
        first = np.ones(len(codes), dtype=bool)
        first[1:] = (words[1:] != words[:-1]).any(axis=1) | (codes[1:] != codes[:-1])
        starts = np.flatnonzero(first)
        self._words, self._codes = words[starts], codes[starts]
        self._counts = np.add.reduceat(counts, starts)
        self._waiting, self._rows = [], 0


def bound(pairs: Pairs, projection: Ints, parts: Ints, hashes: Words, max_cells: int | None) -> tuple[Ints, Ints, Ints]:
    """Per kept pair of subject and cell: the subject's number, the cell, its events.

    ``projection``: code → cell, -1 for none. ``parts``: code → part of the window (0 or 1). Of each part, each subject
    keeps the ``max_cells`` cells that a keyed hash ranks first: the pseudonym is the keyed hash of the subject, mixed
    here with the cell's (``hashes``). Not who came first, so that heavy users are cut without bias; nobody else's rows
    play a part; and, since what a subject did in one month decides nothing about its other month in a week of both,
    taking a month away takes at most ``max_cells`` cells away and brings none.
    """
    subjects, words, codes, counts = pairs.columns()
    cells = projection[codes]
    counted = cells >= 0
    apart = 2 * subjects[counted] + parts[codes[counted]]
    words, cells, counts = words[counted], cells[counted], counts[counted]
    apart, cells, counts, first = _reduce(apart, cells, counts)
    if max_cells is not None and len(cells):
        words = words[first]
        ranks = mix(words[:, 0] ^ mix(words[:, 1] ^ hashes[cells]))
        order = np.lexsort((ranks, apart))
        begins = np.flatnonzero(np.diff(apart[order], prepend=-1))
        place = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
        kept = order[place < max_cells]
        apart, cells, counts = apart[kept], cells[kept], counts[kept]
    subjects, cells, counts, _ = _reduce(apart // 2, cells, counts)
    return subjects, cells, counts


def _reduce(subjects: Ints, cells: Ints, counts: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Distinct pairs with the sum of their counts, sorted, and where the first of each stood."""
    if not len(cells):
        return subjects, cells, counts, cells
    order = np.lexsort((cells, subjects))
    subjects, cells, counts = subjects[order], cells[order], counts[order]
    first = np.ones(len(cells), dtype=bool)
    first[1:] = (subjects[1:] != subjects[:-1]) | (cells[1:] != cells[:-1])
    starts = np.flatnonzero(first)
    return subjects[starts], cells[starts], np.add.reduceat(counts, starts), order[starts]


def mix(words: Words) -> Words:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit of the word bears on every bit of the
    result.
    """
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))

"""Pairs of subject and cell, and the bounds on what one subject may add: columns, sorted and reduced in bulk.

A pair is one 64-bit word: the subject's number, then the cell's code. Pairs are kept as a sorted run plus rows that
wait; a quarter more rows waiting than pairs are sorted is merged into the run, so that adding costs the same whatever
was added before, and memory stays at 12 to 14 bytes a pair and 22 to 36 a subject.
"""

import numpy as np
import numpy.typing as npt

from pipeline.core.numbers import Ints, Numbers, Words, mix

_WAITING = 1 << 16  # rows that may wait before the first sort
_CODE = 32  # bits


class Pairs:
    """Distinct (pseudonym, cell) pairs and how many events each has."""

    def __init__(self) -> None:
        self._subjects = Numbers(2)
        self._pairs: Words = np.empty(0, dtype=np.uint64)
        self._counts: npt.NDArray[np.uint32] = np.empty(0, dtype=np.uint32)
        self._waiting: list[Words] = []
        self._rows = 0

    @property
    def nbytes(self) -> int:
        """What the state takes: subjects, pairs, and rows that wait."""
        return self._subjects.nbytes + self._pairs.nbytes + self._counts.nbytes + 8 * self._rows

    def save(self) -> tuple[Words, Words, npt.NDArray[np.uint32]]:
        """The subjects' pseudonyms by their number, the pairs, and the events of each."""
        self._merge()
        return self._subjects.keys, self._pairs, self._counts

    @classmethod
    def made_of(cls, subjects: Words, pairs: Words, counts: npt.NDArray[np.uint32]) -> "Pairs":
        """The inverse of :meth:`save`."""
        made = cls()
        made._subjects, made._pairs, made._counts = Numbers.made_of(subjects), pairs, counts
        return made

    def append(self, words: Words, codes: Ints) -> None:
        """Adds rows of one event each: pseudonyms (rows × 2) and codes of cells."""
        if not len(codes):
            return
        self._waiting.append((self._subjects.of(words) << _CODE | codes).astype(np.uint64))
        self._rows += len(codes)
        if self._rows > max(_WAITING, len(self._pairs) // 4):
            self._merge()

    def columns(self) -> tuple[Ints, Words, Ints, Ints]:
        """Per pair, sorted by subject and cell: the subject's number (0, 1, …), pseudonym, code of the cell, events."""
        self._merge()
        subjects = (self._pairs >> np.uint64(_CODE)).astype(np.int64)
        codes = (self._pairs & np.uint64((1 << _CODE) - 1)).astype(np.int64)
        return subjects, self._subjects.keys[subjects], codes, self._counts.astype(np.int64)

    def _merge(self) -> None:
        if not self._waiting:
            return
        rows = np.sort(np.concatenate(self._waiting))
        starts = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))
        pairs, counts = rows[starts], np.diff(starts, append=len(rows)).astype(np.uint32)
        places = np.searchsorted(self._pairs, pairs)
        met = np.zeros(len(pairs), dtype=bool)
        inside = places < len(self._pairs)
        met[inside] = self._pairs[places[inside]] == pairs[inside]
        self._counts[places[met]] += counts[met]
        new = ~met
        self._pairs = np.insert(self._pairs, places[new], pairs[new])
        self._counts = np.insert(self._counts, places[new], counts[new])
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
        # Only who has more than the bound allows needs a choice.
        begins = np.flatnonzero(np.diff(apart, prepend=-1))
        sizes = np.diff(begins, append=len(apart))
        over = np.flatnonzero(np.repeat(sizes > max_cells, sizes))
        words = words[first[over]]
        ranks = mix(words[:, 0] ^ mix(words[:, 1] ^ hashes[cells[over]]))
        order = over[np.lexsort((ranks, apart[over]))]
        begins = np.flatnonzero(np.diff(apart[order], prepend=-1))
        place = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
        kept = np.ones(len(apart), dtype=bool)
        kept[order[place >= max_cells]] = False
        apart, cells, counts = apart[kept], cells[kept], counts[kept]
    subjects, cells, counts, _ = _reduce(apart // 2, cells, counts)
    return subjects, cells, counts


def _reduce(subjects: Ints, cells: Ints, counts: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Distinct pairs with the sum of their counts, sorted, and where the first of each stood."""
    if not len(cells):
        return subjects, cells, counts, cells
    pairs = subjects << _CODE | cells
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    starts = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]]))
    pairs = pairs[starts]
    return pairs >> _CODE, pairs & ((1 << _CODE) - 1), np.add.reduceat(counts[order], starts), order[starts]

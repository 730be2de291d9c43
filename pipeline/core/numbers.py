"""Distinct keys, numbered 0, 1, … in the order in which they are met: a hash table of columns, filled in bulk."""

from collections.abc import Hashable, Iterable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T", bound=Hashable)

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]

_SMALLEST = 64  # keys
_EMPTY = -1
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Numbers:
    """Keys of ``width`` 64-bit words each. Takes 8·width bytes a key and 6 to 12 for finding it, spare room included.

    Open addressing with double hashing; the table is at most two thirds full, so that a look takes three probes at
    most on average, of all rows at once. ``seed``: a secret, where somebody might choose keys that collide; each word
    has an odd factor of its own that comes of it.
    """

    def __init__(self, width: int, seed: int = 0) -> None:
        self._factors = mix(np.arange(1, width + 1, dtype=np.uint64) * _GOLDEN + np.uint64(seed)) | np.uint64(1)
        self._columns: list[Words] = [np.empty(_SMALLEST, dtype=np.uint64) for _ in range(width)]
        self._slots = np.full(2 * _SMALLEST, _EMPTY, dtype=np.int32)
        self._count = 0

    @classmethod
    def made_of(cls, keys: Words) -> "Numbers":
        """From :attr:`keys`, which are distinct."""
        numbers = cls(keys.shape[1])
        numbers.of(keys)
        return numbers

    def __len__(self) -> int:
        return self._count

    @property
    def keys(self) -> Words:
        """keys × width, by number."""
        return self.keys_from(0)

    def keys_from(self, number: int) -> Words:
        """The :attr:`keys` from that number on."""
        return np.stack([column[number : self._count] for column in self._columns], axis=1)

    @property
    def nbytes(self) -> int:
        return self._slots.nbytes + sum(column.nbytes for column in self._columns)

    def find(self, keys: Words) -> tuple[Ints, Flags]:
        """The numbers of rows whose keys are known, and which rows that is at the first look; quicker than :meth:`of`
        where almost all are.
        """
        held = self._slots[self._first(self._hashed(list(keys.T)))]
        found = held != _EMPTY
        for column, words in zip(self._columns, keys.T, strict=True):
            found &= column[held] == words
        return held.astype(np.int64), found

    def _hashed(self, columns: list[Words]) -> Words:
        hashed: Words = columns[0] * self._factors[0]
        for column, factor in zip(columns[1:], self._factors[1:], strict=True):
            hashed += column * factor
        return mix(hashed)

    def _first(self, hashed: Words) -> Ints:
        """The slots that keys are looked for in first."""
        return (hashed & np.uint64(len(self._slots) - 1)).astype(np.int64)

    def of(self, keys: Words) -> Ints:
        """The number of each row of ``keys`` (rows × width); those that are new get the next ones, in their order."""
        rows, known = len(keys), self._count
        if not rows:
            return np.empty(0, dtype=np.int64)
        self._reserve(known + rows)
        # Every row stands behind the known keys first, as if it were new; rows that met their like fall out again.
        mine = np.arange(known, known + rows, dtype=np.int32)
        for column, words in zip(self._columns, keys.T, strict=True):
            column[known : known + rows] = words
        numbers, where = self._probe(mine)
        fresh = numbers == mine
        new = int(np.count_nonzero(fresh))
        if new < rows:
            ranks = (known - 1 + np.cumsum(fresh)).astype(np.int32)
            for column in self._columns:
                column[known : known + new] = column[known : known + rows][fresh]
            self._slots[where[fresh]] = ranks[fresh]
            met = numbers >= known
            numbers[met] = ranks[numbers[met] - known]
        self._count = known + new
        return numbers.astype(np.int64)

    def _probe(self, mine: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], Ints]:
        """For each key (by its provisional number) the number that its like has, and the slot where it stands."""
        first, mask = int(mine[0]) if len(mine) else 0, len(self._slots) - 1
        hashed = self._hashed([column[first : first + len(mine)] for column in self._columns])
        where = self._first(hashed)
        held, same = self._look(where, mine)
        numbers = np.where(same, held, mine)
        waiting = np.flatnonzero(~same)
        slot, steps = where[waiting], ((hashed[waiting] >> np.uint64(32)) | np.uint64(1)).astype(np.int64)
        while len(waiting):
            slot = (slot + steps) & mask
            held, same = self._look(slot, mine[waiting])
            numbers[waiting[same]] = held[same]
            where[waiting[same]] = slot[same]
            other = ~same
            waiting, slot, steps = waiting[other], slot[other], steps[other]
        return numbers, where

    def _look(self, slot: Ints, asked: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], Flags]:
        """What stands in these slots, free ones taken, and where that is the key that is asked for."""
        held = self._slots[slot]
        free = np.flatnonzero(held == _EMPTY)
        if len(free):
            free = free[::-1]  # of rows that claim one slot, the first is written last, and so stays
            self._slots[slot[free]] = asked[free]
            held = self._slots[slot]
        same = np.ones(len(slot), dtype=bool)
        for column in self._columns:
            same &= column[held] == column[asked]
        return held, same

    def _reserve(self, keys: int) -> None:
        if keys > len(self._columns[0]):
            room = max(keys, len(self._columns[0]) * 3 // 2)
            self._columns = [
                np.concatenate([c[: self._count], np.empty(room - self._count, np.uint64)]) for c in self._columns
            ]
        if 3 * keys > 2 * len(self._slots):
            size = len(self._slots)
            while 3 * keys > 2 * size:
                size *= 2
            self._slots = np.full(size, _EMPTY, dtype=np.int32)
            self._probe(np.arange(self._count, dtype=np.int32))


def first_met(numbers: Ints, known: int) -> Flags:
    """Which rows were the first of their key, given how many keys were known before."""
    before = np.maximum.accumulate(np.concatenate([[known - 1], numbers[:-1]])) if len(numbers) else numbers
    return numbers > before


def numbered(items: Iterable[T]) -> tuple[list[T], Ints]:
    """The distinct items in order of appearance, and each item's place among them."""
    met: dict[T, int] = {}
    places = np.array([met.setdefault(item, len(met)) for item in items], dtype=np.int64)
    return list(met), places


def distinct(numbers: Ints, size: int) -> tuple[Ints, Ints]:
    """The distinct numbers (each under ``size``) in ascending order, and each number's place among them."""
    if size > 8 * len(numbers) + 1024:
        found, places = np.unique(numbers, return_inverse=True)
        return found, places
    used = np.zeros(size, dtype=bool)
    used[numbers] = True
    return np.flatnonzero(used), (np.cumsum(used) - 1)[numbers]


def distinct_between(numbers: Ints) -> tuple[Ints, Ints]:
    """:func:`distinct` of numbers that are all near each other; there is at least one."""
    least = int(numbers.min())
    found, places = distinct(numbers - least, int(numbers.max()) - least + 1)
    return found + least, places


def mix(words: Words) -> Words:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit of the word bears on every bit of the
    result.
    """
    words = words ^ (words >> np.uint64(30))
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def mix_all(columns: list[Words]) -> Words:
    """One hash a row over all columns."""
    hashed = mix(columns[0])
    for column in columns[1:]:
        hashed = mix(hashed ^ column)
    return hashed

"""A column of short texts: where each of them stands in one buffer. Nothing is copied, and no object is made of a text
before its like was found: events are many, and what they say is little.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.core.numbers import Flags, Ints, Words

WORD = 8  # bytes
LONGEST = 64  # bytes of a text that is compared as words; the few that are longer are looked at one by one
# Behind every buffer: whoever looks at a text as words reads beyond its end. 0xFF is in no UTF-8.
ROOM = b"\xff" * 2048


class Texts(NamedTuple):
    """``begins`` and ``lengths``, in bytes, of UTF-8 in ``buffer``, which ends with :data:`ROOM`. An absent text has
    length 0; no other has.
    """

    buffer: bytes
    begins: Ints
    lengths: Ints

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> "Texts":
        """These texts, in a buffer of their own."""
        return cls.joined([b"" if text is None else text.encode() for text in texts])

    @classmethod
    def joined(cls, texts: Sequence[bytes]) -> "Texts":
        """These texts, one after the other in a buffer of their own."""
        lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        return cls(b"".join([*texts, ROOM]), np.cumsum(lengths) - lengths, lengths)

    def __len__(self) -> int:
        return len(self.begins)

    def at(self, rows: Ints | Flags | slice) -> "Texts":
        """Some of the rows."""
        return Texts(self.buffer, self.begins[rows], self.lengths[rows])

    def words(self, first: int, count: int, filling: int = 0xFF) -> Words:
        """rows × ``count``: the 64-bit words from number ``first`` on, little-endian. What is beyond the text's end is
        ``filling``, all ones or all zeros; with ones, only equal texts are equal words.
        """
        found: Words = seen(self.buffer, WORD * count)[self.begins + WORD * first].view("<u8").reshape(-1, count)
        left = np.maximum(self.lengths - WORD * first, 0) if first else self.lengths
        own = _own(count)[np.minimum(left, WORD * count)]
        return found & own if not filling else found | ~own

    @property
    def ends(self) -> Ints:
        found: Ints = self.begins + self.lengths
        return found

    def lines(self, lined: Flags) -> tuple["Texts", Ints]:
        """The texts, of which some are cut into lines; and the text that each was part of. Blank lines are left out.
        The texts stand one after the other, and none is absent.
        """
        letters = np.frombuffer(self.buffer, dtype=np.uint8)
        breaks = np.flatnonzero(letters[: int(self.ends[-1])] == ord("\n"))
        breaks = breaks[lined[np.searchsorted(self.ends, breaks, side="right")]]
        begins = np.sort(np.concatenate([self.begins, breaks + 1]), kind="stable")
        lengths = np.sort(np.concatenate([self.ends, breaks]), kind="stable") - begins
        whole = np.searchsorted(self.begins, begins, side="right") - 1
        shown = lengths > 0
        for row in np.flatnonzero(shown & (letters[begins] <= ord(" ")) & lined[whole]).tolist():
            shown[row] = not self.buffer[begins[row] : begins[row] + lengths[row]].isspace()
        return Texts(self.buffer, begins[shown], lengths[shown]), whole[shown]

    def tolist(self) -> list[bytes]:
        """Each text."""
        return [self.buffer[begin:end] for begin, end in zip(self.begins.tolist(), self.ends.tolist(), strict=True)]


@cache
def _own(count: int) -> Words:
    """For each number of bytes, ``count`` words in which so many are ones and the others zeros."""
    rows = [b"\xff" * own + bytes(WORD * count - own) for own in range(WORD * count + 1)]
    return np.frombuffer(b"".join(rows), dtype="<u8").reshape(-1, count)


def seen(buffer: bytes, width: int) -> npt.NDArray[np.void]:
    """The ``width`` bytes from each place of a buffer on: overlapping views, to be indexed by places."""
    return np.ndarray((len(buffer) - width + 1,), dtype=f"V{width}", buffer=buffer, strides=(1,))

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
ROOM = b"\xff" * LONGEST  # behind every buffer: whoever looks at a text as words reads beyond its end


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
        encoded = [b"" if text is None else text.encode() for text in texts]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        return cls(b"".join([*encoded, ROOM]), np.cumsum(lengths) - lengths, lengths)

    def __len__(self) -> int:
        return len(self.begins)

    def at(self, rows: Ints | Flags | slice) -> "Texts":
        """Some of the rows."""
        return Texts(self.buffer, self.begins[rows], self.lengths[rows])

    def words(self, first: int, count: int, filling: int = 0xFF) -> Words:
        """rows × ``count``: the 64-bit words from number ``first`` on, little-endian. What is beyond the text's end is
        ``filling``, all ones or all zeros; 0xFF is in no UTF-8, so that only equal texts are equal words.
        """
        found: Words = seen(self.buffer, WORD * count)[self.begins + WORD * first].view("<u8").reshape(-1, count)
        own = _own(count)[np.clip(self.lengths - WORD * first, 0, WORD * count)]
        return found & own if not filling else found | ~own

    def tolist(self) -> list[bytes]:
        """Each text."""
        ends = (self.begins + self.lengths).tolist()
        return [self.buffer[begin:end] for begin, end in zip(self.begins.tolist(), ends, strict=True)]


@cache
def _own(count: int) -> Words:
    """For each number of bytes, ``count`` words in which so many are ones and the others zeros."""
    rows = [b"\xff" * own + bytes(WORD * count - own) for own in range(WORD * count + 1)]
    return np.frombuffer(b"".join(rows), dtype="<u8").reshape(-1, count)


def seen(buffer: bytes, width: int) -> npt.NDArray[np.void]:
    """The ``width`` bytes from each place of a buffer on: overlapping views, to be indexed by places."""
    return np.ndarray((len(buffer) - width + 1,), dtype=f"V{width}", buffer=buffer, strides=(1,))

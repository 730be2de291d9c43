"""Dictionary encoding: a text is looked at when it is first met, and is a small number after that."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.numbers import Flags, Ints, Numbers
from pipeline.core.texts import LONGEST, WORD, Texts

NOTHING = 0  # the code of the absent text
_MOST = 200_000  # texts, after which a dictionary begins anew


class Dictionary:
    """Texts and their codes. Bounded: between two batches it begins anew where it has grown beyond ``most`` texts;
    ``age`` says how often it has.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self.age = 0
        self._begin(1)

    def _begin(self, width: int) -> None:
        self.age += 1
        self.texts = [b""]
        self._width = width
        self._numbers = Numbers(width)
        self._codes = self._numbers.of(np.full((1, width), 2**64 - 1, dtype=np.uint64))  # by number
        self._long: dict[bytes, int] = {}

    def codes(self, texts: Texts) -> Ints:
        """The code of each text: its place in :attr:`texts`."""
        lengths = texts.lengths
        long = lengths > LONGEST
        if long.any():
            codes = np.empty(len(lengths), dtype=np.int64)
            codes[~long] = self.codes(texts.at(~long))
            codes[long] = [self._long_code(each) for each in texts.at(long).tolist()]
            return codes
        width = max(1, -(-int(lengths.max(initial=0)) // WORD))
        if width > self._width or len(self.texts) > self._most:
            self._begin(max(width, self._width if len(self.texts) <= self._most else 1))
        known = len(self._numbers)
        numbers = self._numbers.of(texts.words(0, self._width))
        if len(self._numbers) > known:
            new = self._numbers.keys_from(known).tobytes()
            size = WORD * self._width
            self._codes = np.concatenate([self._codes, np.arange(len(self._numbers) - known) + len(self.texts)])
            self.texts += [new[start : start + size].rstrip(b"\xff") for start in range(0, len(new), size)]
        return self._codes[numbers]

    def _long_code(self, text: bytes) -> int:
        code = self._long.setdefault(text, len(self.texts))
        if code == len(self.texts):
            self.texts.append(text)
        return code


class Lookup:
    """A column of what each text of a dictionary stands for, worked out when it is first asked for."""

    def __init__(self, dtype: npt.DTypeLike, work_out: Callable[[Sequence[bytes]], Any]) -> None:
        self._dtype = dtype
        self._work_out = work_out
        self._of: tuple[Dictionary, int] | None = None

    def of(self, dictionary: Dictionary, codes: Ints) -> npt.NDArray[Any]:
        """One entry for each code."""
        if self._of != (dictionary, dictionary.age):
            self._of = dictionary, dictionary.age
            self._entries, self._known = np.empty(0, dtype=self._dtype), np.empty(0, dtype=bool)
        room = len(dictionary.texts) - len(self._known)
        if room > 0:
            room = max(room, len(self._known) // 2)
            self._entries = np.concatenate([self._entries, np.empty(room, dtype=self._dtype)])
            self._known = np.concatenate([self._known, np.zeros(room, dtype=bool)])
        missing = ~self._known[codes]
        if missing.any():
            self._fill(dictionary, codes[missing])
        found: npt.NDArray[Any] = self._entries[codes]
        return found

    def _fill(self, dictionary: Dictionary, codes: Ints) -> None:
        wanted: Flags = np.zeros(len(self._known), dtype=bool)
        wanted[codes] = True
        new = np.flatnonzero(wanted)
        self._entries[new] = self._work_out([dictionary.texts[code] for code in new.tolist()])
        self._known[new] = True

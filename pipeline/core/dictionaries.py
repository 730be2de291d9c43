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
    """Texts and their codes, for as long as there is room; ``age`` says how often it began anew. ``seed``: a secret,
    so that nobody can choose texts that are slow to find.
    """

    def __init__(self, seed: int, most: int = _MOST) -> None:
        self._seed = seed
        self._most = most
        self.age = -1
        self._codes: Ints
        self._begin()

    def _begin(self) -> None:
        self.age += 1
        self.texts = [b""]  # by code
        self._long: dict[bytes, int] = {}
        self._widen(1)

    def forget(self) -> None:
        """To be called between two batches: begins anew where there are more texts than there may be."""
        if len(self.texts) > self._most:
            self._begin()

    def codes(self, texts: Texts) -> Ints:
        """The code of each text: its place in :attr:`texts`."""
        lengths = texts.lengths
        longest = int(lengths.max(initial=0))
        if longest > LONGEST:
            long = lengths > LONGEST
            codes = np.empty(len(lengths), dtype=np.int64)
            codes[~long] = self.codes(texts.at(~long))
            codes[long] = [self._long_code(each) for each in texts.at(long).tolist()]
            return codes
        if longest > WORD * self._width:
            self._widen(-(-longest // WORD))
        known = len(self._numbers)
        words = texts.words(0, self._width)
        numbers, found = self._numbers.find(words)
        if not found.all():
            numbers[~found] = self._numbers.of(words[~found])
        if len(self._numbers) > known:
            new, size = self._numbers.keys_from(known).tobytes(), WORD * self._width
            self._codes = np.concatenate([self._codes, np.arange(len(self._numbers) - known) + len(self.texts)])
            self.texts += [new[start : start + size].rstrip(b"\xff") for start in range(0, len(new), size)]
        return self._codes[numbers]

    def _widen(self, width: int) -> None:
        """From here on texts of so many words have room in the table."""
        self._width = width
        self._numbers = Numbers(width, self._seed)
        short = [code for code, text in enumerate(self.texts) if len(text) <= LONGEST]
        self._numbers.of(Texts.joined([self.texts[code] for code in short]).words(0, width))
        self._codes = np.array(short, dtype=np.int64)  # by number

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

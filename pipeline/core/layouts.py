"""Events that one program writes look alike: the same members in the same order, and only the values differ. Such a
layout is learned from one event that the decoder took, and all events that share it are read as columns.

A text has a layout if it is, byte for byte, the layout's text but for the insides of strings, in which no character is
escaped or beyond ASCII, and for whole numbers without sign. So it is JSON, with the same members of the same types.
What has no known layout, or a value that would be refused, is left to the decoder, which knows the reason.
"""

import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from pipeline.core.columns import ATTRIBUTES, Columns, Names
from pipeline.core.events import MAX_EVENT, MAX_ID
from pipeline.core.numbers import Flags, Ints
from pipeline.core.texts import ROOM, Texts, seen
from pipeline.core.times import seconds_of

FEW = 32  # texts that are not worth a layout
MOST = 64  # layouts that are remembered
MOST_NEW = 4  # layouts that are learned from one page
LONGEST = len(ROOM)  # bytes of a text from which a layout is learned
DIGITS = 18  # of a number that fits into 64 bits

_TOKEN = re.compile(rb'("[^"]*")(\s*:)?|(-?[0-9][0-9.eE+-]*)|([{[])|([]}])')
_WHOLE = re.compile(rb"0|[1-9][0-9]{0,17}")

Kind = Literal["text", "amount", "time", "other text", "other number"]


class Value(NamedTuple):
    """What differs from text to text, between two pieces that do not; and the column that takes it."""

    kind: Kind
    column: int = 0


class Page:
    """Some texts in the order in which they stand in their buffer, with where the quotes of each are.

    ``plain``: those of ASCII alone, without control characters and escapes.
    """

    def __init__(self, texts: Texts) -> None:
        self.buffer, self.begins, self.ends = texts.buffer, texts.begins, texts.ends
        inside = np.frombuffer(self.buffer, dtype=np.uint8, count=int(self.ends[-1]))
        self.marks = np.flatnonzero(inside == ord('"'))
        self.first = np.searchsorted(self.marks, self.begins)
        self.quotes = np.append(self.first[1:], len(self.marks)) - self.first
        self.plain = texts.lengths <= MAX_EVENT
        odd = np.flatnonzero((inside - np.uint8(0x20) > np.uint8(0x5E)) | (inside == ord("\\")))
        row = np.searchsorted(self.ends, odd, side="right")
        self.plain[row[odd >= self.begins[row]]] = False  # others stand between two texts

    def text(self, row: int) -> bytes:
        return self.buffer[int(self.begins[row]) : int(self.ends[row])]


class Layout:
    """The pieces that texts have in common, with a value between each two."""

    def __init__(self, pieces: list[bytes], values: list[Value]) -> None:
        self._pieces = pieces
        self._values = values
        self.quotes = sum(piece.count(b'"') for piece in pieces)

    def read(self, page: Page, rows: Ints, columns: Columns) -> Ints:
        """Those of the rows that have this layout; what they say is in the columns then. All have as many quotes."""
        begins, lengths, held = self._spans(page, rows)
        if not held.all():
            begins, lengths, rows = [each[held] for each in begins], [each[held] for each in lengths], rows[held]
        found = [_READERS[v.kind](page, *span) for v, *span in zip(self._values, begins, lengths, strict=True)]
        held = np.logical_and.reduce([good for _, good in found])
        rows, kept = (rows, slice(None)) if held.all() else (rows[held], held)
        into = slice(None) if len(rows) == len(columns) else rows
        for (kind, column), begin, length, (read, _) in zip(self._values, begins, lengths, found, strict=True):
            if kind == "text":
                columns.begins[column, into], columns.lengths[column, into] = begin[kept], length[kept]
            elif kind == "amount":
                columns.amounts[column, into] = read[kept]
            elif kind == "time":
                columns.seconds[into] = read[kept]
        return rows

    def _spans(self, page: Page, rows: Ints) -> tuple[list[Ints], list[Ints], Flags]:
        """Where the values begin, their lengths, and which rows have all the pieces."""
        begin, first, quote = page.begins[rows], page.first[rows], 0
        begins, lengths, held = [], [], np.ones(len(rows), dtype=bool)
        for number, piece in enumerate(self._pieces):
            if number:
                mark = piece.find(b'"')
                end = page.ends[rows] - len(piece) if mark < 0 else page.marks[first + quote] - mark
                begins.append(begin)
                lengths.append(end - begin)
                if mark != 0:  # a number; a string ends where the next quote is
                    held &= end >= begin
                begin = end
            found = seen(page.buffer, len(piece))[begin]
            if found.tobytes() != piece * len(found):  # mostly they are the same, which is known at once
                held &= found == np.void(piece)
            begin = begin + len(piece)
            quote += piece.count(b'"')
        return begins, lengths, held & (begin == page.ends[rows])


class Layouts:
    """The layouts that were met last. ``readable``: whether a text is an event that the decoder takes."""

    def __init__(self, names: Names, readable: Callable[[bytes], bool]) -> None:
        self._names = names
        self._readable = readable
        self._known: dict[bytes, Layout] = {}  # by a text with nothing in it; the one that was met last is the last

    def read(self, texts: Texts) -> tuple[Columns, Flags]:
        """The texts as columns, and which of them were read. They are in the order in which they stand."""
        columns = Columns.of(self._names, len(texts), texts.buffer)
        if len(texts) < FEW:
            return columns, np.zeros(len(texts), dtype=bool)
        page = Page(texts)
        waiting = page.plain.copy()
        for form, layout in reversed(list(self._known.items())):
            if np.count_nonzero(waiting) < FEW:
                break
            self._try(form, layout, page, waiting, columns)
        untried = waiting.copy()
        for _ in range(MOST_NEW):
            rows = np.flatnonzero(waiting & untried)
            if len(rows) < FEW:
                break
            untried[rows[0]] = False
            learned = self._learned(page.text(int(rows[0])))
            if learned is not None:
                self._try(*learned, page, waiting, columns)
        return columns, page.plain & ~waiting

    def _try(self, form: bytes, layout: Layout, page: Page, waiting: Flags, columns: Columns) -> None:
        rows = np.flatnonzero(waiting & (page.quotes == layout.quotes))
        read = layout.read(page, rows, columns) if len(rows) else rows
        waiting[read] = False
        if len(read):
            self._known.pop(form, None)
            self._known[form] = layout
            if len(self._known) > MOST:
                del self._known[next(iter(self._known))]

    def _learned(self, text: bytes) -> tuple[bytes, Layout] | None:
        """The layout of a text, if it is an event. No name may be there twice: which one counts is the decoder's."""
        if len(text) > LONGEST or not self._readable(text):
            return None
        pieces, values, start = [], [], 0
        path: list[bytes] = []
        met: set[tuple[bytes, ...]] = set()
        for token in _TOKEN.finditer(text):
            quoted, colon, number, opening, closing = token.groups()
            if opening:
                path.append(b"")
            elif closing:
                path.pop()
            elif colon:
                path[-1] = quoted[1:-1]
                if tuple(path) in met:
                    return None
                met.add(tuple(path))
            else:
                value = self._value(path, number)
                if value is not None:
                    if number and not _WHOLE.fullmatch(number):
                        return None  # an amount that is too large
                    margin = 0 if number else 1
                    pieces.append(text[start : token.start() + margin])
                    start = token.end() - margin
                    values.append(value)
        pieces.append(text[start:])
        return b"\0".join(pieces), Layout(pieces, values)

    def _value(self, path: list[bytes], number: bytes | None) -> Value | None:
        """What a value is, by where it stands; ``None`` where it is the same in all texts of the layout."""
        match tuple(each.decode() for each in path):
            case ("specversion" | "type",):
                return None
            case ("time",):
                return Value("time")
            case (name,) if name in ATTRIBUTES:
                return Value("text", self._names.texts.index(name))
            case ("data", name) if name in self._names.fields:
                return Value("text", self._names.texts.index(name))
            case ("data", name) if name in self._names.amounts:
                return Value("amount", self._names.amounts.index(name))
        if number is None:
            return Value("other text")
        return Value("other number") if _WHOLE.fullmatch(number) else None


def _text(_: Page, __: Ints, lengths: Ints) -> tuple[Ints, Flags]:
    return lengths, (lengths >= 1) & (lengths <= MAX_ID)


def _number(page: Page, begins: Ints, lengths: Ints) -> tuple[Ints, Flags]:
    """Whole numbers, and which of them are some: without sign, or zeros before them."""
    letters = np.frombuffer(page.buffer, dtype=np.uint8)
    good = (lengths >= 1) & (lengths <= DIGITS)
    good &= (letters[begins] != ord("0")) | (lengths == 1)
    numbers = np.zeros(len(begins), dtype=np.int64)
    for place in range(min(DIGITS, int(lengths.max(initial=0)))):
        there = lengths > place
        digits = np.where(there, letters[begins + place] - np.uint8(ord("0")), 0)
        good &= digits <= 9
        numbers = np.where(there, numbers * 10, numbers) + digits
    return numbers, good


def _time(page: Page, begins: Ints, lengths: Ints) -> tuple[Any, Flags]:
    seconds = seconds_of(page.buffer, begins, lengths)
    return seconds, ~np.isnan(seconds)


def _anything(_: Page, __: Ints, lengths: Ints) -> tuple[Ints, Flags]:
    return lengths, np.ones(len(lengths), dtype=bool)


_READERS: dict[Kind, Callable[[Page, Ints, Ints], tuple[Any, Flags]]] = {
    "text": _text,
    "amount": _number,
    "time": _time,
    "other text": _anything,
    "other number": _number,
}

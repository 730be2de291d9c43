"""What leaves the first hop: columns of pseudonyms, cells and provenance. No identifier, no free text, no time of day.

One record of ``usage.contributions`` holds rows that all come from one source partition, in the order of their
provenance. Columns are little-endian arrays in MessagePack; a record is decoded without copying them.
"""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.core.numbers import Words
from pipeline.core.pseudonyms import PSEUDONYM_BYTES
from pipeline.core.windows import Kind

Codes = npt.NDArray[np.int32]


class WindowColumns(msgspec.Struct, frozen=True):
    """The rows as the windows of one kind see them.

    ``pseudonyms``: 16 bytes a row, zeros where nobody is known. ``windows``: the windows met, each its first day and
    the part of it (:func:`~pipeline.core.windows.part_of`). ``values``: per dimension, the values met, each with the
    first day of its window: sealed where the dimension is open, else UTF-8; empty where the event lacks it.
    ``cells``: int32, one column after the other: a row's place in ``windows``, then in ``values`` of each dimension.
    """

    kind: Kind
    pseudonyms: bytes
    windows: list[tuple[int, int]]
    values: list[list[tuple[int, bytes]]]
    cells: bytes

    def words(self) -> Words:
        """rows × 2: the pseudonyms as pairs of 64-bit words."""
        return np.frombuffer(self.pseudonyms, dtype="<u8").reshape(-1, PSEUDONYM_BYTES // 8)

    def places(self) -> Codes:
        """(1 + dimensions) × rows: places in ``windows``, and in ``values`` of each dimension."""
        return np.frombuffer(self.cells, dtype="<i4").reshape(1 + len(self.values), -1)

    def cell(self, row: int) -> tuple[int, int, tuple[bytes, ...]]:
        """One row's window, part of it, and value in each dimension."""
        window, *places = self.places()[:, row].tolist()
        return *self.windows[window], tuple(met[place][1] for met, place in zip(self.values, places, strict=True))


class Contributions(msgspec.Struct, frozen=True, tag="contributions"):
    """A batch of rows, one row an event.

    ``partition`` and ``last``: the source partition, and the last offset that the batch has covered (it may hold no
    row of it). ``offsets`` (int64) and ``indexes`` (int32): where each row came from. ``tokens`` (8 bytes): equal
    where two deliveries are of one event. ``known`` (one byte): whether the event had a subject.
    """

    partition: int
    last: int
    offsets: bytes
    indexes: bytes
    tokens: bytes
    known: bytes
    windows: list[WindowColumns]

    @property
    def rows(self) -> int:
        return len(self.known)


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """One source partition's word: every event of a window that ends by day ``closed`` has been sent on before this.

    ``partitions``: how many source partitions there are. Windows exist for the days from ``since`` up to ``until``;
    where those are ``None``, from the first event on and without end, or (when all was sent) to the last event.
    """

    partition: int
    partitions: int
    closed: int
    since: int | None = None
    until: int | None = None


Contribution = Contributions | Progress


def encode_contribution(contribution: Contribution) -> bytes:
    """The record's value."""
    return _ENCODER.encode(contribution)


def decode_contribution(value: bytes) -> Contribution:
    """The inverse of :func:`encode_contribution`. Raises ``msgspec.MsgspecError`` for anything else."""
    decoded: Any = _DECODER.decode(value)
    return decoded  # type: ignore[no-any-return]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER: Any = msgspec.msgpack.Decoder(Contribution)

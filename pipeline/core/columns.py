"""What the pipeline takes of events, as columns: whatever else an event says exists nowhere after this."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.core.events import UsageEvent
from pipeline.core.fields import Registry
from pipeline.core.numbers import Flags, Ints
from pipeline.core.texts import ROOM, Texts

ATTRIBUTES: Final = ("subject", "source", "id")
ABSENT: Final = -1  # an amount that the event lacks
_LARGEST = 2**62  # amounts beyond it are in the last bucket all the same


class Names:
    """Which columns there are under a registry: texts (:data:`ATTRIBUTES`, then fields) and amounts."""

    def __init__(self, registry: Registry) -> None:
        fields = registry.fields.items()
        self.fields = tuple(name for name, field in fields if field.kind != "amount")
        self.texts = ATTRIBUTES + self.fields
        self.amounts = tuple(name for name, field in fields if field.kind == "amount")


@dataclass
class Columns:
    """``begins`` and ``lengths`` (text columns × rows) as in :class:`Texts`, ``amounts`` (amount columns × rows), and
    ``seconds`` since 1970.
    """

    names: Names
    buffer: bytes
    begins: Ints
    lengths: Ints
    amounts: Ints
    seconds: npt.NDArray[np.float64]

    @classmethod
    def of(cls, names: Names, rows: int, buffer: bytes = ROOM) -> "Columns":
        """So many rows of which nothing is known."""
        texts, amounts = (len(names.texts), rows), (len(names.amounts), rows)
        begins, lengths = np.zeros(texts, dtype=np.int64), np.zeros(texts, dtype=np.int64)
        return cls(names, buffer, begins, lengths, np.full(amounts, ABSENT, dtype=np.int64), np.zeros(rows))

    @classmethod
    def made_of(cls, names: Names, events: Sequence[UsageEvent]) -> "Columns":
        """The columns of these events."""
        columns = cls.of(names, len(events))
        data = [event.data for event in events]
        texts: list[bytes] = []
        for column, name in enumerate(names.texts):
            values: Any = map(attrgetter(name), events if name in ATTRIBUTES else data)
            texts += [b"" if value is None else value.encode() for value in values]
            columns.lengths[column] = np.fromiter(map(len, texts[-len(events) :]), dtype=np.int64, count=len(events))
        columns.begins[:] = (np.cumsum(columns.lengths) - columns.lengths.ravel()).reshape(columns.lengths.shape)
        columns.buffer = b"".join([*texts, ROOM])
        for column, name in enumerate(names.amounts):
            given = map(attrgetter(name), data)
            columns.amounts[column] = [ABSENT if each is None else min(each, _LARGEST) for each in given]
        columns.seconds[:] = [event.time.timestamp() for event in events]
        return columns

    def __len__(self) -> int:
        return len(self.seconds)

    def texts(self, name: str) -> Texts:
        """One of ``names.texts``."""
        column = self.names.texts.index(name)
        return Texts(self.buffer, self.begins[column], self.lengths[column])

    def amounts_of(self, name: str) -> Ints:
        """One of ``names.amounts``."""
        found: Ints = self.amounts[self.names.amounts.index(name)]
        return found

    def at(self, rows: Flags) -> "Columns":
        """Some of the rows."""
        begins, lengths, amounts = self.begins[:, rows], self.lengths[:, rows], self.amounts[:, rows]
        return Columns(self.names, self.buffer, begins, lengths, amounts, self.seconds[rows])

    def take(self, parts: Sequence[tuple[Ints, "Columns"]]) -> None:
        """Rows are those of other columns: which rows, and the columns."""
        buffers = [self.buffer]
        size = len(self.buffer)
        for rows, part in parts:
            self.begins[:, rows], self.lengths[:, rows] = part.begins + size, part.lengths
            self.amounts[:, rows], self.seconds[rows] = part.amounts, part.seconds
            buffers.append(part.buffer)
            size += len(part.buffer)
        self.buffer = b"".join(buffers)

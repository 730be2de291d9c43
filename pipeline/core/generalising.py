"""Columns of registered fields become columns of the values that are counted, each distinct value looked at once."""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final

import numpy as np

from pipeline.core.fields import Field, Registry, generalise
from pipeline.core.numbers import Ints
from pipeline.core.outcomes import Reason

Column = tuple[list[str | None], Ints]  # the values met, the first of which is None, and the place of one a row

REFUSALS: Final = (Reason.MISSING_FIELD, Reason.INVALID_FIELD, Reason.PERSONAL_DATA)
_CACHE = 100_000  # values that a field may have sent before they are forgotten
_LARGEST = 2**62  # amounts beyond it are in the last bucket all the same


class Generaliser:
    """All fields of a registry. ``finest``: the names of those whose values are counted."""

    def __init__(self, registry: Registry, finest: tuple[str, ...]) -> None:
        self._finest = finest
        self._fields: list[tuple[str, attrgetter[Any], Values | Amounts]] = [
            (name, attrgetter(name), Amounts(field) if field.kind == "amount" else Values(field))
            for name, field in registry.fields.items()
            # The others become a declared value or ``other`` whatever they are, and nobody counts them.
            if name in finest or field.kind in ("name", "amount")
        ]

    def columns(self, data: list[Any]) -> tuple[list[Column], Ints]:
        """The columns of the finest cell; and each row's first refused field's place in :data:`REFUSALS`, or -1."""
        columns = []
        refused = np.full(len(data), -1, dtype=np.int64)
        for name, value_of, field in self._fields:
            met, numbers = field.column(map(value_of, data), len(data))
            bad = numbers < 0
            if bad.any():
                refused = np.where((refused < 0) & bad, -1 - numbers, refused)
            if name in self._finest:
                columns.append((met, numbers))
        return columns, refused


class Values(dict[str | None, int]):
    """What a field of names, a catalogue or versions sent → the place of its general value; -1, -2, … for refusals."""

    def __init__(self, field: Field) -> None:
        super().__init__()
        self._field = field
        self._places: dict[str | None, int] = {None: 0}

    def __missing__(self, value: str | None) -> int:
        general = generalise(self._field, value)
        if isinstance(general, Reason):
            place = -1 - REFUSALS.index(general)
        else:
            place = self._places.setdefault(general, len(self._places))
        self[value] = place
        return place

    def column(self, values: Iterable[str | None], count: int) -> Column:
        if len(self) > _CACHE:
            self.clear()
            self._places = {None: 0}
        numbers = np.fromiter(map(self.__getitem__, values), dtype=np.int64, count=count)
        return list(self._places), numbers


class Amounts:
    """Whole numbers → the place of their bucket."""

    def __init__(self, field: Field) -> None:
        self._edges = np.array(field.edges, dtype=np.int64)
        self._met: list[str | None] = [None, *field.labels]
        self._missing = generalise(field, None)
        self._absent = -1 if isinstance(self._missing, Reason) else self._met.index(self._missing)

    def column(self, values: Iterable[int | None], count: int) -> Column:
        given = list(values)
        try:
            amounts = np.array(given, dtype=np.int64)
        except (TypeError, OverflowError):  # some are absent, or beyond what fits
            fitting = (-1 if value is None else min(value, _LARGEST) for value in given)
            amounts = np.fromiter(fitting, dtype=np.int64, count=count)
        buckets = np.searchsorted(self._edges, amounts, side="right")
        refused = -1 - REFUSALS.index(Reason.INVALID_FIELD)
        return self._met, np.where(amounts < 0, self._absent, np.where(buckets == 0, refused, buckets))

"""Columns of registered fields become columns of the values that are counted, each distinct value looked at once."""

from collections.abc import Iterable, Sequence
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
    """All fields of a registry. ``finest``: the names of those whose values are counted, in the registry's order."""

    def __init__(self, registry: Registry, finest: tuple[str, ...]) -> None:
        self._fields: list[tuple[bool, attrgetter[Any], Values | Amounts]] = [
            (name in finest, attrgetter(name), Amounts(field) if field.kind == "amount" else Values(field))
            for name, field in registry.fields.items()
            # The others become a declared value or ``other`` whatever they are, and nobody counts them.
            if name in finest or field.kind in ("name", "amount")
        ]

    def numbers(self, data: Sequence[Any]) -> tuple[list[Ints], Ints]:
        """Per dimension of the finest cell, a number a row, for :meth:`met`; and each row's first refused field's
        place in :data:`REFUSALS`, or -1.
        """
        found = []
        refused = np.full(len(data), -1, dtype=np.int64)
        for counted, value_of, field in self._fields:
            numbers = field.numbers(map(value_of, data), len(data))
            if len(numbers) and numbers.min() < 0:
                refused = np.where((refused < 0) & (numbers < 0), -1 - numbers, refused)
            if counted:
                found.append(numbers)
        return found, refused

    def met(self) -> list[list[str | None]]:
        """Per dimension of the finest cell, the values behind the numbers that were given since :meth:`forget`."""
        return [field.met() for counted, _, field in self._fields if counted]

    def forget(self) -> None:
        """To be called between two batches: what fields have sent is forgotten where it has become too much."""
        for _, _, field in self._fields:
            field.forget()


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

    def numbers(self, values: Iterable[str | None], count: int) -> Ints:
        return np.fromiter(map(self.__getitem__, values), dtype=np.int64, count=count)

    def met(self) -> list[str | None]:
        return list(self._places)

    def forget(self) -> None:
        if len(self) > _CACHE:
            self.clear()
            self._places = {None: 0}


class Amounts:
    """Whole numbers → the place of their bucket."""

    def __init__(self, field: Field) -> None:
        self._edges = np.array(field.edges, dtype=np.int64)
        self._met: list[str | None] = [None, *field.labels]
        self._missing = generalise(field, None)
        self._absent = -1 if isinstance(self._missing, Reason) else self._met.index(self._missing)

    def numbers(self, values: Iterable[int | None], count: int) -> Ints:
        given = list(values)
        try:
            amounts = np.array(given, dtype=np.int64)
        except (TypeError, OverflowError):  # some are absent, or beyond what fits
            fitting = (-1 if value is None else min(value, _LARGEST) for value in given)
            amounts = np.fromiter(fitting, dtype=np.int64, count=count)
        buckets = np.searchsorted(self._edges, amounts, side="right")
        refused = -1 - REFUSALS.index(Reason.INVALID_FIELD)
        return np.where(amounts < 0, self._absent, np.where(buckets == 0, refused, buckets))

    def met(self) -> list[str | None]:
        return self._met

    def forget(self) -> None: ...

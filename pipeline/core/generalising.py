"""Columns of registered fields become columns of the values that are counted, each distinct value looked at once."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from pipeline.core.columns import ABSENT, Columns
from pipeline.core.dictionaries import Dictionary, Lookup
from pipeline.core.fields import Field, Registry, generalise
from pipeline.core.numbers import Ints
from pipeline.core.outcomes import Reason
from pipeline.core.texts import Texts

Column = tuple[list[str | None], Ints]  # the values met, the first of which is None, and the place of one a row

REFUSALS: Final = (Reason.MISSING_FIELD, Reason.INVALID_FIELD, Reason.PERSONAL_DATA)
_CACHE = 100_000  # values that a field may have sent before they are forgotten


class Generaliser:
    """All fields of a registry. ``finest``: the names of those whose values are counted, in the registry's order."""

    def __init__(self, registry: Registry, finest: tuple[str, ...], seed: int) -> None:
        self._fields: list[tuple[bool, str, Values | Amounts]] = [
            (name in finest, name, Amounts(field) if field.kind == "amount" else Values(field, seed))
            for name, field in registry.fields.items()
            # The others become a declared value or ``other`` whatever they are, and nobody counts them.
            if name in finest or field.kind in ("name", "amount")
        ]

    def places(self, columns: Columns) -> tuple[list[Ints], Ints]:
        """Per dimension of the finest cell, each row's place in what :meth:`met` gives; and each row's first refused
        field's place in :data:`REFUSALS`, or -1.
        """
        found = []
        refused = np.full(len(columns), -1, dtype=np.int64)
        for counted, name, field in self._fields:
            if isinstance(field, Amounts):
                places = field.places(columns.amounts_of(name))
            else:
                places = field.places(columns.texts(name))
            if places.min(initial=0) < 0:
                refused = np.where((refused < 0) & (places < 0), -1 - places, refused)
            if counted:
                found.append(places)
        return found, refused

    def met(self) -> list[list[str | None]]:
        """Per dimension of the finest cell, the general values that were met since :meth:`forget`."""
        return [field.met() for counted, _, field in self._fields if counted]

    def forget(self) -> None:
        """To be called between two batches: what fields have sent is forgotten where it has become too much."""
        for _, _, field in self._fields:
            field.forget()


class Values:
    """What a field of names, a catalogue or versions sent → the place of its general value; -1, -2, … for refusals."""

    def __init__(self, field: Field, seed: int) -> None:
        self._field = field
        self._sent = Dictionary(seed, _CACHE)
        self._places = Lookup(np.int64, self._place_each)
        self._met: dict[str | None, int] = {None: 0}

    def places(self, texts: Texts) -> Ints:
        return self._places.of(self._sent, self._sent.codes(texts))

    def met(self) -> list[str | None]:
        return list(self._met)

    def forget(self) -> None:
        age = self._sent.age
        self._sent.forget()
        if self._sent.age != age:
            self._met = {None: 0}

    def _place_each(self, sent: Sequence[bytes]) -> list[int]:
        general = [generalise(self._field, each.decode() or None) for each in sent]
        return [_refusal(g) if isinstance(g, Reason) else self._met.setdefault(g, len(self._met)) for g in general]


class Amounts:
    """Whole numbers → the place of their bucket; -1, -2, … for refusals."""

    def __init__(self, field: Field) -> None:
        self._edges = np.array(field.edges, dtype=np.int64)
        self._met: list[str | None] = [None, *field.labels]
        missing = generalise(field, None)
        self._absent = _refusal(missing) if isinstance(missing, Reason) else self._met.index(missing)

    def places(self, amounts: Ints) -> Ints:
        buckets = np.searchsorted(self._edges, amounts, side="right")
        refused = np.where(buckets == 0, _refusal(Reason.INVALID_FIELD), buckets)
        return np.where(amounts == ABSENT, self._absent, refused)

    def met(self) -> list[str | None]:
        return self._met

    def forget(self) -> None: ...


def _refusal(reason: Reason) -> int:
    return -1 - REFUSALS.index(reason)

"""Rows by the million: arrays of subjects, days and cells as the first hop would send them on.

Pseudonyms are a mixed number instead of a keyed hash, which plays no part in what is counted.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.core.contributions import Contributions, Progress, WindowColumns
from pipeline.core.numbers import Ints, distinct, mix
from pipeline.core.pseudonyms import KeyStore
from pipeline.core.statistics import Plan
from pipeline.core.tallies import FOREVER, PartitionState, Tally
from pipeline.core.windows import Kind, Window, part_of, window_of


class Sender:
    """Makes batches of contributions for one partition. ``names``: the finest cells, one value a dimension."""

    def __init__(self, plan: Plan, names: Sequence[tuple[str, ...]], keys: KeyStore, seed: int = 0) -> None:
        self.plan = plan
        self.keys = keys
        self.seed = np.uint64(seed)
        self.sent = 0
        # Per dimension: its different values, and which of them each cell has.
        self.values = [(list(dict.fromkeys(column)), _places(column)) for column in zip(*names, strict=True)]
        self._of: dict[Window, list[list[bytes]]] = {}

    def batch(self, subjects: Ints, days: Ints, cells: Ints) -> Contributions:
        """One row an event: the subject's number, the day, the place of the cell in ``names``."""
        rows = len(subjects)
        offsets = np.arange(self.sent, self.sent + rows, dtype="<i8")
        self.sent += rows
        return Contributions(
            partition=0,
            last=self.sent - 1,
            offsets=offsets.tobytes(),
            indexes=np.zeros(rows, dtype="<i4").tobytes(),
            tokens=mix(offsets.astype(np.uint64)).tobytes(),  # a bijection: no two are equal
            known=np.ones(rows, dtype=bool).tobytes(),
            windows=[self._columns(kind, subjects, days, cells) for kind in self.plan.kinds],
        )

    def _columns(self, kind: Kind, subjects: Ints, days: Ints, cells: Ints) -> WindowColumns:
        present = np.unique(days)
        spans = [(window_of(kind, day), part_of(window_of(kind, day), day)) for day in present.tolist()]
        windows = list(dict.fromkeys(window for window, _ in spans))
        place_of_day = np.searchsorted(present, days)
        starts = np.array([window.start for window, _ in spans], dtype=np.uint64)
        salt = mix(starts + (np.uint64(1 + "dwm".index(kind[0])) << np.uint64(32)) + (self.seed << np.uint64(40)))
        words = np.empty((len(subjects), 2), dtype="<u8")
        words[:, 0] = mix(subjects.astype(np.uint64) ^ salt[place_of_day])
        words[:, 1] = mix(words[:, 0] + np.uint64(1))
        window_of_day = np.array([windows.index(window) for window, _ in spans])
        places = np.empty((1 + len(self.values), len(subjects)), dtype="<i4")
        places[0] = place_of_day
        values = []
        for dimension, (met, value_of_cell) in enumerate(self.values):
            # All values of the first window, then all of the next; of these, those that occur.
            pairs = window_of_day[place_of_day] * len(met) + value_of_cell[cells]
            used, places[1 + dimension] = distinct(pairs, len(windows) * len(met))
            sealed = [(window.start, self._sealed(window)[dimension]) for window in windows]
            entries = (divmod(each, len(met)) for each in used.tolist())
            values.append([(sealed[window][0], sealed[window][1][value]) for window, value in entries])
        return WindowColumns(
            kind, words.tobytes(), [(window.start, part) for window, part in spans], values, places.tobytes()
        )

    def _sealed(self, window: Window) -> list[list[bytes]]:
        """Per dimension, its values as rows of this window carry them."""
        if window not in self._of:
            key = self.keys.window(window)
            assert key is not None
            self._of[window] = [
                [value.encode() if self.plan.fields[name].declared else key.seal(name, value) for value in met]
                for name, (met, _) in zip(self.plan.finest, self.values, strict=True)
            ]
        return self._of[window]


def _places(column: Sequence[str]) -> Ints:
    order = {value: place for place, value in enumerate(dict.fromkeys(column))}
    return np.array([order[value] for value in column])


def tally_of(state: PartitionState, since: int, until: int) -> list[Tally]:
    """The tallies of all windows of these days, once everything was folded."""
    word = Progress(partition=0, partitions=1, closed=FOREVER, since=since, until=until)
    given: list[Any] = list(state.advance(word))
    return [each for each in given if isinstance(each, Tally)]

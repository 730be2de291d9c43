"""Rows by the million: arrays of subjects, days and cells as the first hop would send them on.

Pseudonyms are a mixed number instead of a keyed hash, which plays no part in what is counted.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.core.bounding import mix
from pipeline.core.contributions import Contributions, Ints, Progress, WindowColumns
from pipeline.core.pseudonyms import KeyStore
from pipeline.core.statistics import Plan
from pipeline.core.tallies import FOREVER, PartitionState, Tally
from pipeline.core.windows import Kind, Window, part_of, window_of


class Sender:
    """Makes batches of contributions for one partition. ``names``: the finest cells, one value a dimension."""

    def __init__(self, plan: Plan, names: Sequence[tuple[str, ...]], keys: KeyStore, seed: int = 0) -> None:
        self.plan = plan
        self.names = names
        self.keys = keys
        self.seed = np.uint64(seed)
        self.sent = 0
        self._sealed: dict[Window, list[tuple[bytes, ...]]] = {}

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
        # A place in the dictionary is (which day's window, cell); days of one window repeat each other's entries.
        present = np.unique(days)
        entries: dict[tuple[Window, int], int] = {}
        first = np.zeros(len(present), dtype=np.int64)
        dictionary: list[tuple[int, int, tuple[bytes, ...]]] = []
        for place, day in enumerate(present.tolist()):
            window = window_of(kind, day)
            part = part_of(window, day)
            if (window, part) not in entries:
                entries[window, part] = len(dictionary)
                dictionary += [(window.start, part, cell) for cell in self._cells(window)]
            first[place] = entries[window, part]
        windows = np.array([window_of(kind, day).start for day in present.tolist()], dtype=np.uint64)
        place_of_day = np.searchsorted(present, days)
        salt = mix(windows + (np.uint64(1 + "dwm".index(kind[0])) << np.uint64(32)) + (self.seed << np.uint64(40)))
        words = np.empty((len(subjects), 2), dtype="<u8")
        words[:, 0] = mix(subjects.astype(np.uint64) ^ salt[place_of_day])
        words[:, 1] = mix(words[:, 0] + np.uint64(1))
        codes = (first[place_of_day] + cells).astype("<i4")
        return WindowColumns(kind, words.tobytes(), codes.tobytes(), dictionary)

    def _cells(self, window: Window) -> list[tuple[bytes, ...]]:
        if window not in self._sealed:
            key = self.keys.window(window)
            assert key is not None
            fields = [self.plan.fields[name] for name in self.plan.finest]
            self._sealed[window] = [
                tuple(
                    value.encode() if field.declared else key.seal(field_name, value)
                    for field_name, field, value in zip(self.plan.finest, fields, cell, strict=True)
                )
                for cell in self.names
            ]
        return self._sealed[window]


def tally_of(state: PartitionState, since: int, until: int) -> list[Tally]:
    """The tallies of all windows of these days, once everything was folded."""
    word = Progress(partition=0, partitions=1, closed=FOREVER, since=since, until=until)
    given: list[Any] = list(state.advance(word))
    return [each for each in given if isinstance(each, Tally)]

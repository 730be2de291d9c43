"""The statistics: which cells an event falls into, and how much one subject may add to them.

A row of the pipeline carries one value per dimension that any statistic uses (the *finest cell*); a statistic's
cell is a projection of it. The plan is worked out once from the declarations and is the same in every worker.
"""

from itertools import pairwise, product

import msgspec

from pipeline.core.fields import Registry
from pipeline.core.release import Measure
from pipeline.core.windows import KINDS, Kind

HISTOGRAM = "events_per_user"


class Dimension(msgspec.Struct, frozen=True):
    """One column of a statistic. ``values``: the declared ones in natural order; empty where they come from events."""

    name: str
    values: tuple[str, ...]
    description: str

    @property
    def open(self) -> bool:
        return not self.values


class Statistic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One statistic, as ``schemas/statistics.toml`` declares it (the file explains the keys)."""

    description: str
    measures: tuple[Measure, ...]
    max_cells: int | dict[Kind, int]
    max_events: int | dict[Kind, int] = 1
    dimensions: tuple[str, ...] = ()
    windows: tuple[Kind, ...] = KINDS
    total: bool = False
    histogram: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.measures not in (("users",), ("users", "events")):
            raise ValueError("a statistic measures users, or users and events: cells are selected by their users")
        if not self.windows or any(len(set(each)) < len(each) for each in (self.windows, self.dimensions)):
            raise ValueError("a statistic has windows, and names each of them and each dimension once")
        for limit in (self.max_cells, self.max_events):
            if not all((limit if isinstance(limit, int) else limit.get(kind, 0)) >= 1 for kind in self.windows):
                raise ValueError(f"max_cells and max_events are 1 or more for each window: {', '.join(self.windows)}")
        if self.histogram and (self.dimensions or self.measures != ("users",) or self.total):
            raise ValueError("a histogram has no other dimension, measures users and has no total")
        if self.histogram and (self.histogram[0] != 1 or list(self.histogram) != sorted(set(self.histogram))):
            raise ValueError("a histogram has ascending lower edges that begin with 1")
        if self.histogram and not all(self.cells(kind) == 1 for kind in self.windows):
            raise ValueError("a subject fills one bucket of a histogram: max_cells is 1")

    def cells(self, kind: Kind) -> int:
        """How many cells one subject may touch in one window, the total not included."""
        return self.max_cells if isinstance(self.max_cells, int) else self.max_cells[kind]

    def moved(self, kind: Kind) -> int:
        """L0: how many cells change, at most, when what one subject did in one calendar month is taken away.

        A week of two months is bounded month by month, so that no other cell takes the place of one that goes; but a
        subject whose number of events changes moves from one bucket of a histogram to another.
        """
        return 2 if self.histogram and kind == "week" else self.cells(kind)

    def bound(self, measure: Measure, kind: Kind) -> int:
        """Δ: the most that one subject adds to one cell."""
        if measure == "users":
            return 1
        return self.max_events if isinstance(self.max_events, int) else self.max_events[kind]


class Statistics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of ``schemas/statistics.toml``."""

    version: str
    statistics: dict[str, Statistic]


class Plan:
    """The declarations, resolved against the registry.

    ``finest``: the names of the fields that rows carry, in order. Raises ``ValueError`` where a statistic uses a
    field that is not registered.
    """

    def __init__(self, statistics: Statistics, registry: Registry) -> None:
        self.statistics = statistics.statistics
        if not self.statistics:
            raise ValueError("there is no statistic")
        used = {name for statistic in self.statistics.values() for name in statistic.dimensions}
        unknown = sorted(used - registry.fields.keys())
        if unknown:
            raise ValueError(f"statistics use fields that the registry does not have (any more): {', '.join(unknown)}")
        self.finest: tuple[str, ...] = tuple(name for name in registry.fields if name in used)
        self.fields = {name: registry.fields[name] for name in self.finest}
        self.kinds: tuple[Kind, ...] = tuple(k for k in KINDS if any(k in s.windows for s in self.statistics.values()))

    def of(self, kind: Kind) -> dict[str, Statistic]:
        """The statistics of a kind of window, by name."""
        return {name: s for name, s in self.statistics.items() if kind in s.windows}

    def dimensions(self, statistic: Statistic) -> tuple[Dimension, ...]:
        """The columns of a statistic."""
        if statistic.histogram:
            return (Dimension(HISTOGRAM, histogram_labels(statistic.histogram), "how many events the user caused"),)
        return tuple(
            Dimension(name, self.fields[name].declared, self.fields[name].purpose) for name in statistic.dimensions
        )

    def open(self, statistic: Statistic) -> bool:
        """Whether any dimension takes its values from events."""
        return any(d.open for d in self.dimensions(statistic))

    def declared_cells(self, statistic: Statistic) -> list[tuple[str, ...]]:
        """All cells of a statistic whose dimensions are all catalogues, in natural order."""
        return list(product(*(d.values for d in self.dimensions(statistic))))

    def places(self, statistic: Statistic) -> tuple[int, ...]:
        """Where the statistic's dimensions stand in the finest cell."""
        return tuple(self.finest.index(name) for name in statistic.dimensions)


def histogram_labels(edges: tuple[int, ...]) -> tuple[str, ...]:
    """The names of the buckets with these lower edges.

    >>> histogram_labels((1, 2, 3, 5, 9))
    ('1', '2', '3-4', '5-8', '9+')
    """
    spans = list(pairwise(edges))
    return (*(str(low) if high == low + 1 else f"{low}-{high - 1}" for low, high in spans), f"{edges[-1]}+")

"""Only a well-formed ``Release`` enters the warehouse: anything else is a type error, or named here."""

import re
from collections.abc import Iterator
from math import isfinite

from pipeline.core.release import Release
from pipeline.core.windows import KINDS, date_of, window_named
from pipeline.warehouse.errors import UnusableReleaseError

MEASURES = ("users", "events")
"""All measures, in the order of columns. ``schema.sql`` has a column for each."""

SUFFIXES = ("", "_lower", "_upper", "_variance", "_grade")
"""What each measure becomes in a view."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN_STATISTICS = frozenset({"release", "measure", "dimension", "shown", "catalogue", "ledger", "noise", "policies"})
_TAKEN_COLUMNS = frozenset({"release", "period", "start", "end_date"} | {m + s for m in MEASURES for s in SUFFIXES})
_INT64 = 2**63


def check(release: object, position: int) -> None:
    """Raise :class:`UnusableReleaseError` unless all parts of the release agree with one another.

    ``position``: its place in the batch, so that the caller can say which record it was without quoting it.
    """
    if not isinstance(release, Release):
        raise TypeError("the warehouse accepts a Release and nothing else")
    reason = next(_flaws(release), None)
    if reason:
        raise UnusableReleaseError(position, reason)


def _flaws(release: Release) -> Iterator[str]:
    yield from _flaws_of_names(release)
    yield from _flaws_of_window(release)
    yield from _flaws_of_numbers(release)
    yield from _flaws_of_cells(release)


def _flaws_of_names(release: Release) -> Iterator[str]:
    dimensions = [d.name for d in release.dimensions]
    measures = [m.name for m in release.measures]
    if not all(_NAME.fullmatch(name) for name in (release.statistic, *dimensions)):
        yield "a name is not of the form [a-z][a-z0-9_]*"
    # A statistic's view is called like the statistic, and its view of totals <statistic>_total.
    if release.statistic in _TAKEN_STATISTICS or release.statistic.endswith("_total"):
        yield "the warehouse itself uses the statistic's name"
    if not _TAKEN_COLUMNS.isdisjoint(dimensions):
        yield "the warehouse itself uses a dimension's name"
    if len(set(dimensions)) < len(dimensions) or len(set(measures)) < len(measures):
        yield "two columns have one name"
    if not measures or not set(measures) <= set(MEASURES):
        yield "the measures are not users, events or both"
    for dimension in release.dimensions:
        if (dimension.kind == "catalogue") != bool(dimension.values):
            yield "a catalogue dimension declares no values, or an open one does"
        if len(set(dimension.values)) < len(dimension.values):
            yield "a dimension declares a value twice"


def _flaws_of_window(release: Release) -> Iterator[str]:
    if release.window not in KINDS:
        yield "the kind of window is not known"
    try:
        window = window_named(f"{release.window}-{release.start}")
    except ValueError:
        yield "no window starts on that date"
        return
    if date_of(window.end).isoformat() != release.end:
        yield "the window does not end on that date"


def _flaws_of_numbers(release: Release) -> Iterator[str]:
    reals = [release.rho, release.epsilon or 0.0, release.delta]
    for measure in release.measures:
        reals += [measure.sigma, measure.rho, measure.total_sigma or 0.0]
    thresholds = [measure.threshold for measure in release.measures if measure.threshold is not None]
    if not all(map(isfinite, reals + thresholds)) or min(reals) < 0:
        yield "a sigma, threshold or price is not a finite number, or negative"
    whole = [release.number, release.max_cells, *(m.bound for m in release.measures), *(release.total or ())]
    for column in (whole, *release.values):
        if column and not -_INT64 <= min(column) <= max(column) < _INT64:
            yield "a number does not fit 64 bits"
    if release.total is not None and any(measure.total_sigma is None for measure in release.measures):
        yield "a total does not tell how much noise is in it"


def _flaws_of_cells(release: Release) -> Iterator[str]:
    cells, width = release.cells, len(release.dimensions)
    if {len(cells)} != {len(column) for column in release.values} or len(release.values) != len(release.measures):
        yield "there is not one value per cell and measure"
    if release.total is not None and len(release.total) != len(release.measures):
        yield "there is not one total per measure"
    if any(len(cell) != width for cell in cells):
        yield "a cell does not have one value per dimension"
    if len(set(cells)) < len(cells):
        yield "a cell is there twice"
    for place, dimension in enumerate(release.dimensions):
        if dimension.values and not {cell[place] for cell in cells} <= set(dimension.values):
            yield "a cell has a value that its catalogue does not declare"

"""Years of releases of an application: what the log holds after them, from a seed; the bench of serving folds them."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import numpy as np

from pipeline.core.release import Release, ReleasedDimension, ReleasedMeasure
from pipeline.core.windows import Window, date_of, day_of, window_of

FIRST = date(2021, 1, 1)
PLATFORMS = ("android", "ios", "web", "desktop", "other")
BUCKETS = ("1", "2", "3-4", "5-8", "9-16", "17-32", "33+")
FEATURES = tuple(f"feature-{n:04}" for n in range(900))
VERSIONS = tuple(f"{n // 10}.{n % 10}.0" for n in range(60))
DURATIONS = ("<1s", "1-10s", "10-60s", ">60s")


def _catalogue(name: str, values: tuple[str, ...]) -> ReleasedDimension:
    return ReleasedDimension(name=name, kind="catalogue", values=values, description=f"the {name}")


def _open(name: str) -> ReleasedDimension:
    return ReleasedDimension(name=name, kind="open", description=f"the {name}")


# statistic → its dimensions, the values that are met in them, its measures, whether it has a total
STATISTICS: dict[str, tuple[tuple[ReleasedDimension, ...], tuple[tuple[str, ...], ...], tuple[Any, ...], bool]] = {
    "active_users": ((), (), ("users",), False),
    "active_users_by_platform": ((_catalogue("platform", PLATFORMS),), (PLATFORMS,), ("users",), False),
    "active_users_by_app_version": ((_open("app_version"),), (VERSIONS,), ("users",), False),
    "intensity": ((_catalogue("intensity", BUCKETS),), (BUCKETS,), ("users",), False),
    "feature_use": (
        (_open("feature"), _catalogue("platform", PLATFORMS)),
        (FEATURES, PLATFORMS),
        ("users", "events"),
        True,
    ),
    "duration_by_feature": (
        (_open("feature"), _catalogue("duration", DURATIONS)),
        (FEATURES, DURATIONS),
        ("users",),
        False,
    ),
}
SHOWN = {"active_users_by_app_version": 0.6, "feature_use": 0.7, "duration_by_feature": 0.4}  # of the cells met


def windows_from(first: date = FIRST) -> Iterator[Window]:
    """All windows in the order in which they close, without end."""
    day = day_of(first)
    while True:
        for kind in ("day", "week", "month"):
            window = window_of(kind, day)
            if window.end == day + 1:
                yield window
        day += 1


def releases_of(window: Window) -> list[Release]:
    """The releases of one window, about 4,700 cells; the same for every run."""
    draw = np.random.default_rng([window.start, window.rank])
    return [_release(window, name, draw) for name in STATISTICS]


def cells_of(releases: list[Release]) -> int:
    return sum(len(each.cells) for each in releases)


def after(window: Window) -> Iterator[Window]:
    """The windows that close after this one."""
    later = windows_from(date_of(window.end) - timedelta(days=1))
    return (each for each in later if each > window)


def _release(window: Window, name: str, draw: np.random.Generator) -> Release:
    dimensions, values, measures, total = STATISTICS[name]
    sizes = [len(each) for each in values]
    places = np.indices(sizes).reshape(len(sizes), -1) if sizes else np.zeros((0, 1), dtype=int)
    keep = np.flatnonzero(draw.random(places.shape[1]) < SHOWN.get(name, 1.0))
    columns = [[column[place] for place in row[keep].tolist()] for column, row in zip(values, places, strict=True)]
    users = (draw.pareto(1.1, len(keep)) * 150).astype(np.int64).clip(0, 10**7) + 160
    numbers = {"users": users, "events": users * draw.integers(1, 9, len(keep))}
    return Release(
        statistic=name,
        description=f"The statistic {name}.",
        window=window.kind,
        start=date_of(window.start).isoformat(),
        end=date_of(window.end).isoformat(),
        number=1,
        policy="bench",
        protects=True,
        dimensions=dimensions,
        measures=tuple(
            ReleasedMeasure(
                name=each,
                sigma=22.4,
                bound=1 if each == "users" else 10,
                rho=0.001,
                total_sigma=22.4 if total else None,
                threshold=157.0 if name in SHOWN else None,
            )
            for each in measures
        ),
        max_cells=1,
        rho=0.001 * len(measures),
        epsilon=6.0,
        delta=1e-9,
        contact="privacy@example.com",
        cells=list(zip(*columns, strict=True)) if columns else [()],
        values=[numbers[each].tolist() for each in measures],
        total=[int(numbers[each].sum()) for each in measures] if total else None,
    )

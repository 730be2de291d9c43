"""Who does how much in a month, and what is popular: the two distributions that a forecast is made from."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MOST_EVENTS = 2_000  # of one user in a month; who does more is counted as doing so many


class PopulationError(ValueError):
    """A distribution that cannot be read; the message says how to write one."""


@dataclass(frozen=True)
class Population:
    """``users`` of a month. ``events``: the share of them by their number of events, from 0 on. ``cells``: the share of
    events by cell, the most popular first. ``names``: those of the cells, where they have any.

    Every event falls on any day and into any cell independently of the others.
    """

    users: float
    events: Floats
    cells: Floats
    names: tuple[str, ...] = ()

    def within(self, fraction: float) -> Floats:
        """The share of users by their number of events in so large a part of the month: ``events``, thinned."""
        if fraction >= 1:
            return self.events
        n = np.arange(len(self.events))
        logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, len(n))))])  # log n!
        several, some = n[:, None], n[None, :]  # of several events some are within
        with np.errstate(invalid="ignore"):
            chance = np.where(
                some <= several,
                np.exp(
                    logs[several]
                    - logs[some]
                    - logs[np.maximum(several - some, 0)]
                    + some * np.log(fraction)
                    + (several - some) * np.log1p(-fraction)
                ),
                0.0,
            )
        thinned: Floats = self.events @ chance
        return thinned


def zipf_mandelbrot(n: int, q: float, s: float) -> Floats:
    """The share of each rank 1…n: proportional to (rank + q)^−s."""
    weights = (np.arange(1, n + 1) + q) ** -s
    shares: Floats = weights / weights.sum()
    return shares


def read_events(text: str) -> Floats:
    """Shares of users by number of events: a mean (then geometric from 1 on), or ``zipf:N,q,s`` and a cut, if any.

    >>> read_events("1").tolist()
    [0.0, 1.0]
    """
    if text.startswith("zipf:"):
        n, q, s, *cut = _numbers(text)
        shares = zipf_mandelbrot(int(n), q, s)
        most = min(int(cut[0]) if cut else len(shares), MOST_EVENTS)
    else:
        [mean] = _numbers(f"mean:{text}")
        if mean < 1:
            raise PopulationError("whoever is a user in a month causes an event: the mean is 1 or more")
        shares = np.asarray(1 / mean) * (1 - 1 / mean) ** np.arange(
            max(1, min(MOST_EVENTS, int(40 * mean) if mean > 1 else 1))
        )
        most = len(shares)
    events = np.concatenate([[0.0], shares[:most]])
    events[-1] += 1 - events.sum()  # who would do more, does so much
    return events


def read_cells(text: str) -> tuple[Floats, tuple[str, ...]]:
    """Shares of events by cell: ``zipf:N,q,s``, or a CSV file of names and counts, whose last column is the count."""
    if text.startswith("zipf:"):
        n, q, s = _numbers(text)[:3]
        return zipf_mandelbrot(int(n), q, s), ()
    try:
        with Path(text).open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row]
        counted = sorted(((float(row[-1]), " ".join(row[:-1])) for row in rows[1:]), reverse=True)
    except (OSError, ValueError, UnicodeDecodeError):
        raise PopulationError(
            "cells are zipf:N,q,s, or a CSV file with a header, whose last column is a number of events"
        ) from None
    counts = np.array([count for count, _ in counted])
    if not len(counts) or counts.min() < 0 or not 0 < counts.sum() < np.inf:
        raise PopulationError("the file of counts needs at least one cell, and counts of 0 or more")
    return counts / counts.sum(), tuple(name for _, name in counted)


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(each) for each in text.partition(":")[2].split(",")]
    except ValueError:
        numbers = []
    wanted = 1 if text.startswith("mean:") else 3
    least = 0 if wanted == 1 else 1
    if len(numbers) < wanted or not all(0 <= each < np.inf for each in numbers) or numbers[0] < least:
        raise PopulationError("write a number, or zipf:N,q,s such as zipf:500,5,1.2 (ranks 1 to N as (rank + q)^-s)")
    return numbers

"""Steady load at half of what the worker can do: whether its memory grows, and whether it keeps up.

A year of days passes at an even pace, whatever the minutes. The state grows within a month and falls with its end; so a
month is one measurement, of its greatest resident memory and of its greatest lag, and the slope over the months has the
confidence interval of a least-squares line.
"""

import math
import random
import re
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.core.tallies import FOREVER
from pipeline.core.windows import date_of
from pipeline.replay import PARTITIONS, Sender
from pipeline.sources import Lines
from pipeline.watching import Watcher
from tests.deployment.apache import Cluster, free_port
from tests.e2e.running import declared
from tests.faults.world import World, world_of

FIRST, MONTHS, SETTLING = date(2025, 1, 1), 12, 2  # months, of which so many pass before it is steady
DAYS = (date(2026, 1, 1) - FIRST).days
BURST = 2_000_000  # events, by which the most that the worker can do is measured
A_RECORD, SUBJECTS, TICK = 500, 20_000, 0.25  # the last in seconds
# Of Student's t, two-sided, by degrees of freedom; beyond the last as that.
T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)


class Slope(NamedTuple):
    """Per step, with half the width of its 95 % confidence interval."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:+,.1f} ± {self.error:,.1f}"


def slope(values: list[float]) -> Slope:
    """Of the least-squares line through values at even steps; three or more of them."""
    x = np.arange(len(values)) - (len(values) - 1) / 2
    y = np.array(values)
    value = float(x @ y / (x @ x))
    degrees = len(values) - 2
    rest = y - y.mean() - value * x
    error = math.sqrt(float(rest @ rest) / degrees / float(x @ x))
    return Slope(value, T95[min(degrees, len(T95)) - 1] * error)


def steady_load(minutes: float) -> Callable[[Cluster, Path, int, int], str]:
    def steady(cluster: Cluster, directory: Path, seed: int, times: int) -> str:
        port = free_port()
        with world_of(cluster, directory, 0, seed, HEADCOUNT_HTTP=str(port)) as world:
            most = measured_maximum(world, port)
            months, sent = follow(world, port, most / 2, minutes * 60)
            finish(world, sent)
            assert not world.workers.exits, world.workers.ends()
        memory = slope([max(resident for resident, _ in month) / 1e3 for month in months[SETTLING:]])
        lag = slope([float(max(lag for _, lag in month)) for month in months[SETTLING:]])
        worst = max(lag for month in months for _, lag in month)
        said = (
            f"{most:,.0f} events/s at most, {most / 2:,.0f} for {minutes:g} min, {sent:,} in all; resident memory "
            f"{memory} kB a month of {minutes / MONTHS * 60:.0f} s; lag at most {worst:,.0f} events, {lag} a month"
        )
        for each in (memory, lag):
            assert each.value - each.error <= 0, f"it grows: {said}"
        return said

    return steady


def measured_maximum(world: World, port: int) -> float:
    """Events a second, of a worker that begins with many before it and nobody beside it."""
    with closing(Sender(world.kafka)) as sender:
        for _ in sender.send(records(FIRST - timedelta(1), range(BURST), world.source)):
            pass
        sender.tell(FIRST)
    world.workers.add()
    world.until(lambda: accepted(port) > 0, "the worker did not begin")
    first, began = accepted(port), time.monotonic()
    world.until(lambda: accepted(port) == BURST, "the worker did not take up what was there")
    return (BURST - first) / (time.monotonic() - began)


def follow(world: World, port: int, rate: float, seconds: float) -> tuple[list[list[tuple[float, float]]], int]:
    """Sends at this rate, day after day; gives by month, after each day, resident bytes and the lag, and how many
    events were sent.
    """
    ticks = max(1, round(seconds / DAYS / TICK))
    step, share = seconds / DAYS / ticks, round(rate * seconds / DAYS / ticks)
    months: list[list[tuple[float, float]]] = []
    sent, due = BURST, time.monotonic()
    with closing(Sender(world.kafka)) as sender:
        for day in (FIRST + timedelta(number) for number in range(DAYS)):
            if day.day == 1:
                said = f"  {day:%B}: {sent:,} events sent, {sent - accepted(port):,.0f} behind"
                if months:
                    said += f"; {max(resident for resident, _ in months[-1]) / 1e6:.2f} MB in the month before"
                print(said, file=sys.stderr, flush=True)
                months.append([])
            for tick in range(ticks):
                for _ in sender.send(records(day, range(tick * share, (tick + 1) * share), world.source)):
                    pass
                sent, due = sent + share, due + step
                world.workers.tend()
                time.sleep(max(0.0, due - time.monotonic()))
            sender.tell(day + timedelta(1))
            months[-1].append((metric(port, "process_resident_memory_bytes"), sent - accepted(port)))
        sender.tell(date_of(FOREVER))
    return months, sent


def finish(world: World, sent: int) -> None:
    """Everything is released, and every event was counted."""
    with closing(Watcher(world.kafka, declared().plan, PARTITIONS)) as watcher:

        def released() -> bool:
            watcher.poll(0.1)
            return watcher.watch.complete(FOREVER) and watcher.caught_up()

        world.until(released, "not everything was released")
        assert (watcher.watch.accepted_events(), watcher.watch.rejected()) == (sent, {})


def records(day: date, numbers: range, source: random.Random) -> Iterator[Lines]:
    """Events of a day, which are told apart by their numbers."""
    for start in range(numbers.start, numbers.stop, A_RECORD):
        some = range(start, min(start + A_RECORD, numbers.stop))
        yield Lines(b"\n".join(event(day, number, source) for number in some), len(some), 0, 0)


def event(day: date, number: int, source: random.Random) -> bytes:
    draw = source.random()
    return (
        f'{{"specversion":"1.0","id":"{day}-{number}","source":"app","type":"usage.feature.used.v1",'
        f'"time":"{day}T12:00:00Z","subject":"u-{int(draw * SUBJECTS)}",'
        f'"data":{{"feature":"feature-{int(draw * 10**6) % 12}","platform":"web","duration_ms":5000}}}}'
    ).encode()


def accepted(port: int) -> float:
    return metric(port, "headcount_events_accepted_total")


def metric(port: int, name: str) -> float:
    """What the worker says; 0 where it says nothing yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0.0
    return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[ {{]", line))

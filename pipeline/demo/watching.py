"""The demo while it runs: two bars and a growing line in a terminal, a line now and then elsewhere."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from pipeline.demo.running import Progress, Report
from pipeline.warehouse.errors import NothingPublishedError
from pipeline.warehouse.reader import ProtectsNobody, Statistics

_LEVELS = "▁▂▃▄▅▆▇█"
_LINE_SECONDS = 5.0
_LOOK_SECONDS = 0.5


@contextmanager
def watched(console: Console, directory: Path, quiet: bool) -> Iterator[Report]:
    """A function that shows how far a run is."""
    if quiet:
        yield lambda _: None
    elif not console.is_terminal:
        yield _Lines(console)
    else:
        with _Display(console, directory) as display:
            yield display


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = self._due = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now >= self._due or progress.windows_released == progress.windows:
            self._due = now + _LINE_SECONDS
            self._console.print(
                f"{now - self._began:4.0f} s: {progress.days_sent} of {progress.days} days emitted"
                f" ({progress.events:,} events), {progress.windows_released} of {progress.windows} windows released",
                highlight=False,
            )


class _Display:
    """Bars, and the daily active users as far as they are published."""

    def __init__(self, console: Console, directory: Path) -> None:
        self._console = console
        self._directory = directory
        self._bars = Bars(
            TextColumn("{task.description:>16}"),
            BarColumn(40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._days = self._bars.add_task("days emitted", total=None)
        self._windows = self._bars.add_task("windows released", total=None)
        self._line = Text("  the workers start and join their group", "dim")
        self._live = Live(console=console, get_renderable=self._render, transient=True, refresh_per_second=8)
        self._statistics: Statistics | None = None
        self._due = 0.0

    def __enter__(self) -> "_Display":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if self._statistics is not None:
            self._statistics.close()

    def __call__(self, progress: Progress) -> None:
        self._bars.update(self._days, completed=progress.days_sent, total=progress.days)
        self._bars.update(self._windows, completed=progress.windows_released, total=progress.windows)
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _LOOK_SECONDS
            if (statistics := self._refreshed()) is not None:
                self._draw(statistics)

    def _render(self) -> Group:
        return Group(self._bars, self._line)

    def _refreshed(self) -> Statistics | None:
        """The statistics, if they are newer than those that were drawn."""
        if self._statistics is not None:
            return self._statistics if self._statistics.refresh() else None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ProtectsNobody)
                self._statistics = Statistics(self._directory)
        except NothingPublishedError:
            pass
        return self._statistics

    def _draw(self, statistics: Statistics) -> None:
        if "active_users" not in statistics.names():
            return
        rows = statistics.frame("active_users").tail(self._console.width - 60)
        if rows.empty:
            return
        newest = rows.iloc[-1]
        self._line = Text.assemble(
            ("  users on a day  ", ""),
            (sparkline(rows["users"].tolist()), "green"),
            f"  {newest['users']:,} ± {newest['users_upper'] - newest['users']:,.0f}",
            (f"  on {newest['start']:%a %-d %b}", "dim"),
        )


def sparkline(values: list[int]) -> str:
    """A line of blocks, from zero to the largest value."""
    top = max(1, *values)
    return "".join(_LEVELS[round((len(_LEVELS) - 1) * max(0, value) / top)] for value in values)

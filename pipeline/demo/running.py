"""The demo's run: a simulated application emits day by day, and windows close as its days pass."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import ceil
from pathlib import Path

import msgspec

from pipeline.core.release import release_key
from pipeline.core.statistics import Plan
from pipeline.core.tallies import FOREVER
from pipeline.core.windows import Window, date_of, day_of, windows_between
from pipeline.declarations import read_declarations
from pipeline.emitter import EmitterStats, UsageEmitter
from pipeline.replay import PARTITIONS, Sender, Summary, summarise
from pipeline.settings import Settings
from pipeline.simulation import APPLICATION, Day, simulate
from pipeline.sources import Lines
from pipeline.stack import Stack, StackError, running_stack
from pipeline.warehouse.projector import Projector
from pipeline.warehouse.snapshots import LINK, published
from pipeline.watching import Watcher

PICTURE = "usage.svg"

_FLUSH_EVERY = 10_000  # half of what the emitter buffers
_FLUSH_SECONDS = 60.0
_SNAPSHOT_SECONDS = 2.0
# How far the application may be ahead of the pipeline, so that windows are seen to close one after the other.
# A worker takes all that waits in a partition as one batch: without this most of the run would be one.
_DAYS_AHEAD = 12


class DemoSummary(Summary, frozen=True, kw_only=True):
    """What the demo did. ``events_in``: what reached the topic, ``broken`` records that are no events among them.

    ``opted_out``: events that the emitter held back, because their subjects had opted out.
    """

    users: int
    days: int
    seed: int
    emitted: int
    opted_out: int
    broken: int
    picture: str


@dataclass
class Progress:
    """How far a run is."""

    days: int
    windows: int
    days_sent: int = 0
    events: int = 0
    windows_released: int = 0


Report = Callable[[Progress], None]


def run_demo(
    directory: Path,
    settings: Settings,
    *,
    users: int,
    first_day: date,
    days: int,
    seed: int,
    workers: int,
    report: Report,
) -> DemoSummary:
    """Leaves ``directory/statistics.duckdb``. Raises ``SettingsError``, ``OverBudget``, ``StackError`` or
    ``WarehouseError``.
    """
    declarations = read_declarations(settings, datetime.now(UTC).date())
    plan, policy = declarations.plan, declarations.policy
    until = first_day + timedelta(days=days)
    environment = {
        "HEADCOUNT_FIELDS": str(settings.fields.resolve()),
        "HEADCOUNT_STATISTICS": str(settings.statistics.resolve()),
        "HEADCOUNT_POLICY": str(settings.policy.resolve()),
        "HEADCOUNT_SINCE": first_day.isoformat(),
        "HEADCOUNT_UNTIL": until.isoformat(),
    }
    windows = [w for kind in plan.kinds for w in windows_between(kind, day_of(first_day), day_of(until))]
    progress = Progress(days, len(windows))
    with (
        running_stack(directory, workers=workers, partitions=PARTITIONS, environment=environment) as stack,
        projecting(directory, stack) as finish,
        closing(Watcher(stack.kafka, plan, PARTITIONS)) as watcher,
        closing(Sender(stack.kafka)) as sender,
    ):
        began = time.monotonic()

        def look(seconds: float = 0.01) -> None:
            stack.supervise()
            watcher.poll(seconds)
            progress.windows_released = count_released(watcher.watch.released, plan, windows)
            report(progress)

        with emitting(stack) as emitter:
            for day in simulate(seed, users, first_day, days):
                # The clock shows the beginning of this day: what ended `lateness` ago closes.
                word = day.date - timedelta(days=ceil(policy.lateness / 86_400))
                sender.tell(word)
                emit_day(emitter, sender, day)
                progress.days_sent += 1
                progress.events = emitter.stats.sent + sender.events
                look()
                while progress.days_sent > _DAYS_AHEAD and not watcher.watch.complete(day_of(word) - _DAYS_AHEAD):
                    look(0.1)
            emitted = emitter.stats
        sender.tell(date_of(FOREVER))
        while not (watcher.watch.complete(FOREVER) and watcher.caught_up()):
            look(0.2)
        seconds = time.monotonic() - began
        finish()
        summary = summarise(
            watcher.watch,
            directory,
            events_in=emitted.sent + sender.events,
            rejected=dict(sorted(Counter(watcher.watch.rejected()).items())),
            seconds=seconds,
            stack=stack,
            accountant=declarations.accountant,
        )
    return DemoSummary(
        **msgspec.structs.asdict(summary),
        users=users,
        days=days,
        seed=seed,
        emitted=emitted.sent,
        opted_out=emitted.opted_out,
        broken=sender.events,
        picture=str(directory / PICTURE),
    )


def emit_day(emitter: UsageEmitter, sender: Sender, day: Day) -> None:
    """One day of the application, acknowledged by the broker; broken records beside the emitter, which makes none."""
    for subject in day.opted_out:
        emitter.opt_out(subject)
    for number, use in enumerate(day.uses, 1):
        emitter.emit(
            use.feature,
            subject=use.subject,
            time=use.time,
            id=use.id,
            platform=use.platform,
            app_version=use.app_version,
            country=use.country,
            duration_ms=use.duration_ms,
            plan=use.plan,
        )
        if number % _FLUSH_EVERY == 0:
            flush(emitter)
    flush(emitter)
    for _ in sender.send(Lines(broken.value, 1, 0, 0) for broken in day.broken):
        pass


def flush(emitter: UsageEmitter) -> None:
    """Raises :class:`StackError` unless everything that was emitted reached the broker."""
    sent = emitter.flush(_FLUSH_SECONDS)
    if not sent or undelivered(emitter.stats):
        raise StackError("the embedded broker did not take every event: is the machine out of memory?")


def undelivered(stats: EmitterStats) -> int:
    """Events of which nobody can say that they arrived, or that they should not have."""
    return stats.dropped_full + stats.dropped_failed + stats.refused + stats.buffered


@contextmanager
def emitting(stack: Stack) -> Iterator[UsageEmitter]:
    """The application's emitter. DO_NOT_TRACK speaks for whoever runs the demo, whose users are invented."""
    wish = os.environ.pop("DO_NOT_TRACK", None)
    try:
        emitter = UsageEmitter(APPLICATION, bootstrap_servers=stack.kafka["bootstrap_servers"])
    finally:
        if wish is not None:
            os.environ["DO_NOT_TRACK"] = wish
    with emitter:
        yield emitter


@contextmanager
def projecting(directory: Path, stack: Stack) -> Iterator[Callable[[], None]]:
    """Publishes statistics beside whatever the block does, in place of those of an earlier demo.

    Gives a function that waits until everything is published, and raises what went wrong.
    """
    failed: list[BaseException] = []
    stop = threading.Event()
    with Projector(directory, stack.kafka, fresh=True) as projector:
        clear(directory)

        def follow() -> None:
            try:
                projector.run(stop, _SNAPSHOT_SECONDS)
            except BaseException as error:  # reported by `finish`, in the thread that can explain it
                failed.append(error)

        thread = threading.Thread(target=follow, name="projector", daemon=True)

        def finish() -> None:
            stop.set()
            thread.join()
            if failed:
                raise failed[0]
            projector.catch_up()

        thread.start()
        try:
            yield finish
        finally:
            stop.set()
            thread.join()


def clear(directory: Path) -> None:
    """Removes what an earlier demo left, and nothing else: whoever ran it may have put files of their own there."""
    for path in (directory / LINK, directory / PICTURE, *(path for _, path in published(directory))):
        path.unlink(missing_ok=True)


def count_released(released: dict[str, int], plan: Plan, windows: list[Window]) -> int:
    """How many windows have all their releases."""
    return sum(all(release_key(name, w.name) in released for name in plan.of(w.kind)) for w in windows)

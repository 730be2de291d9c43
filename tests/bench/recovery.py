"""From a SIGKILL to caught up, with a checkpoint and without, on Apache Kafka. Writes var/recovery.json, too.

So many rows are written to usage.contributions, of a day, a week and a month that stay open, and a worker that runs the
tally hop is killed and started again. Caught up is when every record that the log holds is folded; that no row is
missing then is what the worker's /metrics say. The time is in three parts: until the group has given the first
partition to the new worker (it waits for the session of the one that was killed to end), until the states are made
from their checkpoints, and until what comes after them is folded.

python -m tests.bench.recovery                1, 5 and 20 million rows: in three minutes; takes 3 GB of memory and disk
python -m tests.bench.recovery 1000000        in half a minute
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import click
from confluent_kafka import Producer

from pipeline import worker
from pipeline.replay import PARTITIONS
from pipeline.settings import Settings
from pipeline.stream.keys import open_keys
from pipeline.stream.tallying import TallyHop
from pipeline.stream.topics import CONTRIBUTIONS
from tests.bench.common import peak_rss_mb
from tests.bench.rows import PLAN, ROWS_A_RECORD, record_of
from tests.bench.running import QUIET, ROOT
from tests.deployment.apache import free_port
from tests.faults.load import metric
from tests.faults.world import SESSION, World, cluster_of, world_of

EVENTS_A_SUBJECT = 20
SINCE_CHECKPOINT = 100  # of so many rows one comes after the checkpoint
PATIENCE = 3600.0  # seconds
RESULTS = ROOT / "var" / "recovery.json"


class Mark(NamedTuple):
    """Up to which offset a partition's records are in its state, and from when until when that was made, in seconds."""

    partition: int
    offset: int
    began: float
    ended: float


def watch(path: Path) -> None:
    """In a worker: a mark for each partition that it is given, and for each batch. It may take its time to stop."""
    begin, handle = TallyHop.begin, TallyHop.handle
    worker.STOP_SECONDS = PATIENCE
    marks = path.open("a", buffering=1)

    def mark(partition: int, offset: int, began: float) -> None:
        marks.write(json.dumps(Mark(partition, offset, began, time.monotonic())) + "\n")

    def begun(self: TallyHop, partition: int, earliest: int, committed: int | None) -> int:
        began = time.monotonic()
        offset = begin(self, partition, earliest, committed)
        mark(partition, offset, began)
        return offset

    async def handled(self: TallyHop, batch: Any) -> None:
        began = time.monotonic()
        await handle(self, batch)
        mark(batch.partition, batch.end, began)

    TallyHop.begin, TallyHop.handle = begun, handled  # type: ignore[method-assign]


class Restart(NamedTuple):
    """One restart. ``seconds`` from the kill: ``given`` until the worker has its first partition, ``loaded`` to read
    checkpoints, ``read`` for the rest of the log. ``disk_mb``: of the checkpoints, or of the log; ``written``: seconds
    from SIGTERM until a worker has written the checkpoints and ended.
    """

    rows: int
    checkpoint: bool
    seconds: float
    given: float
    loaded: float
    read: float
    rows_read: int
    peak_mb: int
    disk_mb: int = 0
    written: float = 0.0


class Trial:
    """One worker, and what is in the topic that it folds."""

    def __init__(self, world: World, subjects: int) -> None:
        self.world, self.subjects = world, subjects
        self.records, self.bytes = 0, 0
        self.marks, self.checkpoints = world.directory / "marks", world.directory / "checkpoints"
        self.port = free_port()
        world.workers.prepare = partial(watch, self.marks)
        world.workers.environment["HEADCOUNT_HTTP"] = str(self.port)
        open_keys(Settings.from_environment(world.workers.environment)).close()  # there are keys before there are rows
        self._producer = Producer({**QUIET, "bootstrap.servers": world.cluster.bootstrap, "batch.size": 1 << 20})

    @property
    def rows(self) -> int:
        return self.records * ROWS_A_RECORD

    def write(self, rows: int) -> None:
        numbers = range(self.records, self.records + -(-rows // ROWS_A_RECORD))
        with click.progressbar(numbers, label=f"{rows:,} rows are written", file=sys.stderr) as bar:
            for number in bar:
                value = record_of(number, self.subjects)
                self.bytes += len(value)
                self._producer.produce(CONTRIBUTIONS, value, partition=number % PARTITIONS)
                while len(self._producer) > 500:
                    self._producer.poll(0.1)
        assert self._producer.flush(60) == 0
        self.records = numbers.stop

    def found(self) -> list[Mark]:
        text = self.marks.read_text() if self.marks.exists() else ""
        return [Mark(*json.loads(line)) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def start(self) -> None:
        """The first time, or again after it has ended."""
        self.marks.unlink(missing_ok=True)
        if self.world.workers.processes:
            self.world.workers.tend()
        else:
            self.world.workers.add("worker", "--roles", "tally")

    def given(self) -> None:
        self.world.until(lambda: len(self.found()) > PARTITIONS, "the worker got no partitions", PATIENCE)

    def caught_up(self, label: str) -> None:
        """Waits until the state holds all that was written."""
        with click.progressbar(length=self.records, label=label, file=sys.stderr) as bar:
            while bar.pos < self.records:
                time.sleep(0.1)
                reached = {mark.partition: mark.offset for mark in self.found()}
                bar.update(sum(reached.values()) - bar.pos)
                assert self.world.workers.processes[0].poll() is None, self.world.workers.text(0)[-500:]
        expected = self.rows * len(PLAN.kinds)
        self.world.until(
            lambda: metric(self.port, "headcount_state_rows") == expected, "the state lacks rows", PATIENCE
        )

    def killed(self, *, checkpoint: bool) -> Restart:
        """From SIGKILL to caught up."""
        workers, began = self.world.workers, time.monotonic()
        assert workers.kill(0)
        self.start()
        self.caught_up("caught up from the checkpoint" if checkpoint else "caught up from the log")
        marks = self.found()
        first = [next(of) for _, of in groupby(sorted(marks), key=lambda mark: mark.partition)]
        given = min(mark.began for mark in first) - began
        loaded = sum(mark.ended - mark.began for mark in first)
        seconds = max(mark.ended for mark in marks) - began
        return Restart(
            rows=self.rows,
            checkpoint=checkpoint,
            seconds=round(seconds, 2),
            given=round(given, 2),
            loaded=round(loaded, 2),
            read=round(seconds - given - loaded, 2),
            rows_read=(self.records - sum(mark.offset for mark in first)) * ROWS_A_RECORD,
            peak_mb=round(peak_rss_mb(workers.processes[0].pid)),
        )


def measure(trial: Trial, rows: int) -> Iterator[Restart]:
    """From the log, which a worker that has written no checkpoint was reading, and from a checkpoint of nearly all."""
    workers = trial.world.workers
    trial.write(rows)
    trial.start()
    trial.given()  # how far it came is nothing to who starts again from the log
    yield trial.killed(checkpoint=False)._replace(disk_mb=round(trial.bytes / 1e6))
    began = time.monotonic()
    assert workers.processes[0].send(signal.SIGTERM)
    assert workers.processes[0].wait(PATIENCE) == 0  # it has written a checkpoint of all that it holds
    written = time.monotonic() - began
    size = sum(path.stat().st_size for path in trial.checkpoints.rglob("*") if path.is_file())
    trial.start()
    trial.write(rows // SINCE_CHECKPOINT)
    trial.caught_up("ready")
    restart = trial.killed(checkpoint=True)
    assert restart.rows_read == trial.rows - rows
    yield restart._replace(disk_mb=round(size / 1e6), written=round(written, 2))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.recovery", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "rows",
        nargs="*",
        type=int,
        default=[1_000_000, 5_000_000, 20_000_000],
        help="of contributions: one run for each number",
    )
    parser.add_argument(
        "--session", type=float, default=SESSION, help="HEADCOUNT_SESSION_TIMEOUT (default: %(default)s)"
    )
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the broker ends with this
    found: list[Restart] = []
    with (
        TemporaryDirectory(prefix="headcount-recovery-") as temporary,
        cluster_of(Path(temporary, "broker")) as cluster,
    ):
        for rows in given.rows:
            directory = Path(temporary, str(rows))
            environment = {
                "HEADCOUNT_SESSION_TIMEOUT": str(given.session),
                "HEADCOUNT_CHECKPOINTS": str(directory / "checkpoints"),
                "HEADCOUNT_CHECKPOINT_SECONDS": str(PATIENCE),  # one is written when the worker stops, and no other
            }
            with world_of(cluster, directory, 0, 0, **environment) as world:
                subjects = max(1, rows // EVENTS_A_SUBJECT // PARTITIONS)
                found += measure(Trial(world, subjects), rows)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([each._asdict() for each in found], indent=1) + "\n")
    head = f"{'rows':>11} {'from':>10} {'seconds':>8} = given + loaded +   read {'rows read':>11}"
    print(f"{head} {'peak MB':>8} {'disk MB':>8} {'written s':>9}")
    for each in found:
        name = "checkpoint" if each.checkpoint else "the log"
        parts = f"{each.seconds:8.1f} = {each.given:5.1f} + {each.loaded:6.1f} + {each.read:6.1f}"
        costs = f"{each.peak_mb:>8,} {each.disk_mb:>8,} {each.written or '':>9}"
        print(f"{each.rows:>11,} {name:>10} {parts} {each.rows_read:>11,} {costs}")


if __name__ == "__main__":
    main()

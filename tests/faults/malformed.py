"""Thousands of malformed records among good ones: the suite of ``tests/e2e/breaking.py``, on an Apache Kafka."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

from pipeline.replay import Sender
from tests.deployment.apache import Cluster
from tests.e2e.breaking import COMPRESSIONS, Broken, broken_records, late_event
from tests.e2e.test_bad_input import Producers, good_records
from tests.e2e.test_bombs import MOST, peak_of
from tests.faults.world import World, run, world_of

BAD, GOOD, LATE = 4_000, 20_000, 20  # records, events, events
SPAN = {"HEADCOUNT_SINCE": "2026-05-01", "HEADCOUNT_UNTIL": "2026-05-04"}


def malformed(cluster: Cluster, directory: Path, seed: int, times: int) -> str:
    """The worker is never restarted, every rejected event is rejected for its reason, and its memory stays bounded."""
    peaks: list[int] = []

    def inject(world: World) -> None:
        peaks.append(peak_of(*world.workers.pids()))
        world.until(lambda: world.notes["sent"] > 0, "not everything was sent", 180)

    with world_of(cluster, directory, 1, seed, **SPAN) as world:
        run(world, inject, 1, feed=feed)
        peaks.append(peak_of(*world.workers.pids()))
        assert not world.workers.exits, world.workers.ends()
    before, after = (peak >> 20 for peak in peaks)
    assert peaks[1] < MOST, f"the worker's peak went from {before} MiB to {after} MiB"
    bad = f"{world.notes['bad']:,} malformed records of {world.notes['kinds']} kinds"
    return f"{bad}; the worker's peak: {before} MiB before, {after} MiB after"


def feed(world: World) -> Iterator[None]:
    """Everything at once, in any order; and then some that are late."""
    bad = broken_records(BAD)
    good = good_records(range(GOOD))
    records = bad + [Broken("good", value, {}, headers, events, world.source.choice(COMPRESSIONS))
                     for value, headers, events in good]  # fmt: skip
    world.source.shuffle(records)
    producers = Producers(world.kafka, world.source)
    sent = [producers.send(each) for each in records]
    for future in sent:
        future.get(60)
    with closing(Sender(world.kafka)) as sender:
        sender.tell(date(2026, 5, 2))
    records += (late := [late_event() for _ in range(LATE)])
    for each in late:
        producers.send(each)
    producers.close()
    world.sent += (event for each in records for event in each.good)
    world.rejected = Counter(str(reason) for each in records for reason in each.reasons.values())
    world.notes += Counter(sent=len(records), bad=len(bad) + LATE, kinds=len({each.kind for each in bad}))
    while True:
        yield

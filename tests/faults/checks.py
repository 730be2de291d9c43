"""What must hold whatever happened.

Every window's figures equal those of plain SQL, every release is in the log once, every event ended in one outcome, the
ledger was debited once a release, and what a partition said twice about a window was the same both times.
"""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import duckdb
import msgspec
from kafka import TopicPartition

from pipeline.core.release import decode_release
from pipeline.core.tallies import Tally
from pipeline.stream.releaselog import read_log
from pipeline.stream.tallying import decode_tally
from pipeline.stream.topics import RELEASES, TALLIES
from pipeline.warehouse.projector import rebuild
from tests.e2e.counting import Counts, count_in_sql, difference
from tests.e2e.running import cells_of, read_all

if TYPE_CHECKING:
    from tests.faults.world import World


def check(world: "World", accepted: int, rejected: Mapping[str, int]) -> None:
    """Raises AssertionError. ``accepted``, ``rejected``: events, as the topics have them, the latter by reason."""
    expected = world.rejected if world.rejected is not None else rejected.keys() & {"duplicate"}
    assert (rejected if world.rejected is not None else rejected.keys()) == expected, f"rejected {rejected}"
    path = world.directory / "events.ndjson"
    path.write_bytes(b"\n".join(map(msgspec.json.encode, world.sent)))
    log = list(read_log(world.kafka, TopicPartition(RELEASES, 0)))
    twice = [key for key, times in Counter(key for key, _ in log).items() if times > 1]
    assert twice == [], f"released twice: {twice}"
    assert accepted == len({each["id"] for each in world.sent}), f"{accepted} accepted of {len(world.sent)}"
    releases = map(decode_release, (value for _, value in log))
    counted: Counts = {(r.statistic, f"{r.window}-{r.start}"): cells_of(r) for r in releases}
    wrong = difference(*map(_where_anybody_is, (counted, count_in_sql(path))))
    assert wrong == {}, f"{len(wrong)} cells differ: {dict(list(wrong.items())[:3])}"
    said: dict[tuple[str, int], Any] = {}
    for record in read_all(world.kafka, TALLIES)[TALLIES]:
        tally = decode_tally(record.value)
        if isinstance(tally, Tally):
            assert said.setdefault((tally.window, tally.partition), _sorted(tally)) == _sorted(tally), tally.window
    rebuild(world.directory / "statistics", world.kafka)
    with duckdb.connect(world.directory / "statistics" / "statistics.duckdb", read_only=True) as connection:
        [row] = connection.execute("SELECT sum(releases) FROM policies").fetchall()
    assert row[0] == len(log), "the ledger was not debited once a release"


def _where_anybody_is(counts: Counts) -> Counts:
    """Without the cells in which there are only events of nobody: whether one is shown is not what is tested here."""
    return {key: {cell: n for cell, n in cells.items() if n[0]} for key, cells in counts.items()}


def _sorted(tally: Tally) -> Mapping[str, Any]:
    """A tally without the order in which its cells were met."""
    return {
        name: (sorted(zip(each.cells, each.users, each.events, strict=True)), each.total_users, each.total_events)
        for name, each in tally.statistics.items()
    }

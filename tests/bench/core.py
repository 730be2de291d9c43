"""The core alone, without broker and Faust: CPU seconds beside those that parsing the events takes."""

import time
from collections.abc import Callable
from datetime import date

import msgspec

from pipeline.core.contributions import Contributions, decode_contribution, encode_contribution
from pipeline.core.events import NDJSON, STRUCTURED, Record, event_type
from pipeline.core.ingest import Ingest
from pipeline.core.tallies import PartitionState
from pipeline.declarations import read_declarations
from pipeline.settings import Settings
from pipeline.testing import OPEN, MemoryKeyStore
from tests.bench.events import make_events

PARTITIONS = 4
BATCH = 4_000  # events that are handed on at once, as a fetch of a megabyte is
MOST = 16  # times the CPU seconds of parsing: generous, since machines differ; 5 to 7 is usual
DECLARED = read_declarations(Settings(), date(2026, 11, 1))


def records(events: list[bytes], each: int) -> list[list[Record]]:
    """Batches of records that hold so many events each."""
    headers = (("content-type", (STRUCTURED if each == 1 else NDJSON[0]).encode()),)
    made = [
        Record(number, 1.8e9, headers, b"\n".join(events[start : start + each]))
        for number, start in enumerate(range(0, len(events), each))
    ]
    size = BATCH // each
    return [made[start : start + size] for start in range(0, len(made), size)]


def both_hops(batches: list[list[Record]]) -> list[PartitionState]:
    """All declared windows and statistics: days, weeks and months."""
    hop = Ingest(DECLARED.registry, DECLARED.plan, DECLARED.policy, MemoryKeyStore("bench"), PARTITIONS)
    states = [PartitionState(partition, PARTITIONS, DECLARED.plan) for partition in range(PARTITIONS)]
    for batch in batches:
        for partition, contributions in hop.ingest(0, batch, OPEN).contributions.items():
            decoded = decode_contribution(encode_contribution(contributions))
            assert isinstance(decoded, Contributions)
            states[partition].fold(decoded)
    return states


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of the better of two runs."""
    spent = []
    for _ in range(2):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent)


def check(count: int = 60_000) -> None:
    """Prints what the core costs; ends the process where it costs too much."""
    events = make_events(count)
    decode = msgspec.json.Decoder(event_type(DECLARED.registry)).decode
    parsing = seconds(lambda: list(map(decode, events)))
    print(f"parsing: {1e6 * parsing / count:.2f} CPU s per million events")
    for each in (1, 500):
        batches = records(events, each)
        spent = seconds(lambda batches=batches: both_hops(batches))  # type: ignore[misc]
        print(f"both hops of the core, {each} a record: {1e6 * spent / count:.2f}, {spent / parsing:.1f} times parsing")
        if spent > MOST * parsing:
            raise SystemExit(f"the core costs over {MOST} times what parsing costs: something became slow")

"""``make bench``: what the core costs, beside the least that any consumer in Python has to do: parse the events.

Events of a simulated application, 500 a record, in rounds that take turns; CPU seconds per million events, medians.
The broker and Faust are not in it: this is the price of validation, pseudonyms, sealing, provenance and folding.
"""

import secrets
import statistics
import time
from collections.abc import Callable, Iterable
from datetime import date

import msgspec

from pipeline.core.contributions import Contributions, decode_contribution, encode_contribution
from pipeline.core.events import Record, event_type
from pipeline.core.ingest import Ingest
from pipeline.core.tallies import PartitionState
from pipeline.declarations import read_declarations
from pipeline.settings import Settings
from pipeline.simulation.days import simulate
from pipeline.simulation.writing import write_lines
from pipeline.testing import MemoryKeyStore

PARTITIONS = 4
EVENTS_A_RECORD = 500
ROUNDS = 5
DECLARED = read_declarations(Settings(), date(2026, 11, 1))


def records() -> list[Record]:
    lines = [line.strip() for line in write_lines(simulate(1, 7_000, date(2026, 6, 1), 30), broken=False)]
    arrived = time.time()
    return [
        Record(place, arrived, ((("content-type", b"application/x-ndjson")),), b"\n".join(lines[start:end]))
        for place, (start, end) in enumerate(
            (start, start + EVENTS_A_RECORD) for start in range(0, len(lines), EVENTS_A_RECORD)
        )
    ]


def parse(batches: Iterable[Record]) -> None:
    decode = msgspec.json.Decoder(event_type(DECLARED.registry)).decode_lines
    for record in batches:
        decode(record.value or b"")


def ingest(batches: Iterable[Record]) -> list[tuple[int, bytes]]:
    hop = Ingest(DECLARED.registry, DECLARED.plan, DECLARED.policy, MemoryKeyStore(secrets.token_hex(32)), PARTITIONS)
    return [
        (partition, encode_contribution(contributions))
        for record in batches
        for partition, contributions in hop.ingest(0, [record], -(10**6)).contributions.items()
    ]


def ingest_and_fold(batches: Iterable[Record]) -> None:
    states = [PartitionState(partition, PARTITIONS, DECLARED.plan) for partition in range(PARTITIONS)]
    for partition, value in ingest(batches):
        contribution = decode_contribution(value)
        if isinstance(contribution, Contributions):
            states[partition].fold(contribution)


WORK: dict[str, Callable[[list[Record]], object]] = {
    "parse and drop (the ceiling)": parse,
    "first hop": ingest,
    "both hops": ingest_and_fold,
}


def main() -> None:
    batches = records()
    events = sum((record.value or b"").count(b"\n") + 1 for record in batches)
    spent: dict[str, list[float]] = {name: [] for name in WORK}
    for _ in range(ROUNDS):
        for name, work in WORK.items():
            began = time.process_time()
            work(batches)
            spent[name].append(time.process_time() - began)
    ceiling = statistics.median(spent["parse and drop (the ceiling)"])
    print(f"{events:,} events, {ROUNDS} rounds, medians of CPU seconds per million events (least - most)")
    for name, seconds in spent.items():
        per_million = [1e6 * each / events for each in (statistics.median(seconds), min(seconds), max(seconds))]
        ratio = ceiling / statistics.median(seconds)
        print(
            f"{name:30} {per_million[0]:6.2f} ({per_million[1]:.2f} - {per_million[2]:.2f})  {ratio:.2f} of the ceiling"
        )


if __name__ == "__main__":
    main()

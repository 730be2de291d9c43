"""``python -m tests.bench.traffic``: the bytes of an event on the way in and between the hops, nothing compressed."""

from pipeline.core.contributions import encode_contribution
from pipeline.core.ingest import Ingest
from pipeline.testing import OPEN, MemoryKeyStore
from tests.bench.core import DECLARED, PARTITIONS, records
from tests.bench.events import make_events

EVENTS = 100_000


def main() -> None:
    batches = records(make_events(EVENTS), 500)
    hop = Ingest(DECLARED.registry, DECLARED.plan, DECLARED.policy, MemoryKeyStore("bench"), PARTITIONS)
    sent = sum(len(record.value or b"") for batch in batches for record in batch)
    results = [hop.ingest(0, batch, OPEN).contributions.values() for batch in batches]
    passed_on = sum(len(encode_contribution(each)) for result in results for each in result)
    print(f"usage.events         {sent / EVENTS:6.0f} bytes an event, 500 a record")
    print(f"usage.contributions  {passed_on / EVENTS:6.0f} bytes an event")


if __name__ == "__main__":
    main()

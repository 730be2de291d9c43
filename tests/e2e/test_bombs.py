"""Records that are small on the wire and huge in memory are rejected one by one, and cost a worker no memory."""

from collections import Counter
from pathlib import Path

import pytest
from kafka import KafkaProducer

from pipeline.core.outcomes import Reason
from pipeline.stream.topics import EVENTS
from pipeline.testing import event, record
from tests.e2e.running import finish, stack_of, tell_everything_was_sent

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

HOW = ("gzip", "zstd")  # snappy and lz4 make little of nothing, but not so little
BOMBS = 50
SIZE = 40 << 20
GOOD = 200
MOST = 600 << 20  # bytes; without limits it is 2.1 GB
VALUE = b'{"specversion":"1.0","data":"' + b" " * SIZE + b'"}'


def test_fifty_records_of_forty_megabytes_cost_no_memory(tmp_path: Path) -> None:
    with stack_of(tmp_path, workers=0) as stack:
        for how in HOW:
            producer = KafkaProducer(**stack.kafka, compression_type=how, max_request_size=64 << 20)
            for number in range(GOOD // len(HOW)):
                value = record(event(subject=f"u-{number}", id=f"{how}-{number}")).value
                producer.send(EVENTS, partition=number % 4, value=value)
            for number in range(BOMBS // len(HOW)):
                producer.send(EVENTS, partition=number % 4, value=VALUE).get(30)
            producer.close()
        stack.start_worker()
        tell_everything_was_sent(stack.kafka)
        finished = finish(stack, GOOD, patience=150)
        peak = peak_of(stack.processes[0].pid)
        print(f"peak memory of the worker: {peak / (1 << 20):,.0f} MiB")
    reasons = Counter(rejection.reason for rejection in finished.rejections)
    assert reasons == {Reason.TOO_LARGE: BOMBS}
    assert sum(n for (window, _), n in finished.watch.accepted.items() if window.kind == "day") == GOOD
    assert peak < MOST


def peak_of(process: int) -> int:
    """The most memory that it ever had, in bytes."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

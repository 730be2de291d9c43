"""What a worker holds in memory is bounded, whatever is sent to it and however slow the rest is."""

import asyncio
import gzip
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import codec
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from pipeline.core.events import MAX_RECORD
from pipeline.stream import fetching, unreadable
from pipeline.stream.fetching import MAX_HELD, Thread
from pipeline.stream.inflating import MAX_INFLATED, Damaged, TooLarge, inflate, plain
from pipeline.stream.topics import EVENTS
from pipeline.stream.transport import Place
from pipeline.stream.unreadable import MAX_READ, NOT_UTF8, TOO_LARGE, PartitionRecords, Records
from tests.e2e.test_bombs import peak_of
from tests.stream.consuming import make_consumer

ENCODE: dict[int, Callable[[bytes], Any]] = {
    1: codec.gzip_encode,
    2: codec.snappy_encode,
    3: codec.lz4_encode,
    4: codec.zstd_encode,
}
CODECS = [*ENCODE, 0]
each_codec = pytest.mark.parametrize("how", ENCODE)


@given(st.sampled_from(sorted(ENCODE)), st.binary(min_size=1, max_size=2000), st.integers(1, 40))
def test_what_is_inflated_is_what_was_compressed_or_too_large(how: int, data: bytes, times: int) -> None:
    data = data * times
    compressed = bytes(ENCODE[how](data))
    assert inflate(how, compressed, len(data)) == data
    with pytest.raises(TooLarge):
        inflate(how, compressed, len(data) - 1)


def test_a_stream_of_several_members_is_one() -> None:
    assert inflate(1, gzip.compress(b"one") + gzip.compress(b"two"), 6) == b"onetwo"
    with pytest.raises(TooLarge):
        inflate(1, gzip.compress(b"one") + gzip.compress(b"two"), 5)


def test_snappy_without_the_frames_of_java_is_read_too() -> None:
    assert inflate(2, bytes(codec.snappy_encode(b"plain" * 9, xerial_compatible=False)), 45) == b"plain" * 9


@each_codec
@pytest.mark.parametrize(
    "data", [b"\xffgarbage", b"\x1f\x8b\x08", b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\x7f"]
)
def test_what_is_no_compression_is_damaged(how: int, data: bytes) -> None:
    with pytest.raises(Damaged):
        inflate(how, data, 1 << 20)


def batch(how: int, *values: bytes | None, offset: int = 0) -> bytes:
    """A record batch as producers send it, with its first offset."""
    builder = DefaultRecordBatchBuilder(2, how, 0, -1, -1, -1, 1 << 30)
    for place, value in enumerate(values):
        builder.append(place, 1_700_000_000_000, None, value, [("name", b"value")])
    built = bytearray(builder.build())
    built[:8] = offset.to_bytes(8, "big")  # the broker's part; the checksum leaves it out
    return bytes(built)


def read(*batches: bytes, topic: str = EVENTS) -> list[tuple[int, bytes | None]]:
    """The offset and the value of each record, as a worker's client hands them on."""
    records = PartitionRecords(TP(topic, 0), Records(b"".join(batches)), None, 0, None, None, True, 0)
    return [(record.offset, record.value) for several in records for record in several]


@pytest.mark.parametrize("how", CODECS)
def test_what_is_small_is_read_as_it_is(how: int) -> None:
    assert read(batch(how, b"a", None, b""), batch(how, b"b", offset=3)) == [(0, b"a"), (1, None), (2, b""), (3, b"b")]


@pytest.mark.parametrize("how", [1, 3, 4])
def test_every_record_of_a_batch_that_inflates_too_far_is_too_large_and_its_neighbours_are_read(how: int) -> None:
    values = [bytes(MAX_RECORD)] * (MAX_INFLATED // MAX_RECORD)
    bomb = batch(how, *values, offset=1)
    after = 1 + len(values)
    found = read(batch(how, b"before"), bomb, batch(how, b"after", offset=after))
    assert found == [(0, b"before"), *((n, TOO_LARGE) for n in range(1, after)), (after, b"after")]
    assert {id(value) for _, value in found[1:-1]} == {id(TOO_LARGE)}  # one for all


@pytest.mark.parametrize("how", CODECS)
def test_one_record_that_is_too_large_is_so_alone(how: int) -> None:
    found = read(batch(how, b"before", b"x" * (MAX_RECORD + 1), b"x" * MAX_RECORD))
    assert found == [(0, b"before"), (1, TOO_LARGE), (2, b"x" * MAX_RECORD)]
    assert found[1][1] is TOO_LARGE


def test_what_cannot_be_inflated_is_unreadable_and_its_neighbours_are_read() -> None:
    damaged = bytearray(batch(1, b"a" * 99, b"b", offset=1))
    damaged[-9] ^= 0xFF  # in the compressed bytes
    with pytest.raises(Damaged):
        plain(bytes(damaged), 1 << 20)
    damaged[17:21] = crc32c(bytes(damaged[21:])).to_bytes(4, "big")  # as a broken producer would send it
    assert read(batch(1, b"z"), bytes(damaged), batch(1, b"c", offset=3)) == [
        (0, b"z"),
        (1, NOT_UTF8),
        (2, NOT_UTF8),
        (3, b"c"),
    ]


@given(place=st.integers(21, 80), bit=st.integers(0, 7), second=st.booleans())
def test_a_bit_that_changed_on_the_way_is_found_in_whichever_batch_it_is(place: int, bit: int, second: bool) -> None:
    first = batch(0, b"v" * 40)
    data = bytearray(first + batch(0, b"w" * 40, offset=1))
    data[place + second * len(first)] ^= 1 << bit
    with pytest.raises(CorruptRecordException):
        read(bytes(data))
    records = Records(bytes(data))
    assert [records.next_batch().validate_crc() for _ in range(2)] == [second, not second]


def batches_of(records: Any) -> list[Any]:
    """What is read of some bytes: the offsets of each batch, and in the end the error, if there is one."""
    found: list[Any] = []
    try:
        while records.has_next():
            each = records.next_batch()
            found.append((each.base_offset, each.next_offset, each.validate_crc()))
    except CorruptRecordException:
        found.append(CorruptRecordException)
    return found


BATCHES = batch(0, b"a"), batch(0, b"b", b"c", offset=1)
VERSIONS = 16, 16 + len(BATCHES[0])  # where they stand; aiokafka does not survive those that Kafka 4 does not store


@given(
    cut=st.integers(0, 200),
    at=st.integers(0, sum(map(len, BATCHES)) - 1).filter(lambda at: at not in VERSIONS),
    byte=st.integers(0, 255) | st.none(),
)
def test_a_response_is_cut_into_the_batches_that_its_client_sees(cut: int, at: int, byte: int | None) -> None:
    data = bytearray(b"".join(BATCHES))
    if byte is not None:
        data[at] = byte
    whole = bytes(data[: max(0, len(data) - cut)])
    assert batches_of(Records(memoryview(whole))) == batches_of(MemoryRecords(whole))


def test_what_workers_write_themselves_is_as_large_as_it_is() -> None:
    value = bytes(MAX_INFLATED + 1)
    assert read(batch(1, value), topic="usage.tallies") == [(0, value)]


def test_a_fetch_hands_on_no_more_bytes_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    unreadable.install()
    values = [bytes(MAX_READ // 4)] * 10
    records = PartitionRecords(TP(EVENTS, 0), Records(batch(0, *values)), None, 0, None, None, True, 0)
    position = SimpleNamespace(paused=False, position=0, consumed_to=lambda at: setattr(position, "position", at))
    assignment = SimpleNamespace(active=True, state_value=lambda _: position)
    fetched = fetcher.FetchResult(TP(EVENTS, 0), assignment=assignment, partition_records=records, backoff=0)
    handed, positions = [], []
    while fetched.has_more():
        handed.append([record.offset for record in fetched.getall(5000)])
        positions.append(position.position)
    assert handed == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert positions == [4, 8, 10]


@pytest.fixture
def thread() -> Any:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield Thread(make_consumer())
    loop.close()
    asyncio.set_event_loop(None)


def test_what_is_fetched_and_not_handled_is_counted_until_it_is_handled_or_read_again(thread: Any) -> None:
    tp = TP(EVENTS, 0)
    thread.consumer._places[tp] = place = Place(0)

    def fetch(start: int, *sizes: int) -> None:
        thread._hold(tp, start, [SimpleNamespace(offset=start + n, value=bytes(s)) for n, s in enumerate(sizes)])

    fetch(0, 5, 6)
    fetch(2, 7)
    assert thread.held(tp) == 18
    place.offset = 2
    assert thread.held(tp) == 7
    fetch(2, 7, 8)  # Faust dropped it, and it is fetched again
    assert thread.held(tp) == 15
    del thread.consumer._places[tp]
    assert thread.held(tp) == 0


def test_a_partition_that_holds_enough_is_not_fetched(thread: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    full, empty = TP(EVENTS, 0), TP(EVENTS, 1)
    thread.consumer._places = {full: Place(0), empty: Place(0)}
    thread._hold(full, 0, [SimpleNamespace(offset=0, value=bytes(MAX_HELD))])
    asked = []

    async def fetch(_: Any, __: Any, partitions: Any, **___: Any) -> dict[Any, Any]:
        asked.append(partitions)
        return {}

    monkeypatch.setattr(fetching.driver.AIOKafkaConsumerThread, "_fetch_records", fetch)
    monkeypatch.setattr(Thread, "_state", staticmethod(lambda *_: None))

    async def scenario() -> None:
        await thread._fetch_records(None, {full, empty}, timeout=1.0)
        await thread._fetch_records(None, {full}, timeout=1.0)  # none is left: that would mean all
        thread.consumer._places[full].offset = 1
        await thread._fetch_records(None, {full}, timeout=1.0)

    asyncio.get_event_loop().run_until_complete(scenario())
    assert asked == [{empty}, {full}]


SENT = 600  # records of a megabyte
MOST = 280 << 20  # bytes; without limits 360 MiB, and more the more waits


@pytest.mark.e2e
def test_a_worker_whose_work_is_slow_holds_little_of_what_waits(kafka: dict[str, Any], tmp_path: Path) -> None:
    admin = KafkaAdminClient(**kafka)
    admin.create_topics([NewTopic(name, 2, 1) for name in ("read.events", "read.fold")])
    admin.close()
    producer = KafkaProducer(**kafka, max_request_size=4 << 20)
    for first in range(0, SENT, 20):
        values = {number: b"%d" % (number // 2) + bytes(1 << 20) for number in range(first, first + 20)}
        sent = [producer.send("read.events", partition=n % 2, value=value) for n, value in values.items()]
        for future in sent:
            future.get(60)  # this process holds no more than it has to, either
    notes = tmp_path / "notes"
    notes.touch()
    command = [sys.executable, "-m", "tests.stream.reading", kafka["bootstrap_servers"][0], str(notes), "2"]
    worker = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 90
        while len(notes.read_text().splitlines()) < 8 and worker.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        handled = [line.split() for line in notes.read_text().splitlines()]
        peak = peak_of(worker.pid)
    finally:
        worker.kill()
        worker.wait()
        producer.close()
    print(f"peak memory: {peak / (1 << 20):,.0f} MiB with {SENT} MiB waiting")
    assert len(handled) >= 8
    assert sum(int(last) - int(first) + 1 for _, _, first, last in handled) < SENT  # it was slow
    assert peak < MOST

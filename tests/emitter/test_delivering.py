"""What arrives at a real broker, and what is counted when it is away."""

import gc
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_structured
from cloudevents.core.formats.json import JSONFormat
from kafka.errors import KafkaTimeoutError

from pipeline._buffer import EVENTS_IN_RECORD, Piece
from pipeline._connection import connect
from pipeline._delivery import BYTES_IN_RECORD, RECORDS_IN_ROUND, Delivery
from pipeline.emitter import EmitterStats, UsageEmitter
from pipeline.stream.broker import embedded_broker
from tests.deployment.files import within

from .conftest import arrived, create_topic, records

Make = Callable[..., UsageEmitter]
ROOT = Path(__file__).parents[2]


# kafka-python keeps the records to itself, as it does while a broker does not answer.
HELD = {"linger_ms": 60_000, "delivery_timeout_ms": 120_000}


def wait_until_held(usage: UsageEmitter) -> None:
    deadline = time.monotonic() + 10
    while not ((producer := usage._delivery._producer) and producer._accumulator.has_incomplete):
        assert time.monotonic() < deadline


def balanced(stats: EmitterStats) -> bool:
    return stats.accepted == stats.sent + stats.dropped_full + stats.dropped_failed + stats.buffered


def test_many_events_travel_in_one_record(make: Make, broker: str, topic: str) -> None:
    usage = make(broker, topic=topic, linger=30)
    for number in range(1_200):
        usage.emit("call.started", subject=f"u-{number}")
    assert usage.flush(10)
    found = records(broker, topic, 1_200)
    assert len(found) <= 4  # 1,200 / 500, and the first may leave before it is full
    assert max(len(json.loads(record.value)) for record in found) <= EVENTS_IN_RECORD
    assert usage.stats.sent == 1_200


def test_a_full_record_does_not_linger(make: Make, broker: str, topic: str) -> None:
    usage = make(broker, topic=topic, linger=3600)
    usage.emit("call.started")
    assert usage.flush(10)  # connected from here on, and would linger
    for _ in range(EVENTS_IN_RECORD):
        usage.emit("call.started")
    assert len(records(broker, topic, EVENTS_IN_RECORD + 1)) == 2


@pytest.mark.parametrize("end", ["flush", "close"])
def test_flush_and_close_send_every_round_without_lingering(make: Make, broker: str, topic: str, end: str) -> None:
    asked, answer = threading.Event(), threading.Event()

    def opted_out(subject: str) -> bool:
        asked.set()
        return not answer.wait(30)

    def answer_once_told_to_hurry() -> None:
        while not usage._delivery._nudged:
            time.sleep(0.001)
        answer.set()

    usage = make(broker, topic=topic, linger=3600, opted_out=opted_out)
    usage.emit("call.started", subject="u-17")
    assert asked.wait(10)
    events = EVENTS_IN_RECORD * RECORDS_IN_ROUND + 10
    for _ in range(events):
        usage.emit("call.started")
    threading.Thread(target=answer_once_told_to_hurry).start()
    assert getattr(usage, end)(10)
    assert usage.stats.sent == 1 + events


def test_a_record_stays_below_its_limit_of_bytes(make: Make, broker: str, topic: str) -> None:
    usage = make(broker, topic=topic, linger=30)
    for _ in range(EVENTS_IN_RECORD):
        usage.emit("call.started", subject="€" * 256)
    assert usage.flush(10)
    sizes = [len(record.value) for record in records(broker, topic, EVENTS_IN_RECORD)]
    assert max(sizes) <= BYTES_IN_RECORD + 2  # the brackets
    assert sum(sizes) > BYTES_IN_RECORD


def test_a_record_is_a_cloudevents_batch_that_a_foreign_client_reads(make: Make, broker: str, topic: str) -> None:
    usage = make(broker, topic=topic)
    usage.emit("call.started", subject="u-17", platform="ios", app_version="3.1.4", country="NL", plan="free")
    usage.emit("call.ended", id="mine", duration_ms=1200)
    assert usage.flush(10)
    read = {}
    for record in records(broker, topic, 2):
        assert dict(record.headers) == {"content-type": b"application/cloudevents-batch+json"}
        assert record.key is None
        for event in json.loads(record.value):
            headers = {"content-type": b"application/cloudevents+json"}
            message = KafkaMessage(headers=headers, key=None, value=json.dumps(event).encode())
            read[event["data"]["feature"]] = from_structured(message, JSONFormat())
    started, ended = read["call.started"], read["call.ended"]
    assert (started.get_source(), started.get_type()) == ("shop-web", "usage.feature.used.v1")
    assert (started.get_subject(), ended.get_subject(), ended.get_id()) == ("u-17", None, "mine")
    assert started.get_time().utcoffset() is not None
    assert started.get_data() == {
        "feature": "call.started", "platform": "ios", "app_version": "3.1.4", "country": "NL", "plan": "free"
    }  # fmt: skip
    assert ended.get_data() == {"feature": "call.ended", "duration_ms": 1200}


def test_every_event_of_every_thread_arrives_once_under_its_own_id_and_the_counts_balance_throughout(
    make: Make, broker: str, topic: str
) -> None:
    usage = make(broker, topic=topic, capacity=100_000)

    def work() -> None:
        for _ in range(2_500):
            usage.emit("call.started")
            assert balanced(usage.stats)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert usage.flush(20)
    assert balanced(usage.stats)
    assert usage.stats.sent == 10_000
    assert len({event["id"] for event in arrived(broker, topic, 10_000)}) == 10_000


def test_what_does_not_fit_is_dropped_and_counted(make: Make, absent: str) -> None:
    usage = make(absent, capacity=10)
    assert sum(usage.emit("call.started") for _ in range(25)) == 10
    assert usage.stats == EmitterStats(25, 0, 15, 0, 0, 0, 10)
    assert not usage.flush(0.01)
    assert not usage.close(0.01)
    assert usage.stats == EmitterStats(25, 0, 15, 10, 0, 0, 0)


def test_what_was_emitted_before_the_broker_appeared_arrives(make: Make, absent: str) -> None:
    usage = make(absent)
    for _ in range(100):
        usage.emit("call.started")
    assert not usage.flush(0.5)
    assert usage.stats.buffered == 100
    with embedded_broker(int(absent.partition(":")[2])) as address:
        create_topic(address, "usage.events")
        assert usage.flush(30)
        arrived(address, "usage.events", 100)


def test_what_was_emitted_while_the_broker_was_away_arrives(make: Make, absent: str) -> None:
    port = int(absent.partition(":")[2])
    usage = make(absent, kafka={"request_timeout_ms": 500, "delivery_timeout_ms": 1_000})
    with embedded_broker(port) as address:
        create_topic(address, "usage.events")
        usage.emit("before")
        assert usage.flush(10)
    usage.emit("meanwhile")
    assert not usage.flush(0.5)
    with embedded_broker(port) as address:
        create_topic(address, "usage.events")
        assert usage.flush(60)
        usage.emit("after")
        assert usage.flush(10)
        found = [event for record in records(address, "usage.events", 2) for event in json.loads(record.value)]
    # An acknowledgement that took longer than a second is not waited for: the same event comes again, under its id.
    assert sorted({event["id"]: event["data"]["feature"] for event in found}.values()) == ["after", "meanwhile"]
    assert usage.stats.sent == 3


def test_what_no_broker_will_take_is_dropped_and_counted_and_holds_up_nothing(
    make: Make, broker: str, topic: str
) -> None:
    usage = make(broker, topic=topic, kafka={"max_request_size": 1_000}, linger=30)
    for _ in range(50):
        usage.emit("call.started")
    assert not usage.flush(10)
    usage.emit("call.ended")
    assert usage.flush(10)
    assert usage.stats == EmitterStats(51, 1, 0, 50, 0, 0, 0)
    assert [event["data"]["feature"] for event in arrived(broker, topic, 1)] == ["call.ended"]


def test_an_event_that_cannot_be_encoded_holds_up_no_other(broker: str, topic: str) -> None:
    class Door:
        def leaving(self, piece: Piece[bytes]) -> Piece[bytes]:
            return piece

        def encode(self, events: Sequence[bytes]) -> bytes:
            return json.dumps([event.decode() for event in events]).encode()

    delivery = Delivery(topic, lambda: connect(broker, {}), Door(), capacity=10, linger=0)
    for event in (b"one", b"\xff", b"two"):
        delivery.buffer.put(event)
    assert not delivery.close(10)
    assert (delivery.buffer.counts()["sent"], delivery.buffer.counts()["dropped_failed"]) == (2, 1)


@contextmanager
def nothing_left_behind(files: bool = True) -> Iterator[None]:
    """No thread of ours and no file is open afterwards, though the garbage collector has not run."""
    gc.collect()
    threads, opened = set(threading.enumerate()), len(os.listdir("/dev/fd"))
    gc.disable()
    try:
        yield
        for thread in set(threading.enumerate()) - threads:
            thread.join(5)
            assert not thread.is_alive()
        # What stays open is meant: threads of other tests' emitters may open something in between.
        assert not files or within(5, lambda: len(os.listdir("/dev/fd")) <= opened)
    finally:
        gc.enable()


def test_close_leaves_nothing_behind(make: Make, broker: str, topic: str) -> None:
    with nothing_left_behind():
        usage = make(broker, topic=topic)
        usage.emit("call.started")
        assert usage.close(10)


def test_a_broker_that_is_away_costs_no_open_files(make: Make, absent: str) -> None:
    with nothing_left_behind():
        usage = make(absent)
        usage.emit("call.started")
        assert not usage.flush(0.1)
        usage.close(0)


def test_a_broker_that_never_answers_costs_no_open_files(nobody: str) -> None:
    with nothing_left_behind(), pytest.raises(KafkaTimeoutError):
        connect(nobody, {"bootstrap_timeout_ms": 200})


def test_a_connection_is_let_go_of_though_it_holds_undelivered_records(make: Make, absent: str) -> None:
    usage = make(absent)
    with nothing_left_behind(files=False):  # kafka-python leaks those while it reconnects
        with embedded_broker(int(absent.partition(":")[2])) as address:
            create_topic(address, "usage.events")
            usage.emit("call.started")
            assert usage.flush(10)
        usage.emit("call.ended")
        wait_until_held(usage)
        assert not usage.close(0)
        usage._delivery.disconnect()


def test_an_emitter_that_is_let_go_of_sends_what_it_holds_and_ends(make: Make, broker: str, topic: str) -> None:
    usage = UsageEmitter("shop-web", bootstrap_servers=broker, topic=topic, linger=3600)
    usage.emit("call.started")
    assert usage.flush(10)
    usage.emit("call.ended")
    thread, gone = usage._delivery._thread, weakref.ref(usage)
    assert thread is not None
    del usage
    gc.collect()
    assert gone() is None
    thread.join(10)
    assert not thread.is_alive()
    arrived(broker, topic, 2)


def test_a_forked_child_does_not_wait_for_what_its_parent_has_under_way(broker: str, topic: str) -> None:
    script = """
        import os
        from pipeline.emitter import UsageEmitter
        from tests.emitter.test_delivering import HELD, wait_until_held
        usage = UsageEmitter("shop-web", topic=os.environ["TOPIC"], kafka=HELD)
        usage.emit("call.started")
        wait_until_held(usage)
        if os.fork() == 0:
            raise SystemExit
        os.wait()
        usage.close(0)
    """
    assert "Traceback" not in run(script, KAFKA_BOOTSTRAP_SERVERS=broker, TOPIC=topic).stderr


def run(script: str, **values: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        env={**os.environ, **values, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_what_is_buffered_when_the_process_ends_is_sent(broker: str, topic: str) -> None:
    script = """
        import os
        from pipeline.emitter import UsageEmitter
        usage = UsageEmitter("shop-web", topic=os.environ["TOPIC"], linger=3600)
        usage.emit("first")
        assert usage.flush(20)
        for _ in range(3):
            usage.emit("last")
    """
    done = run(script, KAFKA_BOOTSTRAP_SERVERS=broker, TOPIC=topic)
    assert done.stderr == ""
    features = [event["data"]["feature"] for event in arrived(broker, topic, 4)]
    assert sorted(features) == ["first", "last", "last", "last"]


def test_a_process_ends_by_itself_when_the_broker_is_away(absent: str) -> None:
    script = """
        from pipeline.emitter import UsageEmitter
        usage = UsageEmitter("shop-web")
        usage.emit("call.started", subject="the-subject")
    """
    done = run(script, KAFKA_BOOTSTRAP_SERVERS=absent)
    assert "1 dropped as undeliverable" in done.stderr
    assert "Traceback" not in done.stderr
    assert "the-subject" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_sends_its_own_events_and_leaves_its_parents_to_the_parent(broker: str, topic: str) -> None:
    script = """
        import os
        from pipeline.emitter import UsageEmitter
        usage = UsageEmitter("shop-web", topic=os.environ["TOPIC"], linger=3600)
        closed = UsageEmitter("shop-web")
        closed.close()
        usage.emit("parent")
        assert usage.flush(20)
        usage.emit("parent")
        child = os.fork()
        if child == 0:
            assert usage.stats.accepted == 0
            assert not closed.emit("child")
            usage.emit("child")
            assert usage.flush(20)
            raise SystemExit
        assert os.waitpid(child, 0)[1] == 0
        usage.emit("parent")
        assert usage.close(20)
        assert usage.stats.sent == 3
    """
    done = run(script, KAFKA_BOOTSTRAP_SERVERS=broker, TOPIC=topic)
    assert "Traceback" not in done.stderr
    found = arrived(broker, topic, 4)
    assert sorted(event["data"]["feature"] for event in found) == ["child", "parent", "parent", "parent"]
    assert len({event["id"] for event in found}) == 4

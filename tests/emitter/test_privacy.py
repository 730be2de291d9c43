"""Who is not counted, and that no log says what an event said."""

import logging
import re
import socket
import threading
import time
from collections.abc import Callable

import pytest

from pipeline._connection import NAME
from pipeline.emitter import EmitterStats, UsageEmitter
from pipeline.stream.broker import embedded_broker

from .conftest import arrived, create_topic

Make = Callable[..., UsageEmitter]


@pytest.mark.parametrize("value", ["1", "true", "yes", "anything"])
def test_do_not_track_opens_no_connection_starts_no_thread_and_is_counted(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", value)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = threading.active_count()
        with UsageEmitter("shop-web", bootstrap_servers=f"127.0.0.1:{listener.getsockname()[1]}") as usage:
            assert not any(usage.emit("call.started", subject="u-17") for _ in range(3))
            assert usage.flush(1)
            assert threading.active_count() == threads
        assert usage.stats == EmitterStats(0, 0, 0, 0, opted_out=3, refused=0, buffered=0)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("value", ["", "0", "false", "False"])
def test_do_not_track_that_says_no_is_no_opt_out(
    make: Make, monkeypatch: pytest.MonkeyPatch, absent: str, value: str
) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", value)
    assert make(absent).emit("call.started")


def test_an_opted_out_subject_is_never_sent_and_the_others_are(make: Make, broker: str, topic: str) -> None:
    usage = make(broker, topic=topic)
    usage.opt_out("u-17")
    assert not usage.emit("call.started", subject="u-17")
    assert usage.emit("call.started", subject="u-18")
    assert usage.emit("call.started")
    assert usage.flush(10)
    assert {event.get("subject") for event in arrived(broker, topic, 2)} == {"u-18", None}
    assert usage.stats == EmitterStats(2, 2, 0, 0, opted_out=1, refused=0, buffered=0)


def test_an_opt_out_withdraws_what_is_still_buffered_even_if_it_is_taken_back(make: Make, absent: str) -> None:
    usage = make(absent)
    for subject in ("stays", "leaves", "returns", "stays"):
        usage.emit("before", subject=subject)
    usage.opt_out("leaves")
    usage.opt_out("returns")
    usage.emit("between", subject="returns")
    usage.opt_in("returns")
    usage.emit("after", subject="returns")
    with embedded_broker(int(absent.partition(":")[2])) as address:
        create_topic(address, "usage.events")
        assert usage.flush(30)
        found = sorted((e["subject"], e["data"]["feature"]) for e in arrived(address, "usage.events", 3))
    assert found == [("returns", "after"), ("stays", "before"), ("stays", "before")]
    assert usage.stats == EmitterStats(3, 3, 0, 0, opted_out=3, refused=0, buffered=0)


def test_opting_in_somebody_who_never_opted_out_changes_nothing(make: Make, broker: str, topic: str) -> None:
    usage = make(broker, topic=topic)
    usage.emit("before", subject="u-17")
    usage.opt_in("u-17")
    usage.emit("after", subject="u-17")
    assert usage.flush(10)
    arrived(broker, topic, 2)


def test_the_application_is_asked_in_the_background_and_only_about_subjects(
    make: Make, broker: str, topic: str
) -> None:
    asked: list[tuple[str, str]] = []

    def opted_out(subject: str) -> bool:
        asked.append((subject, threading.current_thread().name))
        return subject == "u-17"

    usage = make(broker, topic=topic, opted_out=opted_out)
    for subject in ("u-17", "u-18", None):
        assert usage.emit("call.started", subject=subject)
    assert usage.flush(10)
    assert asked == [("u-17", NAME), ("u-18", NAME)]
    assert {event.get("subject") for event in arrived(broker, topic, 2)} == {"u-18", None}
    assert usage.stats == EmitterStats(2, 2, 0, 0, opted_out=1, refused=0, buffered=0)


@pytest.mark.parametrize("error", [LookupError, SystemExit])
def test_a_subject_is_not_sent_when_nobody_can_say_whether_it_opted_out(
    make: Make, broker: str, topic: str, error: type[BaseException]
) -> None:
    def broken(subject: str) -> bool:
        raise error(subject)

    usage = make(broker, topic=topic, opted_out=broken)
    usage.emit("call.started", subject="u-17")
    usage.emit("call.started")
    assert usage.flush(10)
    assert [event.get("subject") for event in arrived(broker, topic, 1)] == [None]
    assert usage.stats.opted_out == 1


def test_no_log_quotes_an_event_not_even_at_debug(
    make: Make, broker: str, topic: str, absent: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("kafka")]:
        caplog.set_level(logging.DEBUG, logger=name)  # taken back when the test ends

    def broken(subject: str) -> bool:
        if subject == "secret-broken":
            raise LookupError(subject)
        return False

    for address in (broker, absent):
        usage = make(address, topic=topic, opted_out=broken)
        for subject in ("secret-subject", "secret-broken", "secret\n"):
            usage.emit("secret.feature", subject=subject, id=f"secret-id-{subject}")
        usage.flush(2)
        usage.close(0)
    assert usage.stats.dropped_failed == 2
    seen = [record.getMessage() + (record.exc_text or "") for record in caplog.records]
    assert any("2 dropped as undeliverable" in message for message in seen)
    assert not any("secret" in message for message in seen)
    assert {record.name.split(".")[0] for record in caplog.records if record.threadName == NAME} <= {"headcount"}


def test_the_applications_own_use_of_kafka_is_logged_as_ever(
    make: Make, broker: str, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    usage = make(broker, topic=topic)
    usage.emit("call.started")
    assert usage.flush(10)
    caplog.set_level(logging.DEBUG, logger="kafka.net.manager")
    create_topic(broker, topic + ".own")
    assert any(record.name == "kafka.net.manager" for record in caplog.records)


def test_trouble_is_logged_once_a_minute_with_counts_and_the_errors_name(
    make: Make, absent: str, caplog: pytest.LogCaptureFixture
) -> None:
    def logged() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "headcount.emitter"]

    usage = make(absent, capacity=1)
    for _ in range(3):
        usage.emit("call.started", subject="u-17")
    deadline = time.monotonic() + 10
    while not (logged() and usage._delivery._error):  # said once, and failed once more since
        assert not usage.flush(0.01)
        assert time.monotonic() < deadline
    (message,) = logged()
    assert re.fullmatch(
        r"usage events: 0 sent, 1 waiting, [012] dropped because the buffer was full, "
        r"0 dropped as undeliverable, 0 refused; last error: ConnectionRefusedError",
        message,
    )

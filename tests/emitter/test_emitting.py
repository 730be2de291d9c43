"""What `emit` takes and refuses, and that no application ever notices it."""

import enum
import json
import logging
import re
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from unicodedata import category

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.emitter import _COMBINATIONS, UsageEmitter

from .conftest import arrived

Make = Callable[..., UsageEmitter]
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
# Away from the ends of the calendar, where the time in another zone is in no year.
EARLIEST, LATEST = (NOW.replace(year=year, tzinfo=None) for year in (1, 9999))


class Hostile:
    """Fails whatever is done with it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError

    __eq__ = __hash__ = __bool__ = __str__ = __len__ = __iter__ = __index__ = __getattribute__  # type: ignore[assignment]


class NoZone(tzinfo):
    def utcoffset(self, _: datetime | None) -> timedelta | None:
        raise OSError


class Platform(enum.StrEnum):
    WEB = "web"


class Text(str):
    pass


class Moment(datetime):
    pass


FIELDS = ("subject", "time", "id", "platform", "app_version", "country", "duration_ms", "plan")
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.lists(st.text(), max_size=2),
    st.builds(Hostile),
    st.just(datetime.min.replace(tzinfo=timezone(timedelta(hours=9)))),
    st.builds(lambda: datetime(2026, 1, 1, tzinfo=NoZone())),
)


@given(feature=anything, arguments=st.dictionaries(st.sampled_from((*FIELDS, "email")), anything, max_size=4))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_passed_nothing_is_raised_and_each_call_is_counted_once(
    nobody: str, feature: Any, arguments: dict[str, Any]
) -> None:
    usage = UsageEmitter("shop-web", bootstrap_servers=nobody)
    taken = usage.emit(feature, **arguments)
    stats = usage.stats
    assert taken is (stats.accepted == 1)
    assert stats.accepted + stats.refused == 1
    usage.close(0)


text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=256)
sound = st.fixed_dictionaries(
    {"feature": st.from_regex(r"[a-z][a-z0-9_.-]{0,47}", fullmatch=True)},
    optional={
        "subject": text,
        "time": st.datetimes(EARLIEST, LATEST, timezones=st.timezones()),
        "platform": st.sampled_from(["web", Platform.WEB, Text("web")]),
        "app_version": st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}", fullmatch=True),
        "country": st.from_regex(r"[A-Z]{2}", fullmatch=True),
        "duration_ms": st.integers(0, 2**53 - 1),
        "plan": st.sampled_from(["free", "premium"]),
    },
)


@given(calls=st.lists(sound, min_size=1, max_size=20))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_sound_event_is_taken_and_sent(broker: str, topic: str, calls: list[dict[str, Any]]) -> None:
    with UsageEmitter("shop-web", bootstrap_servers=broker, topic=topic) as usage:
        assert all(usage.emit(**call) for call in calls)
        assert usage.flush(10)
        assert usage.stats.sent == usage.stats.accepted == len(calls)


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("no feature", {"feature": ""}),
    ("a feature that is a sentence", {"feature": "Call started"}),
    ("a feature with a line end after it", {"feature": "call.started\n"}),
    ("a feature that is too long", {"feature": "c" * 49}),
    ("a feature of bytes", {"feature": b"call.started"}),
    ("an empty subject", {"subject": ""}),
    ("a subject that is a number", {"subject": 17}),
    ("a subject that is too long", {"subject": "u" * 257}),
    ("a subject that cannot be encoded", {"subject": "\ud800"}),
    ("a subject with a control character", {"subject": "u\x00"}),
    ("an empty id", {"id": ""}),
    ("a time without a zone", {"time": NOW.replace(tzinfo=None)}),
    ("a time that is text", {"time": "2026-11-22T09:30:00Z"}),
    ("a platform that is free text", {"platform": "my phone"}),
    ("a version that is free text", {"app_version": "1.2 for ann@example.org"}),
    ("a version of five numbers", {"app_version": "1.2.3.4.5"}),
    ("a country in words", {"country": "Nederland"}),
    ("a negative duration", {"duration_ms": -1}),
    ("a duration with a fraction", {"duration_ms": 1.5}),
    ("a duration that is a truth value", {"duration_ms": True}),
    ("a duration beyond every reader", {"duration_ms": 2**53}),
    ("an unknown field", {"email": "ann@example.org"}),
]


@pytest.mark.parametrize(("what", "arguments"), REFUSED, ids=[what for what, _ in REFUSED])
def test_what_is_no_event_is_refused_and_counted(make: Make, absent: str, what: str, arguments: dict[str, Any]) -> None:
    usage = make(absent)
    assert usage.emit(**{"feature": "call.started", **arguments}) is False
    assert usage.stats.refused == 1
    assert usage.stats.accepted == 0


def test_what_was_refused_once_is_refused_again_though_all_else_was_seen_before(make: Make, absent: str) -> None:
    usage = make(absent)
    sound = {"platform": "web", "app_version": "4.2.0", "country": "NL", "plan": "free"}
    for _ in range(2):
        assert usage.emit("call.started", **sound)
        for field in sound:
            assert not usage.emit("call.started", **{**sound, field: "two words"})
            assert not usage.emit("call.started", **{**sound, field: 7})


def test_what_is_remembered_of_events_is_bounded_and_says_nothing_of_a_subject(make: Make, absent: str) -> None:
    usage = make(absent)
    for number in range(_COMBINATIONS + 10):
        assert usage.emit(f"feature-{number}", subject="secret-subject", id="secret-id", duration_ms=987_654_321)
    assert 0 < len(usage._seen) <= _COMBINATIONS
    remembered = repr(usage._seen)
    assert not any(word in remembered for word in ("secret", "987654321", "987_654_321"))


@given(subject=st.text(max_size=300))
def test_a_subject_is_taken_if_and_only_if_it_is_1_to_256_characters_without_controls(subject: str) -> None:
    usage = UsageEmitter("shop-web", bootstrap_servers="127.0.0.1:1", capacity=0)
    usage.emit("call.started", subject=subject)
    sound = 1 <= len(subject) <= 256 and all(category(each) not in ("Cc", "Cs") for each in subject)
    assert usage.stats.refused == (not sound)


def test_an_event_that_is_sent_again_keeps_its_id(make: Make, absent: str) -> None:
    usage = make(absent)
    assert all(usage.emit("call.started", id=name) for name in (None, "mine", None))
    piece = usage._buffer.take(partly=True)
    assert piece is not None
    first, again = (usage._delivery._door.encode(piece.events) for _ in range(2))
    ids = [event["id"] for event in json.loads(first)]
    assert again == first
    assert ids[1] == "mine"
    assert len(set(ids)) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in (ids[0], ids[2]))


def test_a_clock_that_fails_costs_the_event_and_nothing_else(make: Make, absent: str) -> None:
    usage = make(absent, clock=lambda: NOW.replace(tzinfo=None))
    assert not usage.emit("call.started")
    assert usage.emit("call.started", time=NOW)
    assert (usage.stats.refused, usage.stats.accepted) == (1, 1)


def test_the_time_is_the_clocks_unless_it_is_given_and_always_in_utc(make: Make, broker: str, topic: str) -> None:
    usage = make(broker, topic=topic, clock=lambda: NOW)
    amsterdam = timezone(timedelta(hours=1))
    usage.emit("clock")
    usage.emit("given", time=datetime(2026, 11, 22, 10, 30, tzinfo=amsterdam))
    usage.emit("subclass", time=Moment(2026, 11, 22, 10, 30, tzinfo=amsterdam))
    assert usage.flush(10)
    times = {event["data"]["feature"]: event["time"] for event in arrived(broker, topic, 3)}
    assert {name: datetime.fromisoformat(time) for name, time in times.items()} == dict.fromkeys(times, NOW)
    assert all(time.endswith(("Z", "+00:00")) for time in times.values())


def test_subclasses_of_str_are_taken_as_the_text_they_hold(make: Make, broker: str, topic: str) -> None:
    usage = make(broker, topic=topic)
    assert usage.emit(Text("call.started"), subject=Text("u-17"), platform=Platform.WEB)
    assert usage.flush(10)
    (event,) = arrived(broker, topic, 1)
    assert (event["subject"], event["data"]) == ("u-17", {"feature": "call.started", "platform": "web"})


def test_a_broker_that_accepts_and_never_answers_holds_nobody_up(make: Make, nobody: str) -> None:
    usage = make(nobody, capacity=10)
    assert [usage.emit("call.started") for _ in range(12)] == [True] * 10 + [False] * 2
    assert usage.stats.buffered == 10


def test_emit_returns_while_the_background_thread_is_stuck(make: Make, broker: str, topic: str) -> None:
    stuck, release = threading.Event(), threading.Event()

    def asked(subject: str) -> bool:
        stuck.set()
        return release.wait(30) and False

    usage = make(broker, topic=topic, opted_out=asked)
    usage.emit("call.started", subject="u-1")
    assert stuck.wait(10)
    assert all(usage.emit("call.ended", subject="u-1") for _ in range(2_000))
    assert usage.stats.sent == 0
    release.set()
    assert usage.flush(10)
    assert usage.stats.sent == 2_001


def test_a_signal_handler_may_emit_while_its_own_thread_emits(make: Make, absent: str) -> None:
    usage = make(absent)
    previous = signal.signal(signal.SIGUSR1, lambda *_: usage.emit("signal.received"))
    try:
        with usage._delivery._lock:  # where a signal could otherwise wait for itself for ever
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert usage.stats.accepted == 1


def test_a_log_handler_may_emit(make: Make, absent: str) -> None:
    usage = make(absent)
    emitted = threading.Event()

    class Emitting(logging.Handler):
        def handle(self, _: logging.LogRecord) -> bool:
            other = threading.Thread(target=lambda: usage.emit("log.written") and emitted.set())
            other.start()
            other.join(10)
            return True

    handler = Emitting()
    logging.getLogger("headcount.emitter").addHandler(handler)
    try:
        usage.emit("call.started")
        assert emitted.wait(10)
    finally:
        logging.getLogger("headcount.emitter").removeHandler(handler)


def test_after_close_events_are_refused(make: Make, broker: str, topic: str) -> None:
    usage = make(broker, topic=topic)
    usage.emit("call.started")
    assert usage.close(10)
    assert not usage.emit("call.ended")
    assert usage.close(10)
    assert (usage.stats.sent, usage.stats.refused) == (1, 1)


@pytest.mark.parametrize("name", ["", "two words", "é", "a" * 257, None, 7])
def test_an_application_without_a_proper_name_is_told_so_at_once(name: Any) -> None:
    with pytest.raises(ValueError, match="such as 'shop-web'"):
        UsageEmitter(name)


def test_a_misspelt_kafka_setting_is_named_and_its_value_is_not() -> None:
    with pytest.raises(ValueError, match="sasl_plain_pasword") as caught:
        UsageEmitter("shop-web", kafka={"sasl_plain_pasword": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_the_broker_is_found_in_the_environment(monkeypatch: pytest.MonkeyPatch, broker: str, topic: str) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker)
    with UsageEmitter("shop-web", topic=topic) as usage:
        usage.emit("call.started")
        assert usage.flush(10)


def test_an_emitter_that_is_never_used_starts_no_thread(make: Make, nobody: str) -> None:
    before = threading.active_count()
    usage = make(nobody)
    assert usage.flush(0)
    assert usage.close(0)
    assert threading.active_count() == before

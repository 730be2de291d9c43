"""What an application imports: usage events leave it in the background, and never disturb it.

    usage = UsageEmitter("shop-web")
    usage.emit("call.started", subject="u-17", platform="web")

`emit` takes microseconds, never waits, and never raises. Every call ends in exactly one counter: calls =
accepted + opted_out + refused, and accepted = sent + dropped_full + dropped_failed + buffered.
"""

import dataclasses
import os
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import Any, Never, Self

import msgspec

from pipeline._buffer import Piece
from pipeline._connection import check, connect
from pipeline._delivery import EXIT, Delivery

__all__ = ["EmitterStats", "UsageEmitter"]

TYPE = "usage.feature.used.v1"
# Shapes, so that no free text leaves the application. Which values are registered is for the pipeline to say.
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,47}").fullmatch
_VERSION = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,3}").fullmatch
_COUNTRY = re.compile(r"[A-Z]{2}").fullmatch
_SOURCE = re.compile(r"[!-~]{1,256}").fullmatch
_IDENTIFIER = re.compile("[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,256}").fullmatch  # what CloudEvents allows
_LONGEST = 2**53  # ms; every JSON reader holds smaller whole numbers exactly
_COMBINATIONS = 2_000  # of registered fields that were looked at before, and need not be again


class Data(msgspec.Struct, omit_defaults=True, gc=False):
    """What was used: the registered fields."""

    feature: str
    platform: str | None = None
    app_version: str | None = None
    country: str | None = None
    duration_ms: int | None = None
    plan: str | None = None


class Event(msgspec.Struct, omit_defaults=True, gc=False):
    """A CloudEvents 1.0 event. The id may be empty until the event is first sent; from then on it stays."""

    specversion: str
    id: str
    source: str
    type: str
    time: datetime
    data: Data
    subject: str | None = None


@dataclasses.dataclass(frozen=True)
class EmitterStats:
    """Counts since the emitter was made, or since the process was forked."""

    accepted: int
    """taken by `emit`, and not withdrawn by an opt-out since"""
    sent: int
    """acknowledged by the broker"""
    dropped_full: int
    """came when the buffer was full"""
    dropped_failed: int
    """refused by the broker, or still waiting when `close` ran out of time"""
    opted_out: int
    """not sent because the subject, or DO_NOT_TRACK, said so"""
    refused: int
    """no event: a wrong type or shape, an unknown field, or the emitter was closed"""
    buffered: int
    """waiting, those under way included"""


class _Door:
    """Lets events out, but not those of subjects who opted out. The thread holds it, and not the emitter."""

    def __init__(self, opted_out: Callable[[str], bool] | None) -> None:
        self._encode = msgspec.json.Encoder(enc_hook=datetime.isoformat).encode  # for subclasses of datetime
        self._opted_out = opted_out
        self.withdrawn: dict[str | None, float] = {}  # subject: events with a lower number do not leave

    def leaving(self, piece: Piece[Event]) -> Piece[Event]:
        """The piece without what was withdrawn; asked each time that it is about to be sent."""
        if not self.withdrawn and self._opted_out is None:
            return piece
        both = zip(piece.numbers, piece.events, strict=True)
        kept = [(number, event) for number, event in both if self._may_leave(number, event.subject)]
        return Piece([number for number, _ in kept], [event for _, event in kept])

    def _may_leave(self, number: int, subject: str | None) -> bool:
        if subject is None:
            return True
        if number < self.withdrawn.get(subject, 0):
            return False
        try:
            return self._opted_out is None or not self._opted_out(subject)
        except BaseException:
            return False  # nobody can say whether this subject agrees

    def encode(self, events: Sequence[Event]) -> bytes:
        """A JSON array. An event's id is drawn when it is first sent: it takes a call into the kernel."""
        nameless = [event for event in events if not event.id]
        drawn = os.urandom(16 * len(nameless)).hex(" ", 16).split()
        for event, name in zip(nameless, drawn, strict=True):
            event.id = name
        return self._encode(events)


class UsageEmitter:
    """Emits the usage events of one application to a Kafka topic, as batches of CloudEvents.

    application: the events' source. kafka: settings of KafkaProducer, such as SASL and TLS. opted_out: asked
    in the background, before an event is sent, whether its subject opted out; if it raises, the event is not
    sent. capacity: most events buffered. linger: seconds for which events gather. clock: the present, with
    its zone. ValueError if `application` or the names in `kafka` cannot be right. No broker has to be there.
    """

    def __init__(
        self,
        application: str,
        *,
        bootstrap_servers: str | Sequence[str] | None = None,
        topic: str = "usage.events",
        kafka: Mapping[str, Any] | None = None,
        opted_out: Callable[[str], bool] | None = None,
        capacity: int = 20_000,
        linger: float = 0.2,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        if not isinstance(application, str) or not _SOURCE(application):
            raise ValueError("application: 1 to 256 ASCII characters without spaces, such as 'shop-web'")
        check(kafka or {})
        self._source = str(application)
        self._now: Callable[[], datetime] = partial(datetime.now, UTC)
        if clock is not None:
            self._now = lambda: _in_utc(clock())
        self._off = os.environ.get("DO_NOT_TRACK", "").strip().lower() not in ("", "0", "false")
        door = _Door(opted_out)
        self._withdrawn = door.withdrawn
        servers = bootstrap_servers or os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or "localhost:9092"
        connection = partial(connect, servers, dict(kafka or {}))
        self._delivery = Delivery(topic, connection, door, capacity, linger)
        self._buffer = self._delivery.buffer
        self._seen: dict[tuple[str | None, ...], Data] = {}
        weakref.finalize(self, self._delivery.stop, EXIT).atexit = False

    def emit(
        self,
        feature: str,
        *,
        subject: str | None = None,
        time: datetime | None = None,
        id: str | None = None,  # noqa: A002  # as CloudEvents calls it
        platform: str | None = None,
        app_version: str | None = None,
        country: str | None = None,
        duration_ms: int | None = None,
        plan: str | None = None,
        **unknown: Never,
    ) -> bool:
        """Note that a feature was used; True if the event was taken. It is sent when a broker is there."""
        if self._off:
            self._buffer.count("opted_out")
            return False
        try:
            fields = (feature, platform, app_version, country, plan)
            data = self._seen.get(fields) or self._look_at(*fields)
            if duration_ms is not None:
                data = Data(
                    data.feature, data.platform, data.app_version, data.country, _amount(duration_ms), data.plan
                )
            # What is printable has the shape of an identifier, and that is faster to see.
            if type(subject) is not str or not 0 < len(subject) < 257 or not subject.isprintable():
                subject = _text(_IDENTIFIER, subject)
            event = Event(
                "1.0",
                "" if id is None else _text(_IDENTIFIER, id) or "",
                self._source,
                TYPE,
                self._now() if time is None else _in_utc(time),
                data,
                subject,
            )
            if unknown:
                raise ValueError
        except Exception:  # whatever was passed: no application may fail because of its statistics
            self._buffer.count("refused")
            return False
        if self._withdrawn and self._withdrawn.get(subject) == inf:
            self._buffer.count("opted_out")
            return False
        return self._buffer.put(event)

    def _look_at(
        self, feature: str, platform: str | None, app_version: str | None, country: str | None, plan: str | None
    ) -> Data:
        """Raises unless all have their shapes; remembers them if so. Nothing of a subject or an id is remembered."""
        data = Data(
            _NAME(feature)[0],  # type: ignore[index]  # no match raises, as in _text
            _text(_NAME, platform),
            _text(_VERSION, app_version),
            _text(_COUNTRY, country),
            None,
            _text(_NAME, plan),
        )
        if len(self._seen) >= _COMBINATIONS:
            self._seen.clear()
        self._seen[data.feature, data.platform, data.app_version, data.country, data.plan] = data
        return data

    def opt_out(self, subject: str) -> None:
        """Send nothing of this subject from now on, nor what is still buffered. In memory only."""
        self._withdrawn[str(subject)] = inf

    def opt_in(self, subject: str) -> None:
        """Send events of this subject again, from the next one on."""
        if str(subject) in self._withdrawn:
            self._withdrawn[str(subject)] = self._buffer.next

    def flush(self, timeout: float | None = 5.0) -> bool:
        """Send now, and wait; True if all that was accepted before has been sent."""
        return self._delivery.flush(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Send what waits, for `timeout` seconds at most, and stop; True if nothing had to be dropped."""
        return self._delivery.close(timeout)

    @property
    def stats(self) -> EmitterStats:
        return EmitterStats(**self._buffer.counts())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _text(shape: Callable[[str], re.Match[str] | None], value: str | None) -> str | None:
    """The value as a plain str, whatever subclass it had; raises if it has another shape."""
    return None if value is None else shape(value)[0]  # type: ignore[index]


def _amount(value: int | None) -> int | None:
    if value is not None and (type(value) is not int or not 0 <= value < _LONGEST):
        raise ValueError
    return value


def _in_utc(moment: datetime) -> datetime:
    if datetime.utcoffset(moment) is None:
        raise ValueError  # without a zone it is anyone's guess
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)

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

    def encode(self, number: int, event: Event) -> bytes | None:
        if event.subject is not None:
            if number < self.withdrawn.get(event.subject, 0):
                return None
            try:
                if self._opted_out is not None and self._opted_out(event.subject):
                    return None
            except BaseException:
                return None  # nobody can say whether this subject agrees
        event.id = event.id or os.urandom(16).hex()
        return self._encode(event)


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
        self._source, self._clock = str(application), clock or partial(datetime.now, UTC)
        self._off = os.environ.get("DO_NOT_TRACK", "").strip().lower() not in ("", "0", "false")
        self._door = _Door(opted_out)
        servers = bootstrap_servers or os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or "localhost:9092"
        connection = partial(connect, servers, dict(kafka or {}))
        self._delivery = Delivery(topic, connection, self._door.encode, capacity, linger)
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
            self._delivery.count("opted_out")
            return False
        try:
            if unknown:
                raise ValueError
            event = Event(
                "1.0",
                _text(_IDENTIFIER, id) or "",
                self._source,
                TYPE,
                _in_utc(self._clock() if time is None else time),
                Data(
                    _NAME(feature)[0],  # type: ignore[index]  # no match raises, as in _text
                    _text(_NAME, platform),
                    _text(_VERSION, app_version),
                    _text(_COUNTRY, country),
                    _amount(duration_ms),
                    _text(_NAME, plan),
                ),
                _text(_IDENTIFIER, subject),
            )
        except Exception:  # whatever was passed: no application may fail because of its statistics
            self._delivery.count("refused")
            return False
        if self._door.withdrawn.get(event.subject) == inf:
            self._delivery.count("opted_out")
            return False
        return self._delivery.put(event)

    def opt_out(self, subject: str) -> None:
        """Send nothing of this subject from now on, nor what is still buffered. In memory only."""
        self._door.withdrawn[str(subject)] = inf

    def opt_in(self, subject: str) -> None:
        """Send events of this subject again, from the next one on."""
        if str(subject) in self._door.withdrawn:
            self._door.withdrawn[str(subject)] = self._delivery.next

    def flush(self, timeout: float | None = 5.0) -> bool:
        """Send now, and wait; True if all that was accepted before has been sent."""
        return self._delivery.flush(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Send what waits, for `timeout` seconds at most, and stop; True if nothing had to be dropped."""
        return self._delivery.close(timeout)

    @property
    def stats(self) -> EmitterStats:
        return EmitterStats(**self._delivery.counts())

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

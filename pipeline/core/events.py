"""The event as applications send it (CloudEvents 1.0), and the forms that it may have in a Kafka record.

The definition of the event is the one in :func:`event_type`; the JSON Schema in ``schemas/`` is written from it.
Decoding never raises and never quotes: what cannot be read becomes a :class:`~pipeline.core.outcomes.Reason`.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import msgspec

from pipeline.core.fields import Registry
from pipeline.core.outcomes import Reason

MAX_RECORD = 4 << 20  # bytes of one record's value, decompressed; more is not looked at
MAX_EVENT = 64 << 10  # bytes of one event
MAX_EVENTS = 20_000  # in one record
MAX_ID = 256

BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
JSON = ("application/json", "text/json")

UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeError)

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]
Time = Annotated[datetime, msgspec.Meta(tz=True, description="when it happened, RFC 3339 with zone")]


class UsageEvent(Protocol):
    """What :func:`event_type` makes. ``data`` has one attribute per registered field, ``None`` where it is absent."""

    specversion: str
    id: str
    source: str
    type: str
    time: datetime
    subject: str | None
    data: Any


class Record(NamedTuple):
    """One Kafka record of ``usage.events``: its offset, the time at which it arrived (seconds), its headers and its
    value.
    """

    offset: int
    arrived: float
    headers: tuple[tuple[str, bytes], ...]
    value: bytes | None


class Decoded(NamedTuple):
    """One event of a record, or the reason why it is none, with its place in the record."""

    place: int
    event: UsageEvent | Reason


def event_type(registry: Registry) -> type[msgspec.Struct]:
    """The event that this registry admits: unknown attributes and fields are skipped by the decoder and exist
    nowhere.
    """
    fields: list[Any] = []
    for name, field in registry.fields.items():
        if field.required:
            fields.append((name, field.wire_type))
    for name, field in registry.fields.items():
        if not field.required:
            fields.append((name, field.wire_type | None, None))
    data = msgspec.defstruct("UsageData", fields, frozen=True, gc=False, kw_only=True)
    data.__doc__ = "The registered fields; anything else is dropped."
    event = msgspec.defstruct(
        "UsageEvent",
        [
            ("specversion", Literal["1.0"]),
            (
                "id",
                Annotated[
                    Text,
                    msgspec.Meta(description="unique with `source`: deliveries with the same are counted once"),
                ],
            ),
            ("source", Annotated[Text, msgspec.Meta(description="the application")]),
            (
                "type",
                Annotated[Literal[registry.types], msgspec.Meta(description="what happened, with its major version")],
            ),
            ("time", Time),
            ("data", data),
            (
                "subject",
                Annotated[Text, msgspec.Meta(description="who; leave it out where nobody is known")] | None,
                None,
            ),
        ],
        frozen=True,
        gc=False,
        kw_only=True,
    )
    event.__doc__ = "One use of the application, as a CloudEvent 1.0."
    return event


class Decoder:
    """Decodes records. Events are typed, and checked against the registry, as they are parsed."""

    def __init__(self, registry: Registry) -> None:
        self.types = frozenset(registry.types)
        kind = event_type(registry)
        self.data_type = kind.__annotations__["data"]
        self.required = tuple(name for name, field in registry.fields.items() if field.required)
        self._one: Callable[[bytes], Any] = msgspec.json.Decoder(kind).decode
        self._many: Callable[[bytes], Any] = msgspec.json.Decoder(list[kind]).decode  # type: ignore[valid-type]
        self._raws: Callable[[bytes], Any] = msgspec.json.Decoder(list[msgspec.Raw]).decode
        self._members: Callable[[bytes], Any] = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        self._data: Callable[[bytes], Any] = msgspec.json.Decoder(self.data_type).decode
        self._event = kind

    def decode(self, record: Record) -> list[Decoded]:
        """Every event of a record, in order; a record that cannot be taken apart is one event with one reason."""
        value = record.value
        if not value:
            return [Decoded(0, Reason.EMPTY)]
        if len(value) > MAX_RECORD:
            return [Decoded(0, Reason.TOO_LARGE)]
        headers = {name.lower(): content for name, content in record.headers}
        form = _media_type(headers.get("content-type", b""))
        if form == STRUCTURED:  # it may have the attributes as headers too
            return [Decoded(0, self._single(value))]
        if "ce_specversion" in headers or "ce_type" in headers or "ce_id" in headers:
            return [Decoded(0, self._binary(headers, form, value))]
        if form == BATCH or (not form and value.lstrip()[:1] == b"["):
            return self._batch(value)
        if form in NDJSON or not form or form in JSON:
            return self._lines(value, one_a_line=form in NDJSON)
        return [Decoded(0, Reason.UNSUPPORTED_FORM)]

    def _batch(self, value: bytes) -> list[Decoded]:
        try:
            if len(value) <= MAX_EVENT:  # then none of its events is over the limit
                return [Decoded(i, event) for i, event in enumerate(self._many(value))] or [Decoded(0, Reason.EMPTY)]
        except UNREADABLE:
            pass  # something in it is wrong: find out what, one by one
        try:
            parts = [bytes(part) for part in self._raws(value)]
        except UNREADABLE:
            return [Decoded(0, _unreadable(value))]
        return self._each(parts)

    def _lines(self, value: bytes, one_a_line: bool) -> list[Decoded]:
        lines = [line for line in value.split(b"\n") if line.strip()]
        if not one_a_line and len(lines) > 1 and _reads(value, msgspec.Raw):
            # One event that is printed over several lines is one event all the same.
            return [Decoded(0, self._single(value))]
        return self._each(lines)

    def _each(self, texts: list[bytes]) -> list[Decoded]:
        if len(texts) > MAX_EVENTS:
            return [Decoded(0, Reason.TOO_LARGE)]
        return [Decoded(i, self._single(text)) for i, text in enumerate(texts)] or [Decoded(0, Reason.EMPTY)]

    def _single(self, text: bytes) -> UsageEvent | Reason:
        if len(text) > MAX_EVENT:
            return Reason.TOO_LARGE
        try:
            event: UsageEvent = self._one(text)
            return event
        except UNREADABLE:
            return self._why(text)

    def _why(self, text: bytes) -> Reason:
        """The reason why a text is no event, attribute by attribute in the order of the enumeration."""
        try:
            text.decode()
            members = self._members(text)
        except UNREADABLE:
            return _unreadable(text)
        return self._why_members(members)

    def _why_members(self, members: Mapping[str, Any]) -> Reason:
        for name in ("specversion", "id", "source", "type", "time", "data"):
            if name not in members or bytes(members[name]) == b"null":
                return Reason.MISSING_ATTRIBUTE
        for name, kind, reason in (
            ("specversion", Literal["1.0"], Reason.INVALID_ATTRIBUTE),
            ("id", Text, Reason.INVALID_ATTRIBUTE),
            ("source", Text, Reason.INVALID_ATTRIBUTE),
            ("type", Text, Reason.INVALID_ATTRIBUTE),
            ("type", Literal[tuple(sorted(self.types))], Reason.UNKNOWN_TYPE),
            ("subject", Text | None, Reason.INVALID_SUBJECT),
            ("time", Time, Reason.INVALID_TIME),
            ("data", dict[str, msgspec.Raw], Reason.INVALID_DATA),
        ):
            if name in members and not _reads(members[name], kind):
                return reason
        data = msgspec.json.decode(members["data"], type=dict[str, msgspec.Raw])
        if any(name not in data or bytes(data[name]) == b"null" for name in self.required):
            return Reason.MISSING_FIELD
        return Reason.INVALID_FIELD

    def _binary(self, headers: Mapping[str, bytes], form: str, value: bytes) -> UsageEvent | Reason:
        """Binary mode: the attributes are headers, the value is ``data``."""
        if len(value) > MAX_EVENT:
            return Reason.TOO_LARGE
        if form and form not in JSON and not form.endswith("+json"):
            return Reason.UNSUPPORTED_FORM
        try:
            attributes = {n[3:]: c.decode() for n, c in headers.items() if n.startswith("ce_") and c is not None}
        except UnicodeError:
            return Reason.NOT_UTF8
        members: dict[str, Any] = {n: msgspec.Raw(msgspec.json.encode(a)) for n, a in attributes.items()}
        members["data"] = msgspec.Raw(value)
        try:
            value.decode()
            self._members(value)
        except UNREADABLE:
            reason = _unreadable(value)
            return Reason.INVALID_DATA if reason is Reason.NOT_AN_EVENT else reason
        try:
            event: UsageEvent = self._one(msgspec.json.encode(members))
            return event
        except UNREADABLE:
            return self._why_members(members)


def _media_type(content_type: bytes) -> str:
    return content_type.decode("latin-1").partition(";")[0].strip().lower()


def _reads(raw: Any, kind: Any) -> bool:
    try:
        msgspec.json.decode(raw, type=kind)
    except UNREADABLE:
        return False
    return True


def _unreadable(text: bytes) -> Reason:
    """Why a text is no JSON object."""
    try:
        text.decode()
        msgspec.json.decode(text, type=msgspec.Raw)
    except UnicodeError:
        return Reason.NOT_UTF8
    except RecursionError:
        return Reason.TOO_DEEP
    except msgspec.MsgspecError:
        return Reason.NOT_JSON
    return Reason.NOT_AN_EVENT


def json_schema(registry: Registry) -> dict[str, Any]:
    """The JSON Schema (2020-12) of the event, from its one definition."""
    schema = msgspec.json.schema(event_type(registry))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Headcount usage event",
        **schema,
    }

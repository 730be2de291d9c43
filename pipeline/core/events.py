"""The event as applications send it (CloudEvents 1.0), and the forms that it may have in a Kafka record.

The definition of the event is the one in :func:`event_type`; the JSON Schema in ``schemas/`` is written from it.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, Protocol

import msgspec

from pipeline.core.fields import Registry

MAX_RECORD = 4 << 20  # bytes of one record's value, decompressed; more is not looked at
MAX_EVENT = 64 << 10  # bytes of one event
MAX_ID = 256

BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
JSON = ("application/json", "text/json")

MAX_EVENTS = 20_000  # in one record

Headers = tuple[tuple[str, bytes | None], ...]

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


class Record(msgspec.Struct, frozen=True, gc=False):
    """One Kafka record of ``usage.events``: its offset, the time at which it arrived (seconds), its headers and its
    value.
    """

    offset: int
    arrived: float
    headers: Headers
    value: bytes | None


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


def json_schema(registry: Registry) -> dict[str, Any]:
    """The JSON Schema (2020-12) of the event, from its one definition."""
    schema = msgspec.json.schema(event_type(registry))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Headcount usage event",
        **schema,
    }

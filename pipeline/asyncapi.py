"""The AsyncAPI 3.0 document: a channel a topic, an operation for each thing that a role does with one.

Payloads come from the types that decode them, channels from :data:`TOPICS`; only the roles are written down here.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from pipeline.core.contributions import Contribution
from pipeline.core.events import BATCH, JSON, MAX_EVENT, MAX_EVENTS, MAX_RECORD, NDJSON, STRUCTURED, event_type
from pipeline.core.fields import Registry
from pipeline.core.release import Release
from pipeline.core.tallies import Closed, Tally
from pipeline.settings import Settings
from pipeline.stream.ingesting import WORD
from pipeline.stream.keylog import KeyDestroyed, KeyDrawn
from pipeline.stream.rejections import Rejections
from pipeline.stream.topics import CONTRIBUTIONS, EVENTS, KEYS, REJECTIONS, RELEASES, TALLIES, TOPICS, Topic

INTERFACE = "1.0.0"  # the version of what the topics carry, not of the software
MSGPACK = "application/vnd.msgpack"

Document = dict[str, Any]


@dataclass(frozen=True)
class Operation:
    """What one role does with one topic. ``messages``: names in :func:`messages`; ``grouped``: in a consumer group."""

    name: str
    role: str
    action: Literal["send", "receive"]
    topic: str
    messages: tuple[str, ...]
    summary: str
    grouped: bool = False


FORMS = ("structured", "batch", "lines", "binary")

# fmt: off
OPERATIONS = (
    Operation("emitEvents", "application", "send", EVENTS, FORMS, "Tell what was used; key and partition are free."),
    Operation("saySentUntil", "replayer", "send", EVENTS, ("sentUntil",), "Say that all before a date was sent."),
    Operation("ingestEvents", "ingest", "receive", EVENTS, (*FORMS, "sentUntil"), "Take identifiers out.", True),
    Operation("sendContributions", "ingest", "send", CONTRIBUTIONS, ("contribution",), "Pass on pseudonyms and cells."),
    Operation("rejectEvents", "ingest", "send", REJECTIONS, ("rejections",), "Say why and where one was refused."),
    Operation("tallyContributions", "tally", "receive", CONTRIBUTIONS, ("contribution",), "Count each window.", True),
    Operation("sendTallies", "tally", "send", TALLIES, ("tally",), "Give out what a closed window counted."),
    Operation("rejectRows", "tally", "send", REJECTIONS, ("rejections",), "Say which were duplicates, or late."),
    Operation("gatherTallies", "release", "receive", TALLIES, ("tally",), "Add all partitions up.", True),
    Operation("readReleases", "release", "receive", RELEASES, ("release",), "See what must not be drawn again."),
    Operation("commitReleases", "release", "send", RELEASES, ("release",), "Publish, in fenced transactions."),
    Operation("foldReleases", "project", "receive", RELEASES, ("release",), "Put the releases into DuckDB."),
    Operation("drawKeys", "ingest", "send", KEYS, ("key", "keyTakenBack"), "Draw a window's key."),
    Operation("readKeys", "ingest", "receive", KEYS, ("key", "keyTakenBack"), "Use the key that was first."),
    Operation("openCells", "release", "receive", KEYS, ("key", "keyTakenBack"), "Open what is released."),
    Operation("destroyKeys", "release", "send", KEYS, ("key", "keyTakenBack"), "End a window that is released."),
    Operation("listKeys", "keeper", "receive", KEYS, ("key", "keyTakenBack"), "See which windows have a key."),
    Operation("rotateKeys", "keeper", "send", KEYS, ("key", "keyTakenBack"), "Wrap live keys anew."),
    Operation("lookUpReleases", "analyst", "receive", RELEASES, ("release",), "See what the statistics are made of."),
    Operation("readRejections", "operator", "receive", REJECTIONS, ("rejections",), "Find what senders do wrong."),
)
# fmt: on

# Who may read a topic beyond the roles that have to.
ALSO = {RELEASES: ("anyone in the company",)}

DESCRIPTION = f"""\
Usage events go in, noisy totals come out. Identifiers are in `{EVENTS}` and nowhere else, pseudonyms in
`{CONTRIBUTIONS}` and nowhere else; `{RELEASES}` is public for ever.

The tag of an operation is the role that it belongs to. A role needs the access that its operations name and no
more: write for send, read for receive. `x-readers` of a channel names everyone who may read it."""


def asyncapi(registry: Registry) -> Document:
    """The document under this registry."""
    payloads, components = _payloads(registry)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Headcount",
            "version": INTERFACE,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": Settings().bootstrap_servers,
                "protocol": "kafka",
                "description": "The broker of docker-compose.yml, for applications on the same machine.",
            }
        },
        "channels": {_id(topic.name): channel(topic) for topic in TOPICS},
        "operations": {each.name: operation(each) for each in OPERATIONS},
        "components": {"messages": messages(payloads), "schemas": components},
    }


def channel(topic: Topic) -> Document:
    """A topic with its settings as Kafka has them, and who may read it."""
    here = [each for each in OPERATIONS if each.topic == topic.name]
    names = dict.fromkeys(name for each in here for name in each.messages)
    readers = dict.fromkeys(each.role for each in here if each.action == "receive")
    return {
        "address": topic.name,
        "description": f"{topic.purpose[0].upper()}{topic.purpose[1:]}.",
        "x-readers": [*readers, *ALSO.get(topic.name, ())],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {name: _setting(name, value) for name, value in topic.config.items()},
                "bindingVersion": "0.5.0",
            }
        },
    }


def operation(each: Operation) -> Document:
    """An operation, with the consumer group that it reads in."""
    address = f"#/channels/{_id(each.topic)}"
    document: Document = {
        "action": each.action,
        "channel": {"$ref": address},
        "summary": each.summary,
        "tags": [{"name": each.role}],
        "messages": [{"$ref": f"{address}/messages/{name}"} for name in each.messages],
    }
    if each.grouped:
        group = {"type": "string", "default": Settings().group}
        document["bindings"] = {"kafka": {"groupId": group, "bindingVersion": "0.5.0"}}
    return document


def messages(payloads: Mapping[str, Document]) -> Document:
    """Every kind of record, by the name that operations use."""
    several = f"At most {MAX_EVENTS:,} events and {MAX_RECORD:,} bytes."
    return {
        "structured": _message(
            "One event as JSON",
            payloads["event"],
            STRUCTURED,
            f"At most {MAX_EVENT:,} bytes. Without the header, an object is taken for this form.",
            headers={"content-type": _one_of([STRUCTURED])},
        ),
        "batch": _message(
            "Events as a JSON array",
            {"type": "array", "minItems": 1, "maxItems": MAX_EVENTS, "items": payloads["event"]},
            BATCH,
            f"{several} Without the header, an array is taken for this form.",
            headers={"content-type": _one_of([BATCH])},
        ),
        "lines": _message(
            "Events as NDJSON",
            {"type": "string", "minLength": 1, "description": "One event as JSON a line: UsageEvent."},
            NDJSON[0],
            f"{several} Without the header, objects on lines are taken for this form.",
            headers={"content-type": _one_of(NDJSON)},
        ),
        "binary": _message(
            "One event in binary mode",
            payloads["data"],
            JSON[0],
            f"The event's attributes are headers, the value is its data. At most {MAX_EVENT:,} bytes.",
            headers={"content-type": _one_of(JSON), "ce_specversion": {"type": "string", "enum": ["1.0"]}}
            | {f"ce_{name}": {"type": "string"} for name in ("id", "source", "type", "time", "subject")},
            required=["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"],
        ),
        "sentUntil": _message(
            "All events before a date were sent",
            {"type": "null"},
            "",
            "Without a value. Heeded where HEADCOUNT_CLOCK is replay; an empty record elsewhere.",
            headers={WORD: {"type": "string", "format": "date"}},
            required=[WORD],
        ),
        "contribution": _message("Rows under pseudonyms, or a partition's progress", payloads["contribution"], MSGPACK),
        "tally": _message("Exact counts of a window, or a partition's progress", payloads["tally"], MSGPACK),
        "release": _message(
            "One noisy result",
            payloads["release"],
            "application/json",
            key={"type": "string", "description": "Statistic, window, number: feature_use/day-2026-05-01/1."},
        ),
        "key": _message(
            "A key that was drawn, wrapped; or that a window's key is destroyed",
            payloads["key"],
            "application/json",
            key={"type": "string", "description": "A window's name; of a draw, with a random part: day-2026-05-01/3f…"},
        ),
        "keyTakenBack": _message(
            "A draw is taken back",
            {"type": "null"},
            "",
            "Without a value, under the draw's key: Kafka deletes what was written there.",
        ),
        "rejections": _message("Why and where events were refused", payloads["rejections"], "application/json"),
    }


def _message(
    title: str,
    payload: Document,
    content_type: str,
    description: str = "",
    *,
    headers: Document | None = None,
    required: Iterable[str] = (),
    key: Document | None = None,
) -> Document:
    document = {
        "title": title,
        "description": description,
        "contentType": content_type,
        "headers": headers and {"type": "object", "properties": headers, "required": list(required)},
        "payload": payload,
        "bindings": key and {"kafka": {"key": key, "bindingVersion": "0.5.0"}},
    }
    return {name: part for name, part in document.items() if part}


def _one_of(media_types: Iterable[str]) -> Document:
    """A content type, whatever its parameters: some clients add `; charset=utf-8`."""
    return {"type": "string", "pattern": f"^({'|'.join(map(re.escape, media_types))})(;.*)?$"}


def _payloads(registry: Registry) -> tuple[dict[str, Document], Document]:
    """The schema of each payload by name, and the components that they refer to."""
    event = event_type(registry)
    types = {
        "event": event,
        "data": event.__annotations__["data"],
        "contribution": Contribution,
        "tally": Tally | Closed,
        "release": Release,
        "key": KeyDrawn | KeyDestroyed,
        "rejections": Rejections,
    }
    schemas, components = msgspec.json.schema_components(types.values(), ref_template="#/components/schemas/{name}")
    return {name: _draft7(schema) for name, schema in zip(types, schemas, strict=True)}, _draft7(components)


def _draft7(schema: Any) -> Any:
    """The same schema in the dialect of AsyncAPI, where tuples and discriminators are written differently."""
    if isinstance(schema, (list, tuple)):
        return [_draft7(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: _draft7(part) for name, part in schema.items()}
    if "prefixItems" in parts:
        rest = parts["items"]
        parts |= {"items": parts.pop("prefixItems"), "additionalItems": rest}
    if isinstance(parts.get("discriminator"), dict):
        parts["discriminator"] = parts["discriminator"]["propertyName"]
    return parts


def _setting(name: str, value: str) -> Any:
    if name == "cleanup.policy":
        return value.split(",")
    return int(value) if value.removeprefix("-").isdecimal() else value


def _id(topic: str) -> str:
    """``usage.events`` is called ``usageEvents`` in the document."""
    first, *others = topic.split(".")
    return first + "".join(part.capitalize() for part in others)

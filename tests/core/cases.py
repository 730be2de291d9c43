"""The cases of ``tests/cases``: an event in, an outcome out.

Without anything said, a case is one record in structured form that holds the event of ``pipeline.testing.event()``
with the id ``e-0`` (feature ``search`` on ``web``, at 10:00 UTC on 1 May 2026), arrived at noon of that day, under the
shipped declarations. What its keys change:

``event``, ``fields``    attributes of the event, fields of its data; null is JSON's null
``absent``               attributes or fields that are left out
``padding``              a field that is not registered, of that many bytes
``nested``               an attribute (``at: event``), a field (``at: data``) or the whole text (``at: alone``), so deep
``replace``              one text by another in the event's JSON (a byte a character)
``twice``                the event's JSON twice on one line
``indented``             the event's JSON over several lines
``text``                 a text in place of the event's JSON (a byte a character)
``contents``             several events, each with the keys above
``form``                 structured, batch, ndjson, binary, or bare: no content type
``content_type``         in place of the form's, null for none; ``headers``: beside it
``value``                the record's whole value, null for none; ``times``: so often
``arrived``              when the record came; ``timezone``: of the policy; ``since``, ``until``: the days of a replay
``deliveries``           how often the record comes, at offsets of its own
``outcome``              ``accepted`` or a reason; a list where there are several events
``counted``              the values that the event is counted under

A text may be ``{repeat: x, times: 256}``.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from pipeline.core.events import Record
from pipeline.testing import event, record

DIRECTORY = Path(__file__).parents[1] / "cases"
Case = dict[str, Any]


def cases() -> list[Case]:
    """All of them; each knows its file."""
    return [
        {"file": path.stem, **case}
        for path in sorted(DIRECTORY.glob("*.yaml"))
        for case in yaml.safe_load(path.read_text())
    ]


def parametrized(chosen: list[Case]) -> list[Any]:
    return [pytest.param(case, id=f"{case['file']}: {case['name']}") for case in chosen]


def outcomes_of(case: Case) -> list[str]:
    outcome = case["outcome"]
    return outcome if isinstance(outcome, list) else [outcome]


def record_of(case: Case) -> Record:
    form = case.get("form", "structured")
    contents = case.get("contents", [case])
    arrived = datetime.fromisoformat(case.get("arrived", "2026-05-01T12:00:00Z")).timestamp()
    if form == "binary":
        built = record(event_of(case, 0), form=form, arrived=arrived)
    else:
        built = record(*[text_of(each, place) for place, each in enumerate(contents)], form=form, arrived=arrived)
    if "value" in case:
        text = case["value"]
        built = replace(built, value=None if text is None else text.encode("latin-1") * case.get("times", 1))
    headers = dict(built.headers) | {n: v.encode("latin-1") for n, v in case.get("headers", {}).items()}
    if "content_type" in case:
        headers.pop("content-type", None)
        if case["content_type"] is not None:
            headers["content-type"] = case["content_type"].encode("latin-1")
    return replace(built, headers=tuple(headers.items()))


def event_of(case: Case, place: int) -> dict[str, Any]:
    changes = {"id": f"e-{place}", **case.get("fields", {}), **case.get("event", {})}
    built = event(**{name: spelled_out(value) for name, value in changes.items()})
    if isinstance(built.get("data"), dict) and "padding" in case:
        built["data"]["padding"] = "x" * case["padding"]
    absent = case.get("absent", [])
    built = {name: value for name, value in built.items() if name not in absent}
    if isinstance(built.get("data"), dict):
        built["data"] = {name: value for name, value in built["data"].items() if name not in absent}
    nested = case.get("nested")
    if nested and nested["at"] != "alone":
        place_of = built if nested["at"] == "event" else built["data"]
        place_of["nested"] = msgspec.Raw(brackets(nested))
    return built


def text_of(case: Case, place: int) -> bytes:
    if "text" in case:
        text: str = case["text"]
        return text.encode("latin-1")
    nested = case.get("nested")
    if nested and nested["at"] == "alone":
        return brackets(nested)
    text_ = msgspec.json.encode(event_of(case, place))
    for old, new in case.get("replace", {}).items():
        assert old.encode() in text_
        text_ = text_.replace(old.encode(), spelled_out(new).encode("latin-1"))
    if case.get("indented"):
        text_ = msgspec.json.format(text_, indent=2)
    return text_ + b" " + text_ if case.get("twice") else text_


def brackets(nested: dict[str, Any]) -> bytes:
    depth = nested["depth"]
    return b"[" * depth + b"]" * depth if nested["kind"] == "array" else b'{"a":' * depth + b"1" + b"}" * depth


def spelled_out(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"repeat", "times"}:
        return value["repeat"] * value["times"]
    return value

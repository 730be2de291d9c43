"""The event and its forms. Decoding never raises and never quotes (the cases are run by ``test_ingest``)."""

import json
from typing import Any

import msgspec
import pytest

from pipeline.core.decoding import Decoded, Decoder
from pipeline.core.events import MAX_EVENT, MAX_RECORD, NDJSON, STRUCTURED, Record, json_schema
from pipeline.core.outcomes import Reason
from pipeline.testing import declarations, event, record

REGISTRY = declarations().registry
DECODER = Decoder(REGISTRY)


def decode(value: bytes, content_type: str | None = STRUCTURED) -> list[Decoded]:
    headers = () if content_type is None else (("content-type", content_type.encode()),)
    return DECODER.decode(Record(0, 0.0, headers, value))


def outcomes(value: bytes, content_type: str | None = STRUCTURED) -> list[str]:
    return [d.event.value if isinstance(d.event, Reason) else "accepted" for d in decode(value, content_type)]


def padded(size: int) -> bytes:
    """A good event of exactly so many bytes."""
    text = msgspec.json.encode(event(padding=""))
    return text.replace(b'"padding":""', b'"padding":"' + b"x" * (size - len(text)) + b'"')


def test_what_is_not_registered_exists_nowhere_in_a_decoded_event() -> None:
    sent = {**event(email="someone@example.com", feature="x"), "traceparent": "00-1-2-00", "dataschema": "urn:x"}
    ((_, found),) = DECODER.decode(record(sent))

    assert set(found.__struct_fields__) == {"specversion", "id", "source", "type", "time", "data", "subject"}  # type: ignore[union-attr]
    assert set(found.data.__struct_fields__) == set(REGISTRY.fields)  # type: ignore[union-attr]
    for text in ("someone", "00-1-2-00", "urn:x"):
        assert text not in repr(found)


def test_a_field_whose_end_date_has_passed_is_not_read() -> None:
    registry = msgspec.structs.replace(REGISTRY, fields={n: f for n, f in REGISTRY.fields.items() if n != "plan"})
    ((_, found),) = Decoder(registry).decode(record(event(plan=5)))  # 5 would be refused while the field is registered
    assert not isinstance(found, Reason)
    assert DECODER.decode(record(event(plan=5)))[0].event is Reason.INVALID_FIELD


def test_an_event_over_the_limit_is_too_large_and_one_at_it_is_not() -> None:
    for form in (STRUCTURED, NDJSON[0], None):
        assert outcomes(padded(MAX_EVENT), form) == ["accepted"]
        assert outcomes(padded(MAX_EVENT + 1), form) == ["too_large"]


def test_the_limit_of_an_event_holds_in_a_batch() -> None:
    small, large = msgspec.json.encode(event()), padded(MAX_EVENT + 1)
    assert outcomes(b"[" + small + b"," + large + b"]", None) == ["accepted", "too_large"]
    assert outcomes(b"[{}," + large + b"]", None) == ["missing_attribute", "too_large"]


def test_a_record_over_the_limit_is_not_looked_at() -> None:
    assert outcomes(b" " * (MAX_RECORD - 1) + b"5") == ["too_large"]  # as an event
    assert outcomes(b"\n" * (MAX_RECORD - 2) + b"{}", NDJSON[0]) == ["missing_attribute"]
    assert outcomes(b"\n" * (MAX_RECORD - 1) + b"{}", NDJSON[0]) == ["too_large"]


@pytest.mark.parametrize("kind", ["array", "object"])
@pytest.mark.parametrize("form", [STRUCTURED, None])
def test_every_depth_has_an_outcome(kind: str, form: str | None) -> None:
    text = msgspec.json.encode({**event(), "x": "@"})
    for depth in (*range(1, 1200, 50), 2_000, 5_000, 10_000):
        deep = b"[" * depth + b"]" * depth if kind == "array" else b'{"a":' * depth + b"1" + b"}" * depth
        (found,) = outcomes(text.replace(b'"@"', deep), form)
        assert found == "accepted" if depth < 200 else found in ("accepted", "too_deep")


def test_an_event_over_several_lines_is_one_event_where_no_form_is_named() -> None:
    text = json.dumps(event(), indent=2).encode()
    assert outcomes(text, None) == ["accepted"]
    assert outcomes(b"\n\n" + text.replace(b"\n", b"\r\n") + b"\n", None) == ["accepted"]


# A replay counts the lines of a file as events: outcomes have to be as many.
def test_a_line_is_an_event_where_the_form_says_so() -> None:
    text = json.dumps(event(), indent=2).encode()
    assert len(outcomes(text, NDJSON[0])) == len(text.splitlines())
    assert "accepted" not in outcomes(text, NDJSON[0])
    good = msgspec.json.encode(event())
    assert outcomes(good + good, NDJSON[0]) == ["not_json"]
    assert outcomes(good + b"\n" + good, NDJSON[0]) == ["accepted", "accepted"]


def test_events_know_their_place_in_the_record() -> None:
    good, bad = msgspec.json.encode(event()), b"5"
    assert [d.place for d in decode(b"[" + b",".join([good, bad, good]) + b"]", None)] == [0, 1, 2]
    assert [d.place for d in decode(b"\n".join([good, b"", bad, b" ", good]), None)] == [0, 1, 2]


def test_a_header_that_is_given_twice_counts_as_the_last_one() -> None:
    headers = (("content-type", b"text/xml"), ("Content-Type", STRUCTURED.encode()))
    ((_, found),) = DECODER.decode(Record(0, 0.0, headers, msgspec.json.encode(event())))
    assert not isinstance(found, Reason)


def test_an_attribute_that_is_given_twice_counts_as_the_last_one() -> None:
    text = msgspec.json.encode(event(subject="u-2")).replace(b"{", b'{"subject":"u-1",', 1)
    ((_, found),) = decode(text)
    assert found.subject == "u-2"  # type: ignore[union-attr]


@pytest.mark.parametrize("attribute", ["specversion", "id", "source", "type", "time", "data"])
@pytest.mark.parametrize("value", [None, 5, 5.5, True, "", [], {}, "\x00", "x" * 300])
def test_a_wrong_attribute_is_never_an_event(attribute: str, value: Any) -> None:
    (found,) = outcomes(msgspec.json.encode({**event(), attribute: value}))
    allowed = {
        "data": {"invalid_data", "missing_field"},
        "time": {"invalid_time"},
        "type": {"invalid_attribute", "unknown_type"},
    }.get(attribute, {"invalid_attribute"})
    accepted = {"accepted"} if (attribute, value) in [("id", "\x00"), ("source", "\x00")] else set()
    assert found in ({"missing_attribute"} if value is None else accepted or allowed)


def test_the_schema_of_the_event_knows_the_registered_fields_and_no_others() -> None:
    schema = json_schema(REGISTRY)
    assert set(schema["$defs"]["UsageData"]["properties"]) == set(REGISTRY.fields)
    assert schema["$defs"]["UsageData"]["required"] == ["feature"]
    assert set(schema["$defs"]["UsageEvent"]["required"]) == {"specversion", "id", "source", "type", "time", "data"}


# 1.4 million things are a few kB when compressed; to name a reason for each would take seconds.
def test_a_record_of_very_many_things_is_refused_at_once() -> None:
    value = b"[" + b"{}," * ((MAX_RECORD - 10) // 3) + b"{}]"
    assert len(decode(value, None)) <= 100_000

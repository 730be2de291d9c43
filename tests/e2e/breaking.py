"""A thousand broken records of every kind that careless and malicious applications send, and what becomes of each."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from pipeline.core.outcomes import Reason
from pipeline.testing import ABSENT, event

MARKER = "zqmarker"  # in every record that has any content: it must be nowhere else
Headers = list[tuple[str, bytes]]

STRUCTURED: Headers = [("content-type", b"application/cloudevents+json; charset=utf-8")]
BATCH: Headers = [("content-type", b"application/cloudevents-batch+json")]
NDJSON: Headers = [("content-type", b"application/x-ndjson")]
BARE: Headers = []
MEGABYTE = 1 << 20
COMPRESSIONS = (None, "gzip", "zstd", "lz4")


@dataclass(frozen=True)
class Broken:
    """A record, the reason for each place of it that is rejected, and the events in it that are good."""

    kind: str
    value: bytes | None
    reasons: dict[int, Reason]
    headers: Headers = field(default_factory=list)
    good: tuple[dict[str, Any], ...] = ()
    compression: str | None = None


class NotUtf8(str):
    """A header's name as clients send it whose texts are bytes."""

    __slots__ = ()

    def encode(self, *_: Any, **__: Any) -> bytes:
        return b"\xff\xfe" + super().encode()


_numbers = itertools.count(1)


def unique(**changes: Any) -> dict[str, Any]:
    """An event that bears the marker wherever it may, and that is good but for the changes."""
    number = next(_numbers)
    given = {"id": f"{MARKER}-{number}", "source": MARKER, "subject": f"{MARKER}-{number}", "extension": MARKER}
    built = event(**{**given, "feature": f"{MARKER}.feature", "time": "2026-05-02T10:00:00Z", "unregistered": MARKER})
    built["extension"] = MARKER
    for name, value in changes.items():
        place = built["data"] if name in FIELDS else built
        place[name] = value
        if value is ABSENT:
            del place[name]
    return built


FIELDS = ("feature", "platform", "app_version", "country", "duration_ms", "plan")
encode = msgspec.json.encode


def good(number: int) -> dict[str, Any]:
    """An event that is counted."""
    return event(
        subject=f"u-{number % 700}", id=f"good-{number}", time=f"2026-05-0{1 + number % 3}T1{number % 10}:00:00Z"
    )


REQUIRED = ("specversion", "id", "source", "type", "time", "data")
CATALOGUES = ("platform", "app_version", "country", "plan")

# Why an event is rejected, of which attributes or fields, and for which values of each.
FAULTS: list[tuple[Reason, tuple[str, ...], tuple[Any, ...]]] = [
    (Reason.MISSING_ATTRIBUTE, REQUIRED, (ABSENT, None)),
    (Reason.INVALID_ATTRIBUTE, ("specversion",), ("0.3", "1.0.1", "", 1.0, ["1.0"])),
    (Reason.INVALID_ATTRIBUTE, ("id", "source"), ("", "x" * 257, 17, {"a": MARKER}, True)),
    (Reason.INVALID_ATTRIBUTE, ("type",), ("", 1, [], "x" * 300)),
    (
        Reason.UNKNOWN_TYPE,
        ("type",),
        (MARKER, "usage.feature.used", "usage.feature.used.v2", "usage.feature.used.v10", "Usage.Feature.Used.v1"),
    ),
    (Reason.INVALID_SUBJECT, ("subject",), ("", MARKER * 1_250, 612_345_678, [MARKER], {"id": MARKER}, False)),
    (
        Reason.INVALID_TIME,
        ("time",),
        (
            "2026-05-02T10:00:00",
            "2026-05-02",
            "2026-05-02 10:00",
            "2026-13-02T10:00:00Z",
            "2026-02-30T10:00:00Z",
            "2026-05-02T25:00:00Z",
            "2026-05-02T10:61:00Z",
            "12026-05-02T10:00:00Z",
            "-001-05-02T10:00:00Z",
            "2026-05-02T10:00:00+25:00",
            "0000-00-00T00:00:00Z",
            f"yesterday {MARKER}",
            "",
            {"$date": 1},
            [],
        ),
    ),
    (
        Reason.BEFORE_POLICY,
        ("time",),
        ("1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1582-10-04T00:00:00Z"),
    ),
    (Reason.FUTURE, ("time",), ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00", "2999-01-01T00:00:00Z")),
    (Reason.OUT_OF_SPAN, ("time",), ("2026-04-30T23:59:59Z", "2026-05-04T00:00:00Z", "1970-01-01T00:00:00Z")),
    (Reason.INVALID_DATA, ("data",), (MARKER, [MARKER], 5, True)),
    (Reason.MISSING_FIELD, ("feature",), (ABSENT, None)),
    (Reason.MISSING_FIELD, ("data",), ({},)),
    (Reason.INVALID_FIELD, ("feature",), (5, "", "Zqmarker", "zq marker", "zqmarker!", "1zqmarker", "zqmarker\n")),
    (Reason.INVALID_FIELD, ("feature",), ("x" * 49, "x" * 300, "zqmärker", [MARKER])),
    (Reason.INVALID_FIELD, CATALOGUES, (5, "", [MARKER])),
    (Reason.INVALID_FIELD, ("duration_ms",), (-1, 1.5, "5", MARKER, True)),
    (
        Reason.PERSONAL_DATA,
        ("feature",),
        (
            f"jan@{MARKER}.example",
            f"{MARKER}@",
            f"{MARKER}-0612345678",
            f"+31 6 12 34 56 78 {MARKER}",
            f"call.06-12.34.56.78-{MARKER}",
            f"{MARKER}-nl91abna0417164300",
            f"{MARKER}.123456782",
        ),
    ),
]
CHANGES = [({name: value}, reason) for reason, names, wrong in FAULTS for name in names for value in wrong]


def values() -> Iterator[tuple[str, Any, dict[int, Reason], Headers]]:
    """Records whose value as a whole is wrong: kind, value, reasons, headers."""
    text, deep = encode(unique()), b"[" * 9_000 + b"]" * 9_000
    latin = json.dumps(unique(subject=f"Jörg {MARKER}"), ensure_ascii=False).encode("latin-1")
    for headers in (STRUCTURED, BARE, NDJSON):
        yield "broken UTF-8", text.replace(b'"subject":"', b'"subject":"\xff\xfe'), {0: Reason.NOT_UTF8}, headers
        yield (
            "a lone surrogate",
            text.replace(b'"subject":"', b'"subject":"\xed\xa0\x80'),
            {0: Reason.NOT_UTF8},
            headers,
        )
        yield (
            "an overlong character",
            text.replace(b'"subject":"', b'"subject":"\xc0\xaf'),
            {0: Reason.NOT_UTF8},
            headers,
        )
        yield "latin-1", latin, {0: Reason.NOT_UTF8}, headers
        yield "prose", f"hello {MARKER}".encode(), {0: Reason.NOT_JSON}, headers
        yield "cut off", text[: len(text) // 2], {0: Reason.NOT_JSON}, headers
        yield "the last bracket missing", text[:-1], {0: Reason.NOT_JSON}, headers
        yield "a trailing comma", text[:-1] + b",}", {0: Reason.NOT_JSON}, headers
        yield "single quotes", repr(unique()).encode(), {0: Reason.NOT_JSON}, headers
        yield "not a number", text.replace(b'"extension":', b'"extension":NaN,"e":'), {0: Reason.NOT_JSON}, headers
        yield "two in one line", encode(unique()) + b" " + encode(unique()), {0: Reason.NOT_JSON}, headers
        yield "a control character", text.replace(b'"subject":"', b'"subject":"\x01'), {0: Reason.NOT_JSON}, headers
        yield "a text", json.dumps(MARKER).encode(), {0: Reason.NOT_AN_EVENT}, headers
        yield "a number", b"42", {0: Reason.NOT_AN_EVENT}, headers
        yield "null", b"null", {0: Reason.NOT_AN_EVENT}, headers
        yield "nested 9,000 deep", b'{"a":' * 9_000 + b"1" + b"}" * 9_000, {0: Reason.TOO_DEEP}, headers
        yield (
            "nested in data",
            text.replace(b'"unregistered":', b'"deep":' + deep + b',"u":'),
            {0: Reason.TOO_DEEP},
            headers,
        )
        yield "a large event", encode(unique(extension=MARKER * 9_000)), {0: Reason.TOO_LARGE}, headers
        yield "blanks", b" \n\t\r\n ", {0: Reason.EMPTY if headers is not STRUCTURED else Reason.NOT_JSON}, headers
    for headers in (BATCH, BARE):
        yield "nested 100,000 deep", b"[" * 100_000, {0: Reason.TOO_DEEP}, headers
        yield "nested 100,000 deep and back", b"[" * 100_000 + b"]" * 100_000, {0: Reason.TOO_LARGE}, headers
        yield "nested 9,000 deep and back", b"[" * 9_000 + b"]" * 9_000, {0: Reason.TOO_DEEP}, headers
        yield "a batch that is cut off", b"[" + text + b"," + text[:50], {0: Reason.NOT_JSON}, headers
        yield "an empty batch", b"[]", {0: Reason.EMPTY}, headers
    yield "objects 100,000 deep", b'{"a":' * 100_000, {0: Reason.TOO_LARGE}, STRUCTURED
    yield "UTF-16", text.decode().encode("utf-16"), {0: Reason.NOT_UTF8}, STRUCTURED
    yield "a byte order mark", b"\xef\xbb\xbf" + text, {0: Reason.NOT_JSON}, STRUCTURED
    yield "a batch as one event", b"[" + text + b"]", {0: Reason.NOT_AN_EVENT}, STRUCTURED
    yield "one event as a batch", text, {0: Reason.NOT_AN_EVENT}, BATCH
    printed = msgspec.json.format(text, indent=2)
    yield "printed over lines", printed, dict.fromkeys(range(len(printed.splitlines())), Reason.NOT_JSON), NDJSON
    yield "nothing", b"", {0: Reason.EMPTY}, STRUCTURED
    yield "no value", None, {0: Reason.EMPTY}, BARE
    yield "no value, but attributes", None, {0: Reason.EMPTY}, binary(unique())[1]
    for form in (
        "text/plain",
        "application/xml",
        "application/cloudevents+avro",
        "application/octet-stream",
        "x" * 300,
        "\udcff",
    ):
        yield (
            "an unknown form",
            text,
            {0: Reason.UNSUPPORTED_FORM},
            [("content-type", form.encode(errors="surrogateescape"))],
        )


def binary(built: dict[str, Any]) -> tuple[bytes, Headers]:
    """Binary mode: the attributes are headers, the value is ``data``."""
    attributes = [(f"ce_{name}", str(value).encode()) for name, value in built.items() if name != "data"]
    return encode(built["data"]), [("content-type", b"application/json"), *attributes]


def binaries() -> Iterator[tuple[str, Any, dict[int, Reason], Headers]]:
    value, headers = binary(unique())

    def without(name: str) -> Headers:
        return [each for each in headers if each[0] != name]

    for name in ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"):
        yield f"no {name}", value, {0: Reason.MISSING_ATTRIBUTE}, without(name)
    for name, wrong, reason in (
        ("ce_specversion", b"0.3", Reason.INVALID_ATTRIBUTE),
        ("ce_id", b"", Reason.INVALID_ATTRIBUTE),
        ("ce_type", MARKER.encode(), Reason.UNKNOWN_TYPE),
        ("ce_time", b"2026-05-02T10:00:00", Reason.INVALID_TIME),
        ("ce_subject", b"", Reason.INVALID_SUBJECT),
        ("ce_subject", MARKER.encode() * 1_250, Reason.INVALID_SUBJECT),
        ("ce_subject", b"\xff", Reason.NOT_UTF8),
        ("ce_extension", b"\xff", Reason.NOT_UTF8),
        ("content-type", b"application/avro", Reason.UNSUPPORTED_FORM),
    ):
        yield f"a wrong {name}", value, {0: reason}, [*without(name), (name, wrong)]
    for wrong, reason in (
        (b"", Reason.EMPTY),
        (MARKER.encode(), Reason.NOT_JSON),
        (b"\xff", Reason.NOT_UTF8),
        (json.dumps(MARKER).encode(), Reason.INVALID_DATA),
        (b"[]", Reason.INVALID_DATA),
        (b"{}", Reason.MISSING_FIELD),
        (b'{"feature":"06-12345678"}', Reason.PERSONAL_DATA),
        (b'{"a":' * 9_000, Reason.TOO_DEEP),
    ):
        yield f"data {wrong[:10]!r}", wrong, {0: reason}, headers


def mixtures(number: int) -> Iterator[Broken]:
    """One or two that are wrong among some that are right: only those are lost."""
    events = [good(100_000 + 10 * number + place) for place in range(5)]
    for form, headers in (("batch", BATCH), ("lines", NDJSON)):
        for (change, reason), place in zip(CHANGES[number :: len(CHANGES) // 2], (0, 2, 5), strict=False):
            mine = [{**each, "id": f"{each['id']}-{form}-{place}-{number}"} for each in events]
            texts = [encode(each) for each in mine]
            texts.insert(place, encode(unique(**change)))
            value = b"[" + b",".join(texts) + b"]" if form == "batch" else b"\r\n\n".join(texts)
            yield Broken(f"{reason} in {form}", value, {place: reason}, headers, tuple(mine))
    mine = [{**each, "id": f"{each['id']}-both-{number}"} for each in events]
    texts = [b"7", encode(mine[0]), f'"{MARKER}"'.encode(), *map(encode, mine[1:]), b"[]"]
    reasons = dict.fromkeys((0, 2, 7), Reason.NOT_AN_EVENT)
    yield Broken("values in a batch", b"[" + b",".join(texts) + b"]", reasons, BATCH, tuple(mine))
    again = [{**mine[0], "time": "2026-05-02T11:00:00Z"}] * 3  # one id, on one day
    once = [{**each, "id": f"again-{number}"} for each in again]
    value = b"\n".join(map(encode, once))
    yield Broken("thrice", value, {1: Reason.DUPLICATE, 2: Reason.DUPLICATE}, NDJSON, tuple(once[:1]))


def enormous() -> Iterator[Broken]:
    """What is small on its way and is not when it has arrived; and what is plainly too large."""
    text = encode(unique())
    padded = text[:-1] + b',"x":"' + b"x" * (40 * MEGABYTE) + b'"}'
    spaces = text + b" " * (40 * MEGABYTE)
    array = b"[" + b"1," * (20 * MEGABYTE) + b"1]"
    for compression in COMPRESSIONS[1:]:
        yield Broken("40 MB of text", padded, {0: Reason.TOO_LARGE}, STRUCTURED, compression=compression)
    yield Broken("40 MB of blanks", spaces, {0: Reason.TOO_LARGE}, NDJSON, compression="gzip")
    yield Broken("20 million numbers", array, {0: Reason.TOO_LARGE}, BATCH, compression="zstd")


def late_event() -> Broken:
    """Of a day of which it was said that everything had been sent."""
    return Broken("late", encode(unique(time="2026-05-01T10:00:00Z")), {0: Reason.LATE}, STRUCTURED)


def broken_records(at_least: int = 1_000) -> list[Broken]:
    """All kinds, again and again until there are so many; each bears the marker and is an event of its own."""
    found = list(enormous())
    for number in itertools.count():
        for change, reason in CHANGES:
            built = unique(**change)
            found.append(Broken(f"{change}", encode(built), {0: reason}, (STRUCTURED, BARE, NDJSON)[number % 3]))
        for hours in (1, 24 * 400):
            ahead = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
            found.append(Broken("ahead", encode(unique(time=ahead)), {0: Reason.FUTURE}, STRUCTURED))
        for kind, value, reasons, headers in itertools.chain(values(), binaries()):
            found.append(Broken(kind, value, reasons, [*headers, ("zq-other", MARKER.encode())]))
        found += mixtures(number)
        unreadable = [*STRUCTURED, (NotUtf8(MARKER), MARKER.encode())]
        for how in COMPRESSIONS:  # among records of the same producer's batch that can be read
            found.append(Broken("a header's name", encode(unique()), {0: Reason.NOT_UTF8}, unreadable, compression=how))
        if len(found) >= at_least:
            return found
    raise AssertionError

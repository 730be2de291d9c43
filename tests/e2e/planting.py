"""Invented people's data, everywhere that an application could put it, and a scanner that finds any trace of it."""

import base64
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
import numpy as np

from pipeline.testing import event

# Nobody's. Each is at least eight characters long and occurs nowhere else.
NAMES = ("Quirijn Zwaluwstaart", "Márïke Pimpelmees", "zwaluwstaart", "marijke_pimpelmees")
ADDRESSES = ("quirijn.zwaluwstaart@post.voorbeeld.example", "m.pimpelmees+app@voorbeeld.example")
TELEPHONES = ("+31698700123", "06-98700456", "0031 6 9870 0789", "0698700999")
ACCOUNTS = ("NL02HCPT0987612345", "nl13hcpt0987667890", "NL24 HCPT 0987 6999 99")
CITIZENS = ("998765437", "997654324", "996543211")
DEVICES = ("zq-device-7f3a9c51e0", "ZQ:4B:1F:00:9D:77")
# Of the same kinds and the form of a feature's name, with few digits: these are accepted, sealed and held back.
FEATURES = (
    "quirijn.zwaluwstaart",
    "m.pimpelmees",
    "mevrouw_pimpelmees-de.vries",
    "zwaluwstaart.q-1961",
    "quirijn_at_voorbeeld.example",
)
PLANTED = (*NAMES, *ADDRESSES, *TELEPHONES, *ACCOUNTS, *CITIZENS, *DEVICES, *FEATURES)

ANCHOR = 8  # bytes of a pattern that are looked for first
HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3_256", "blake2b", "blake2s")


class Trace(NamedTuple):
    """A planted value, and the transformation under which it was found."""

    value: str
    how: str


class Pattern(NamedTuple):
    trace: Trace
    content: bytes
    any_case: bool


def patterns(value: str) -> Iterator[Pattern]:
    """Every form of the value that is looked for."""

    def pattern(how: str, content: bytes, any_case: bool = False) -> Pattern:
        assert len(content) >= ANCHOR, (how, value)
        return Pattern(Trace(value, how), content.lower() if any_case else content, any_case)

    plain = value.encode()
    yield pattern("plain", plain, any_case=True)
    yield pattern("utf-16", value.encode("utf-16-le"), any_case=True)
    yield pattern("hex", plain.hex().encode(), any_case=True)
    yield pattern("backwards", plain[::-1], any_case=True)
    if quote(value) != value:
        yield pattern("percent", quote(value).encode(), any_case=True)
    if not value.isascii():
        yield pattern("json", msgspec_ascii(value), any_case=True)
    for spelled in sorted({value, value.lower(), value.upper()}):
        for how, content in encodings(spelled.encode()):
            yield pattern(f"{how} of {spelled}", content)
        for name in HASHES:
            digest = hashlib.new(name, spelled.encode()).digest()
            # The first 8 bytes, so that a hash that was cut is found too.
            yield pattern(f"{name} of {spelled}", digest[:ANCHOR])
            yield pattern(f"{name} in hex of {spelled}", digest[:ANCHOR].hex().encode(), any_case=True)
            for how, content in (("base64", base64.b64encode(digest)), ("urlsafe", base64.urlsafe_b64encode(digest))):
                yield pattern(f"{name} in {how} of {spelled}", content[:10])
        for size in (8, 16, 20, 32):
            short = hashlib.blake2b(spelled.encode(), digest_size=size).digest()
            yield pattern(f"blake2b-{size} of {spelled}", short[:ANCHOR])
            yield pattern(f"blake2b-{size} in hex of {spelled}", short[:ANCHOR].hex().encode(), any_case=True)
    if value.isdigit():
        for order in ("little", "big"):
            yield pattern(f"{order} endian", int(value).to_bytes(8, order))  # type: ignore[arg-type]


def msgspec_ascii(value: str) -> bytes:
    """As JSON writers that know ASCII only spell it."""
    return "".join(c if c.isascii() else f"\\u{ord(c):04x}" for c in value).encode()


def encodings(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Base64 as it looks behind 0, 1 or 2 other bytes: without the characters that those have a part in."""
    for before in range(3):
        for how, encode in (("base64", base64.b64encode), ("urlsafe", base64.urlsafe_b64encode)):
            encoded = encode(bytes(before) + content)
            whole = (before + len(content)) * 8 // 6  # characters that the content alone decides
            yield f"{how} after {before}", encoded[-(-before * 8 // 6) : whole]


class Scanner:
    """Finds every trace of the values in any bytes, at any place."""

    def __init__(self, values: Iterable[str] = PLANTED) -> None:
        self._exact = _Index(p for value in values for p in patterns(value) if not p.any_case)
        self._any_case = _Index(p for value in values for p in patterns(value) if p.any_case)

    def find(self, haystack: bytes) -> set[Trace]:
        """All traces in it."""
        return self._exact.find(haystack) | self._any_case.find(haystack.lower())


class _Index:
    """Patterns by their first eight bytes: two tables of two bytes each leave few places to look at closely."""

    def __init__(self, given: Iterable[Pattern]) -> None:
        self._patterns: dict[bytes, list[Pattern]] = {}
        self._first, self._third = np.zeros(1 << 16, dtype=bool), np.zeros(1 << 16, dtype=bool)
        for pattern in given:
            anchor = pattern.content[:ANCHOR]
            self._patterns.setdefault(anchor, []).append(pattern)
            self._first[int.from_bytes(anchor[:2], "little")] = True
            self._third[int.from_bytes(anchor[2:4], "little")] = True

    def find(self, haystack: bytes) -> set[Trace]:
        found: set[Trace] = set()
        step = 16 << 20
        for start in range(0, len(haystack), step):
            part = np.frombuffer(haystack, dtype=np.uint8, offset=start, count=min(step + 3, len(haystack) - start))
            pairs = part[:-1].astype(np.uint16) | (part[1:].astype(np.uint16) << 8)
            for place in np.flatnonzero(self._first[pairs[:-2]] & self._third[pairs[2:]]).tolist():
                at = start + place
                for pattern in self._patterns.get(haystack[at : at + ANCHOR], ()):
                    if haystack.startswith(pattern.content, at):
                        found.add(pattern.trace)
        return found


@dataclass(frozen=True)
class Planted:
    """A record of ``usage.events`` with somebody's data in it. ``accepted``: whether it is an event that is counted."""

    value: bytes | None
    headers: list[tuple[str, bytes]]
    key: bytes | None = None
    accepted: bool = False


STRUCTURED = [("content-type", b"application/cloudevents+json")]
TIMES = ("2026-05-05T09:00:00Z", "2026-05-06T21:30:00Z")
ATTRIBUTES = ("subject", "source", "id")
FIELDS = ("app_version", "platform", "country", "plan")
_numbers = itertools.count()


def planted_records() -> Iterator[Planted]:
    """Every value in every place."""
    for value, time in itertools.product(PLANTED, TIMES):
        yield from _accepted(value, time)
        yield from _broken(value, time)
    for feature, time in itertools.product(FEATURES, TIMES):
        subject = f"{feature}@voorbeeld.example"  # who does nothing else, so that no bound takes the feature out
        built = _event(time, feature=feature, subject=subject)
        yield Planted(msgspec.json.encode(built), STRUCTURED, accepted=True)


def _event(time: str, **changes: Any) -> dict[str, Any]:
    return event(**{"id": f"planted-{next(_numbers)}", "time": time, "subject": "somebody", **changes})


def _accepted(value: str, time: str) -> Iterator[Planted]:
    encode, raw = msgspec.json.encode, value.encode()

    def structured(built: dict[str, Any], **more: Any) -> Planted:
        return Planted(encode(built), STRUCTURED, accepted=True, **more)

    for name in (*ATTRIBUTES, *FIELDS):
        yield structured(_event(time, **{name: value, **({} if name == "subject" else {"subject": f"s-{value}"})}))
    yield structured(_event(time, app_version=f"2.1-{value}"))
    yield structured(_event(time, unregistered=value, nested={"list": [{"deep": [value, {value: value}]}]}))
    extended = {
        **_event(time),
        "extension": value,
        "dataschema": f"https://voorbeeld.example/{value}",
        "traceparent": [value],
    }
    yield structured(extended, key=raw)
    if value.isdigit():
        yield structured(_event(time, duration_ms=int(value)))
    built = _event(time, subject=value)
    attributes = [(f"ce_{name}", str(content).encode()) for name, content in built.items() if name != "data"]
    others = [("ce_extension", raw), ("x-forwarded-for", raw), (value, raw)]
    yield Planted(
        encode(built["data"]), [("content-type", b"application/json"), *attributes, *others], raw, accepted=True
    )


def _broken(value: str, time: str) -> Iterator[Planted]:
    encode, raw = msgspec.json.encode, value.encode()
    text = encode(_event(time, subject=value))
    for headers in (STRUCTURED, [], [("content-type", b"application/x-ndjson")]):
        yield Planted(text[:-3], headers, raw)
        yield Planted(raw, headers, raw)
        yield Planted(text.replace(b'"subject"', b'"\xff'), headers)
        yield Planted(encode(value), headers)
        yield Planted(b'{"a":' * 5_000 + encode(value), headers)
        yield Planted(text + b"x" * 70_000, headers)
    for changes in (
        {"type": value},
        {"specversion": value},
        {"time": f"{time} {value}"},
        {"data": value},
        {"data": [value]},
        {"duration_ms": value},
        {"feature": f"Feature of {value}!"},
        {"feature": [value]},
        {"subject": [value]},
        {"subject": value * 300},
        {"source": {"name": value}},
        {"id": value * 300},
        {"time": "1950-01-01T00:00:00Z", "subject": value},
        {"time": "2999-01-01T00:00:00Z", "subject": value},
    ):
        yield Planted(encode(_event(**{"time": time, **changes})), STRUCTURED)
    yield Planted(text, [("content-type", f"text/{value}".encode())])
    yield Planted(None, [("content-type", raw), (value, raw)], raw)
    yield Planted(raw, [("ce_specversion", b"1.0"), ("ce_id", raw), ("ce_subject", raw)])

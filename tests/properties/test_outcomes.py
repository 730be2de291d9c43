"""Whatever comes, every event ends in exactly one outcome, and it is its own."""

from collections import Counter
from typing import Any

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.core.decoding import Decoder
from pipeline.core.events import BATCH, NDJSON, STRUCTURED, Record
from pipeline.core.ingest import Ingest
from pipeline.core.outcomes import Reason
from pipeline.testing import OPEN, MemoryKeyStore, event, record, run

from .worlds import DECLARED, SINCE, UNTIL, Event, deliveries, events, examples

DECODER = Decoder(DECLARED.registry)
GOOD = msgspec.json.encode(event())

CONTENT_TYPES = st.sampled_from([None, STRUCTURED, BATCH, *NDJSON, "application/json", "text/xml", "a; b", ";", "é"])
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["ce_id", "ce_specversion", "ce_type", "ce_source", "ce_time", "ce_", "CE_ID", "ce_data", "x"]),
        st.binary(max_size=8) | st.sampled_from([b"1.0", b"usage.feature.used.v1", b"2026-05-01T10:00:00Z"]),
    ),
    max_size=4,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ATTRIBUTES = st.sampled_from(["specversion", "id", "source", "type", "subject", "time", "data", "more"])
FIELDS = st.sampled_from([*DECLARED.registry.fields, "more"])


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """An event with something wrong, or with nothing: attributes, fields or bytes at random."""
    built = event(id="1") | draw(st.dictionaries(ATTRIBUTES, JSON, max_size=2))
    if isinstance(built.get("data"), dict):
        built["data"] = built["data"] | draw(st.dictionaries(FIELDS, JSON, max_size=2))
    text = msgspec.json.encode(built)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.binary(max_size=3)) + text[draw(st.integers(at, len(text))) :]
    return text


VALUES = st.binary(max_size=60) | broken() | st.lists(broken(), max_size=4).map(b"\n".join) | st.lists(
    broken(), max_size=4
).map(lambda texts: b"[" + b",".join(texts) + b"]")  # fmt: skip


@examples(150)
@given(VALUES, CONTENT_TYPES, HEADERS)
def test_decoding_never_raises(value: bytes, content_type: str | None, headers: list[tuple[str, bytes]]) -> None:
    named = [("content-type", content_type.encode())] if content_type else []
    found = DECODER.decode(Record(0, 0.0, (*named, *headers), value))
    assert [d.place for d in found] == list(range(len(found)))


# Blanks and an empty array are no event, and yet they may not disappear.
@examples(120)
@given(VALUES | st.sampled_from([b"", b" ", b"\n\n", b"[]", b" [ ] "]), CONTENT_TYPES)
def test_every_record_has_an_outcome(value: bytes, content_type: str | None) -> None:
    named = (("content-type", content_type.encode()),) if content_type else ()
    assert DECODER.decode(Record(0, 0.0, named, value))


def outcomes(value: bytes, content_type: str) -> list[str]:
    found = DECODER.decode(Record(0, 0.0, (("content-type", content_type.encode()),), value))
    return [d.event.value if isinstance(d.event, Reason) else "accepted" for d in found]


# Texts that are JSON, so that a batch of them can be taken apart.
TEXTS = {
    "good": GOOD,
    "empty": b"{}",
    "a number": b"5",
    "no id": msgspec.json.encode(event(id="")),
    "no subject": msgspec.json.encode(event(subject="")),
    "no time": msgspec.json.encode(event(time="x")),
    "a wrong field": msgspec.json.encode(event(duration_ms=-1)),
    "broken UTF-8": GOOD.replace(b"u-1", b"\xff"),
    "broken UTF-8 in what is not registered": GOOD.replace(b'"search"', b'"search","more":"\xff"'),
    "too large": msgspec.json.encode(event(padding="x" * 70_000)),
}


@examples(100)
@given(st.lists(st.sampled_from(sorted(TEXTS)), min_size=1, max_size=5))
def test_the_outcome_of_an_event_does_not_depend_on_its_neighbours(names: list[str]) -> None:
    texts = [TEXTS[name] for name in names]
    alone = [outcome for text in texts for outcome in outcomes(text, STRUCTURED)]
    assert outcomes(b"\n".join(texts), NDJSON[0]) == alone
    assert outcomes(b"[" + b",".join(texts) + b"]", BATCH) == alone


@examples(100)
@given(st.lists(broken() | st.just(GOOD), min_size=1, max_size=5))
def test_the_outcome_of_a_line_does_not_depend_on_its_neighbours(lines: list[bytes]) -> None:
    assume(all(line.strip() and b"\n" not in line for line in lines))
    alone = [outcome for line in lines for outcome in outcomes(line, STRUCTURED)]
    assert outcomes(b"\n".join(lines), NDJSON[0]) == alone


BAD: list[tuple[Any, Reason]] = [
    (b"{", Reason.NOT_JSON),
    (b"[]", Reason.NOT_AN_EVENT),
    (b"\xff", Reason.NOT_UTF8),
    (event(id=""), Reason.INVALID_ATTRIBUTE),
    (event(subject=""), Reason.INVALID_SUBJECT),
    (event(type="x"), Reason.UNKNOWN_TYPE),
    (event(time="2026-05-01"), Reason.INVALID_TIME),
    (event(time="1999-01-01T00:00:00Z"), Reason.BEFORE_POLICY),
    (event(time="9999-01-01T00:00:00Z"), Reason.FUTURE),
    (event(time="2026-06-01T00:00:00Z"), Reason.OUT_OF_SPAN),
    (event(feature="a@b.c"), Reason.PERSONAL_DATA),
    (event(feature="A"), Reason.INVALID_FIELD),
    (event(data={}), Reason.MISSING_FIELD),
]


@examples(20)
@given(st.data(), events(most=15), st.lists(st.sampled_from(BAD), max_size=10))
def test_events_in_are_events_accepted_and_events_rejected(
    data: st.DataObject, good: list[Event], bad: list[tuple[Any, Reason]]
) -> None:
    again = data.draw(st.lists(st.sampled_from(good), max_size=5)) if good else []
    mixed = data.draw(st.permutations([*good, *again, *(text for text, _ in bad)]))
    sources = data.draw(st.integers(1, 3))
    cut = data.draw(deliveries(mixed, sources, forms=("ndjson",)))  # not all of them are JSON
    result = run(DECLARED, cut, sources=sources, since=SINCE, until=UNTIL)

    # What was delivered again was rejected again, at the same place.
    rejected = {(r.partition, r.offset, r.place): r.reason for r in result.rejections}
    assert result.accepted + len(rejected) == len(mixed)
    assert result.accepted == len(good)
    assert Counter(rejected.values()) == Counter([reason for _, reason in bad] + [Reason.DUPLICATE] * len(again))


@examples(100)
@given(broken(), st.sampled_from(["UTC", "Europe/Amsterdam", "America/New_York"]))
def test_the_first_hop_never_raises(text: bytes, zone: str) -> None:
    policy = msgspec.structs.replace(DECLARED.policy, timezone=zone)
    batch = Ingest(DECLARED.registry, DECLARED.plan, policy, MemoryKeyStore(), 2).ingest(0, [record(text)], OPEN)
    assert len(batch.rejections) + sum(c.rows for c in batch.contributions.values()) >= 1


@examples(100)
@given(
    st.sampled_from(["0001-01-01T00:00:00", "9999-12-31T23:59:59"]) | st.datetimes().map(lambda at: at.isoformat()),
    st.sampled_from(["Z", "+00:00", "-23:59", "+23:59", "+05:45"]),
    st.sampled_from(["UTC", "Europe/Amsterdam", "America/New_York"]),
)
def test_every_time_has_an_outcome(at: str, offset: str, zone: str) -> None:
    policy = msgspec.structs.replace(DECLARED.policy, timezone=zone)
    batch = Ingest(DECLARED.registry, DECLARED.plan, policy, MemoryKeyStore(), 1).ingest(
        0, [record(event(time=at + offset))], OPEN
    )
    assert len(batch.rejections) + len(batch.contributions) == 1

"""Whatever is read as columns is read as the decoder reads it, event by event."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import layouts
from pipeline.core.columns import Columns
from pipeline.core.decoding import Decoder, Rows
from pipeline.core.events import Record
from pipeline.core.outcomes import Reason
from pipeline.testing import declarations, event, record
from tests.core.cases import cases, parametrized, record_of
from tests.properties.worlds import examples

REGISTRY = declarations().registry
MANY = 2 * layouts.FEW


def text_of(**changes: Any) -> bytes:
    return msgspec.json.encode(event(id="e-1", **changes))


PLAIN = text_of(subject="u-1", duration_ms=1200, app_version="4.12")
USUAL = (
    PLAIN,
    text_of(subject=None),
    text_of(platform=None, time="2026-05-01T10:00:00.250Z", duration_ms=0),
    msgspec.json.encode({**event(id="e-2"), "traceparent": "00-4bf9", "sequence": 7, "sampled": True, "ratio": -0.5}),
    text_of(plan="free").replace(b'":', b'" : ').replace(b",", b", "),
    PLAIN.replace(b'"feature":"search"', b'"note":{"feature":["x",{"id":"y"}]},"feature":"search","bytes":12'),
)
HOSTILE = (*(bytes([each]) for each in b'"\\{}[],:0-.e \n\x00\x7f\xc3\xff'), "é".encode(),
           b"null", b'""', b'"id":"z",', b"\\u0041", b"Z", b"T24", b"99", b"x" * 300)  # fmt: skip


def contents(columns: Columns, row: int) -> dict[str, Any]:
    """Everything that the columns say of one row."""
    texts = {name: columns.texts(name).at(np.array([row])).tolist()[0] for name in columns.names.texts}
    return {
        **texts,
        **{name: columns.amounts_of(name)[row] for name in columns.names.amounts},
        "s": columns.seconds[row],
    }


def one_by_one(decoder: Decoder, each: Record) -> list[dict[str, Any] | Reason]:
    found = [one.event for one in decoder.decode(each)]
    return [e if isinstance(e, Reason) else contents(Columns.made_of(decoder.names, [e]), 0) for e in found]


def together(found_rows: Iterable[Rows]) -> list[dict[str, Any] | Reason]:
    found: dict[tuple[int, int], Any] = {}
    for rows in found_rows:
        places = zip(rows.records.tolist(), rows.places.tolist(), strict=True)
        found |= {place: contents(rows.columns, row) for row, place in enumerate(places)}
        found |= {(number, place): reason for number, place, reason in rows.rejected}
    return [found[place] for place in sorted(found)]


def read_as_columns(monkeypatch: pytest.MonkeyPatch, decoder: Decoder, texts: Sequence[bytes]) -> int:
    """How many of the texts, one a record, never became an object."""
    objects: list[bytes] = []
    one = decoder._one
    monkeypatch.setattr(decoder, "_one", lambda text: objects.append(text) or one(text))
    found = together(decoder.rows([record(text, form="structured") for text in texts]))
    assert not any(isinstance(each, Reason) for each in found)
    return len(texts) - len(objects)


@pytest.mark.parametrize("text", USUAL)
def test_events_that_look_alike_are_read_as_columns_once_one_was_met(
    text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [text.replace(b'"e-', b'"event-%d-' % number) for number in range(MANY)]
    decoder = Decoder(REGISTRY)
    assert read_as_columns(monkeypatch, decoder, texts) == MANY - 1
    assert read_as_columns(monkeypatch, decoder, texts[:-1]) == MANY - 1  # the layout is known now


def test_few_events_are_not_worth_a_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_as_columns(monkeypatch, Decoder(REGISTRY), [PLAIN] * (layouts.FEW - 1)) == 0


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace(b"search", b"s\\u0065arch"),
        PLAIN.replace(b"u-1", "ü-1".encode()),
        PLAIN.replace(b"2026-05-01T10:00:00Z", b"2026-05-01T12:00:00+02:00"),
        PLAIN.replace(b'"id"', b'"subject":"u-0","id"'),
    ],
)
def test_what_takes_more_than_a_look_is_left_to_the_decoder(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_as_columns(monkeypatch, Decoder(REGISTRY), [text] * MANY) <= 0


def test_a_text_that_is_no_event_does_not_keep_the_others_from_being_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text_of(feature=None), *[PLAIN] * MANY]
    decoder, objects = Decoder(REGISTRY), []
    one = decoder._one
    monkeypatch.setattr(decoder, "_one", lambda text: objects.append(text) or one(text))
    found = together(decoder.rows([record(text, form="structured") for text in texts]))
    assert [each for each in found if isinstance(each, Reason)] == [Reason.MISSING_FIELD]
    assert objects.count(PLAIN) == 1


def test_layouts_that_take_turns_are_all_known(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder(REGISTRY)
    texts = [text for text in USUAL[:4] for _ in range(MANY)]
    assert read_as_columns(monkeypatch, decoder, texts) == 4 * (MANY - 1)


def test_no_more_layouts_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "MOST", 3)
    decoder = Decoder(REGISTRY)
    for number in range(9):
        list(decoder.rows([record(PLAIN.replace(b'"data"', b'"x%d":1,"data"' % number))] * MANY))
        assert len(decoder._layouts._known) == min(number + 1, 3)


@pytest.mark.parametrize("case", parametrized([case for case in cases() if len(record_of(case).value or b"") < 10_000]))
def test_cases_end_the_same_among_many_of_their_like(case: dict[str, Any]) -> None:
    decoder, one = Decoder(REGISTRY), record_of(case)
    expected = one_by_one(decoder, one)
    for _ in range(2):  # the second time with all layouts that there are
        assert together(decoder.rows([one] * MANY)) == expected * MANY


@examples(400)
@given(st.data())
def test_a_text_that_is_like_others_but_for_something_is_read_as_the_decoder_reads_it(data: st.DataObject) -> None:
    decoder = Decoder(REGISTRY)
    list(decoder.rows([record(text, form="structured") for text in USUAL for _ in range(MANY)]))
    text = data.draw(st.sampled_from(USUAL))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 4))
        text = text[:at] + data.draw(st.sampled_from(HOSTILE) | st.binary(max_size=3)) + text[at + cut :]
    changed = record(text, form="structured")
    around = [record(PLAIN, form="structured")] * MANY
    expected = one_by_one(decoder, changed)
    assert together(decoder.rows([changed] * MANY)) == expected * MANY
    assert together(decoder.rows([*around, changed, *around]))[MANY : MANY + len(expected)] == expected


@examples(200)
@given(st.sampled_from(("id", "source", "subject", "time")), st.text(max_size=300))
def test_attributes_are_read_as_the_decoder_reads_them(name: str, value: str) -> None:
    decoder = Decoder(REGISTRY)
    list(decoder.rows([record(PLAIN, form="structured")] * MANY))
    changed = record(msgspec.json.encode({**msgspec.json.decode(PLAIN), name: value}), form="structured")
    assert together(decoder.rows([changed] * MANY)) == one_by_one(decoder, changed) * MANY


@examples(200)
@given(st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5) | st.booleans() | st.none())
def test_amounts_are_read_as_the_decoder_reads_them(value: Any) -> None:
    decoder = Decoder(REGISTRY)
    list(decoder.rows([record(PLAIN, form="structured")] * MANY))
    changed = record(PLAIN.replace(b"1200", msgspec.json.encode(value)), form="structured")
    assert together(decoder.rows([changed] * MANY)) == one_by_one(decoder, changed) * MANY

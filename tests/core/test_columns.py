"""Texts, times and message authentication codes by the column, against the same one by one."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.dictionaries import Dictionary, Lookup
from pipeline.core.macs import Mac
from pipeline.core.texts import Texts
from pipeline.core.times import seconds_of
from tests.properties.worlds import examples

LINES = st.lists(st.sampled_from([b"a", b"bc", b"{}", b" d ", b" ", b"\r", b"\n", b"\n\n", b"\ne"]))
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 12, 31))  # noqa: DTZ001
TEXTS = st.lists(st.none() | st.text(min_size=1, max_size=20) | st.text("a\0", min_size=60, max_size=70))


@examples(150)
@given(st.lists(TEXTS, max_size=4), st.integers(1, 9))
def test_a_dictionary_gives_a_code_to_each_text_and_the_text_back(batches: list[list[str | None]], most: int) -> None:
    dictionary = Dictionary(7, most)
    for batch in batches:
        dictionary.forget()
        codes = dictionary.codes(Texts.of(batch))
        assert [dictionary.texts[code].decode() or None for code in codes.tolist()] == batch
        assert len(set(dictionary.texts)) == len(dictionary.texts) <= most + 1 + len(set(batch))
        assert all((code == 0) == (text is None) for code, text in zip(codes.tolist(), batch, strict=True))


@examples(100)
@given(st.lists(TEXTS, max_size=5), st.integers(1, 9))
def test_a_lookup_works_out_each_text_once_for_as_long_as_the_dictionary_knows_it(
    batches: list[list[str | None]], most: int
) -> None:
    asked: list[bytes] = []
    dictionary, other = Dictionary(7, most), Dictionary(7)
    lookup = Lookup(np.int64, lambda texts: [asked.append(each) or len(each) for each in texts])  # type: ignore[func-returns-value]
    age = dictionary.age
    for batch in batches:
        dictionary.forget()
        codes = dictionary.codes(Texts.of(batch))
        if dictionary.age != age:
            age, asked = dictionary.age, []
        assert lookup.of(dictionary, codes).tolist() == [len((each or "").encode()) for each in batch]
        assert len(set(asked)) == len(asked)
    words = Texts.of(["one", "three"])
    assert lookup.of(other, other.codes(words)).tolist() == [3, 5]


@examples(150)
@given(
    st.binary(min_size=32, max_size=32),
    st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40), st.text(min_size=1, max_size=40)), min_size=1),
)
def test_codes_are_those_of_the_standard(key: bytes, messages: list[tuple[str, str, str]]) -> None:
    """RFC 4493, as the cryptography library has it."""
    found = Mac(key).of([Texts.of(column) for column in zip(*messages, strict=True)])
    for message, code in zip(messages, found, strict=True):
        parts = [part.encode() for part in message]
        expected = CMAC(AES(key))
        expected.update(b"".join(len(part).to_bytes(2, "little") for part in parts).ljust(16, b"\0"))
        expected.update(b"".join(part.ljust(-(-len(part) // 16) * 16, b"\0") for part in parts))
        assert code.tobytes() == expected.finalize()


@examples(200)
@given(st.lists(st.tuples(LINES, st.booleans()), min_size=1))
def test_some_texts_are_cut_into_lines(given: list[tuple[list[bytes], bool]]) -> None:
    texts = [b"".join(pieces) or b"x" for pieces, _ in given]
    found, whole = Texts.joined(texts).lines(np.array([lined for _, lined in given]))
    expected = [
        (line, number)
        for number, (text, (_, lined)) in enumerate(zip(texts, given, strict=True))
        for line in (text.split(b"\n") if lined else [text])
        if line.strip() or not lined
    ]
    assert list(zip(found.tolist(), whole.tolist(), strict=True)) == expected


@examples(200)
@given(st.lists(st.tuples(TIMES, st.integers(0, 6)), min_size=1))
def test_times_are_read_to_the_microsecond(given: list[tuple[datetime, int]]) -> None:
    texts, expected = [], []
    for time, digits in given:
        cut = time.replace(microsecond=time.microsecond // 10 ** (6 - digits) * 10 ** (6 - digits))
        fraction = f".{cut.microsecond:06d}"[: digits + 1] if digits else ""
        texts.append(f"{cut:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + fraction + "Z")
        expected.append(cut.replace(tzinfo=UTC).timestamp())
    columns = Texts.of(texts)
    assert seconds_of(columns.buffer, columns.begins, columns.lengths).tolist() == expected


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-01T10:00:00",
        "2026-05-01T10:00:00z",
        "2026-05-01 10:00:00Z",
        "2026-05-01T10:00:00.Z",
        "2026-05-01T10:00:00.1234567Z",
        "2026-05-01T10:00:00+00:00",
        "2026-05-01T10:00:60Z",
        "2026-05-01T10:60:00Z",
        "2026-05-01T24:00:00Z",
        "2026-02-29T10:00:00Z",
        "2100-02-29T10:00:00Z",
        "2026-04-31T10:00:00Z",
        "2026-13-01T10:00:00Z",
        "2026-00-01T10:00:00Z",
        "2026-05-00T10:00:00Z",
        "1969-12-31T23:59:59Z",
        "2201-01-01T00:00:00Z",
        "2026-05-01T10:0x:00Z",
        "٢026-05-01T10:00:0Z",
        "",
    ],
)
def test_what_is_written_otherwise_is_no_time_here(text: str) -> None:
    columns = Texts.of([text, "2028-02-29T23:59:59.5Z"])
    found = seconds_of(columns.buffer, columns.begins, columns.lengths)
    assert np.isnan(found[0])
    assert (
        found[1] == datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC).timestamp() + timedelta(seconds=0.5).total_seconds()
    )

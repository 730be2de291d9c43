"""The log of keys says the same thing to whoever reads it, however much of it Kafka has compacted away."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.keylog import KeyDestroyed, KeyDrawn, KeyLog, encode_key_record

NAMES = ("route", "day-2026-05-05", "month-2026-05-01")
NOW = datetime(2026, 5, 5, tzinfo=UTC)

Entry = tuple[int, str, bytes | None]  # offset, key, value


def fold(entries: list[Entry]) -> KeyLog:
    log = KeyLog()
    for offset, key, value in entries:
        log.add(offset, key.encode(), value)
    return log


def says(log: KeyLog) -> object:
    """What anyone acts upon: the draw that counts of each name with its bytes, and what is destroyed."""
    return {name: (draw, record.wrapped) for name, (draw, record) in log.live().items()}, set(log.destroyed)


def drawn(wrapped: bytes, place: int | None = None) -> bytes:
    return encode_key_record(KeyDrawn(wrapped=wrapped, drawn=NOW, place=place))


GONE = encode_key_record(KeyDestroyed(destroyed=NOW))


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """What workers and rotations write: each acts on what it has read, which may be long ago."""
    entries: list[Entry] = []
    for number in range(draw(st.integers(0, 25))):
        name = draw(st.sampled_from(NAMES))
        read = fold(entries[: draw(st.integers(0, len(entries)))] if draw(st.booleans()) else entries)
        first, useless = read.first(name), read.useless(name)
        match draw(st.sampled_from(["draw", "destroy", "rotate", "take back", "late draw"])):
            case "draw" if first is None and name not in read.destroyed:
                entries.append((number, f"{name}/{number}", drawn(b"%d" % number)))
            case "late draw":  # by one who had not read that there is one, or that it is destroyed
                entries.append((number, f"{name}/{number}", drawn(b"%d" % number)))
            case "destroy" if name != "route":
                entries.append((number, name, GONE))
            case "rotate" if first is not None:
                entries.append((number, first[0], drawn(b"anew %d" % number, first[1].place)))
            case "take back" if useless:
                entries.append((number, draw(st.sampled_from(useless)), None))
    return entries


@st.composite
def compacted(draw: st.DrawFn) -> tuple[list[Entry], list[Entry]]:
    """A log, and what a reader may find of it: up to some offset each key's last record alone, some deletions gone."""
    entries = draw(logs())
    clean = draw(st.integers(0, len(entries)))
    last = {key: offset for offset, key, _ in entries[:clean]}
    head = [
        entry
        for entry in entries[:clean]
        if last[entry[1]] == entry[0] and (entry[2] is not None or draw(st.booleans()))
    ]
    return entries, head + entries[clean:]


@given(compacted())
def test_compaction_changes_nothing_of_what_the_log_says(both: tuple[list[Entry], list[Entry]]) -> None:
    whole, rest = both
    assert says(fold(rest)) == says(fold(whole))


@given(logs())
def test_what_was_destroyed_is_never_live_again(entries: list[Entry]) -> None:
    destroyed: set[str] = set()
    for length in range(len(entries) + 1):
        log = fold(entries[:length])
        assert destroyed <= log.destroyed.keys()
        destroyed |= log.destroyed.keys()
        assert not destroyed & log.live().keys()


@given(logs())
def test_a_draw_that_counts_counts_until_it_is_destroyed(entries: list[Entry]) -> None:
    counted: dict[str, str] = {}
    for length in range(len(entries) + 1):
        log = fold(entries[:length])
        for name, (draw, _) in log.live().items():
            assert counted.setdefault(name, draw) == draw


@given(logs())
def test_what_lingers_is_what_counts_for_nothing_and_can_be_read(entries: list[Entry]) -> None:
    log = fold(entries)
    counts = {record.wrapped for _, record in log.live().values()}
    for name in NAMES:
        bytes_of = [
            msgspec.json.decode(value, type=KeyDrawn).wrapped
            for _, key, value in entries
            if key.startswith(f"{name}/") and value is not None
        ]
        assert (name in log.lingering()) == any(each not in counts for each in bytes_of)


def test_who_is_first_wins_also_when_wrapped_anew_behind_another() -> None:
    entries = [(0, "route/a", drawn(b"a")), (1, "route/b", drawn(b"b")), (2, "route/a", drawn(b"anew", 0))]
    for rest in (entries, entries[1:]):  # with and without what compaction takes
        assert says(fold(rest)) == ({"route": ("route/a", b"anew")}, set())


@pytest.mark.parametrize("value", [b"", b"{}", b'{"type": "other"}', b"\xff", b'{"type": "drawn", "wrapped": 1}'])
def test_what_is_no_record_of_a_key_is_not_taken_for_one(value: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        KeyLog().add(0, b"route/a", value)

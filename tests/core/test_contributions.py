"""What leaves the first hop: columns that survive the wire and name nobody."""

import msgspec
import numpy as np
import pytest

from pipeline.core.contributions import (
    Contributions,
    Progress,
    WindowColumns,
    decode_contribution,
    encode_contribution,
)

COLUMNS = WindowColumns(
    "day",
    bytes(range(32)),
    [(20574, 0), (20575, 1)],
    [[(20574, b"sealed"), (20575, b"")], [(20574, b"web"), (20575, b"ios")]],
    np.array([[1, 0], [1, 0], [1, 0]], dtype="<i4").tobytes(),
)
BATCH = Contributions(3, 17, bytes(16), bytes(8), bytes(16), b"\x01\x00", [COLUMNS])


@pytest.mark.parametrize("contribution", [BATCH, Progress(1, 4, 20574), Progress(1, 4, 20574, -5, 20600)])
def test_a_contribution_survives_the_wire(contribution: Contributions | Progress) -> None:
    assert decode_contribution(encode_contribution(contribution)) == contribution


@pytest.mark.parametrize("value", [b"", b"\xc1", b"{}", b"\x90", encode_contribution(BATCH)[:-1]])
def test_anything_else_is_refused(value: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_contribution(value)


def test_a_batch_has_a_row_an_event() -> None:
    assert BATCH.rows == 2


def test_pseudonyms_are_pairs_of_words_and_cells_places_in_what_was_met() -> None:
    words = COLUMNS.words()
    assert words.shape == (2, 2)
    assert [row.tobytes() for row in words] == [bytes(range(16)), bytes(range(16, 32))]
    assert COLUMNS.places().tolist() == [[1, 0], [1, 0], [1, 0]]
    assert [COLUMNS.cell(row) for row in (0, 1)] == [(20575, 1, (b"", b"ios")), (20574, 0, (b"sealed", b"web"))]


def test_nothing_in_a_batch_is_a_text() -> None:
    """What an application chose is bytes (sealed, or declared); the kind of a window is the one text."""
    texts = []

    def walk(value: object) -> None:
        if isinstance(value, str):
            texts.append(value)
        for part in value if isinstance(value, list | tuple) else value.values() if isinstance(value, dict) else ():
            walk(part)

    walk(msgspec.to_builtins(BATCH, builtin_types=(bytes,)))
    assert texts == ["contributions", "day"]

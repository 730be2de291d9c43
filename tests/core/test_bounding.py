"""The bounds on a subject, held on that subject's data alone."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.core import bounding
from pipeline.core.bounding import Pairs, bound, mix

Row = tuple[int, int]  # subject, code of a cell

CELLS = 12
HASHES = mix(np.arange(1, CELLS + 1, dtype=np.uint64))
ONE_PART = np.zeros(CELLS, dtype=np.int64)
SAME = np.arange(CELLS)  # every finest cell is a cell of the statistic


def word(subject: int) -> tuple[int, int]:
    """Something like a pseudonym: two words that say nothing about the order of subjects."""
    first, second = mix(np.array([2 * subject + 1, 2 * subject + 2], dtype=np.uint64)).tolist()
    return first, second


def pairs_of(rows: Sequence[Row], batch: int = 1000) -> Pairs:
    pairs = Pairs()
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        words = np.array([word(subject) for subject, _ in part], dtype=np.uint64).reshape(-1, 2)
        pairs.append(words, np.array([code for _, code in part], dtype=np.int64))
    return pairs


def kept(pairs: Pairs, max_cells: int | None, projection: np.ndarray = SAME) -> dict[tuple[int, int], dict[int, int]]:
    """Per pseudonym: its cells and their events."""
    subjects, cells, counts = bound(pairs, projection, ONE_PART, HASHES, max_cells)
    _, words, _, _ = pairs.columns()
    numbers = pairs.columns()[0]
    names = {int(number): tuple(words[i].tolist()) for i, number in enumerate(numbers)}
    found: dict[tuple[int, int], dict[int, int]] = {}
    for subject, cell, count in zip(subjects.tolist(), cells.tolist(), counts.tolist(), strict=True):
        assert cell not in found.setdefault(names[subject], {})
        found[names[subject]][cell] = count
    return found


def rows_of(seed: int, n: int, subjects: int = 20) -> list[Row]:
    drawn = mix(np.arange(seed, seed + 2 * n, dtype=np.uint64))
    return [(int(a) % subjects, int(b) % CELLS) for a, b in drawn.reshape(-1, 2).tolist()]


def test_pairs_are_distinct_sorted_and_count_their_events() -> None:
    rows = rows_of(1, 500)
    subjects, words, codes, counts = pairs_of(rows, batch=7).columns()

    expected = Counter((word(subject), code) for subject, code in rows)
    found = list(zip(map(tuple, words.tolist()), codes.tolist(), strict=True))
    assert dict(zip(found, counts.tolist(), strict=True)) == expected
    order = list(dict.fromkeys(word(subject) for subject, _ in rows))
    assert subjects.tolist() == [order.index(w) for w, _ in found]
    numbered = list(zip(subjects.tolist(), codes.tolist(), strict=True))
    assert numbered == sorted(numbered)


def test_rows_that_wait_are_counted_like_rows_that_were_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(2, 300)
    roomy = pairs_of(rows, batch=1)
    monkeypatch.setattr(bounding, "_WAITING", 5)
    tight = pairs_of(rows, batch=3)
    assert all((a == b).all() for a, b in zip(roomy.columns(), tight.columns(), strict=True))


def test_columns_can_be_looked_at_between_two_batches() -> None:
    rows = rows_of(3, 40)
    pairs = pairs_of(rows[:20])
    before = [column.copy() for column in pairs.columns()]
    assert all((a == b).all() for a, b in zip(before, pairs.columns(), strict=True))
    for subject, code in rows[20:]:
        pairs.append(np.array([word(subject)], dtype=np.uint64), np.array([code]))
    assert all((a == b).all() for a, b in zip(pairs.columns(), pairs_of(rows).columns(), strict=True))


def test_what_the_caller_does_with_its_words_afterwards_changes_nothing() -> None:
    words = np.array([word(1)], dtype=np.uint64)
    pairs = Pairs()
    pairs.append(words, np.array([0]))
    words[:] = 0
    assert pairs.columns()[1].tolist() == [list(word(1))]


def test_both_words_of_a_pseudonym_tell_subjects_apart() -> None:
    words = np.array([[7, 1], [7, 2], [8, 1], [7, 1]], dtype=np.uint64)
    pairs = Pairs()
    pairs.append(words, np.array([3, 3, 3, 3]))
    subjects, _, _, counts = pairs.columns()
    assert subjects.tolist() == [0, 1, 2]
    assert counts.tolist() == [2, 1, 1]


def test_no_pairs_are_no_cells() -> None:
    for pairs in (Pairs(), pairs_of([(1, 2)])):
        nothing = np.full(CELLS, -1)
        assert [len(column) for column in bound(pairs, nothing, ONE_PART, HASHES, 1)] == [0, 0, 0]


def test_without_a_bound_everything_is_kept() -> None:
    rows = rows_of(4, 400)
    expected: dict[tuple[int, int], Counter[int]] = {}
    for subject, code in rows:
        expected.setdefault(word(subject), Counter())[code] += 1
    assert kept(pairs_of(rows), None) == expected
    assert kept(pairs_of(rows), CELLS) == expected


@pytest.mark.parametrize("max_cells", [1, 2, 3, 7])
def test_a_subject_keeps_as_many_cells_as_the_bound_and_all_of_their_events(max_cells: int) -> None:
    pairs = pairs_of(rows_of(5, 400))
    everything, found = kept(pairs, None), kept(pairs, max_cells)
    assert found.keys() == everything.keys()
    for subject, cells in found.items():
        assert len(cells) == min(max_cells, len(everything[subject]))
        assert cells.items() <= everything[subject].items()


def test_a_wider_bound_keeps_what_a_narrower_one_kept() -> None:
    pairs = pairs_of(rows_of(6, 400))
    for max_cells in range(1, CELLS):
        narrow, wide = kept(pairs, max_cells), kept(pairs, max_cells + 1)
        assert all(cells.items() <= wide[subject].items() for subject, cells in narrow.items())


def test_cells_that_fall_together_are_one() -> None:
    projection = np.array([0, 0, 1, -1] + [-1] * (CELLS - 4))
    found = kept(pairs_of([(1, 0), (1, 0), (1, 1), (1, 2), (1, 3), (2, 3)]), None, projection)
    assert found == {word(1): {0: 3, 1: 1}}


def test_the_choice_does_not_depend_on_the_order_or_on_how_often() -> None:
    rows = rows_of(7, 400)
    often = rows + [(subject, code) for subject, code in rows if code % 2] * 9
    choice = {s: set(cells) for s, cells in kept(pairs_of(rows), 2).items()}
    assert {s: set(cells) for s, cells in kept(pairs_of(often[::-1], batch=11), 2).items()} == choice


def test_the_choice_does_not_depend_on_anybody_else() -> None:
    rows = rows_of(8, 400)
    everyone = kept(pairs_of(rows), 2)
    for subject in range(20):
        alone = kept(pairs_of([row for row in rows if row[0] == subject]), 2)
        assert alone == {word(subject): everyone[word(subject)]}


def test_every_cell_is_as_likely_to_be_kept_as_any_other() -> None:
    subjects = 4000
    found = kept(pairs_of([(subject, code) for subject in range(subjects) for code in range(4)]), 1)
    chosen = Counter(next(iter(cells)) for cells in found.values())
    # 1000 each, with a standard deviation of 27.
    assert all(850 < chosen[code] < 1150 for code in range(4))


def test_the_choice_of_one_subject_says_nothing_about_the_next() -> None:
    found = kept(pairs_of([(subject, code) for subject in range(4000) for code in range(2)]), 1)
    choices = [next(iter(found[word(subject)])) for subject in range(4000)]
    pairs = Counter(zip(choices[::2], choices[1::2], strict=True))
    assert all(400 < n < 600 for n in pairs.values())  # 500 each, with a standard deviation of 19
    assert len(pairs) == 4


def test_mixing_is_splitmix64s_finaliser() -> None:
    # Reference: the first outputs of SplitMix64 seeded with 1234567.
    golden = 0x9E3779B97F4A7C15
    states = [(1234567 + golden * (i + 1)) % 2**64 for i in range(3)]
    assert mix(np.array(states, dtype=np.uint64)).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_what_a_subject_did_in_one_month_decides_nothing_about_the_other_month_of_a_week() -> None:
    both = np.array([0] * 6 + [1] * 6)  # codes below 6 are of the first month, the others of the second
    folded = np.array([0, 1, 2, 3, 4, 5] * 2)  # and the cells are the same in both
    rows = rows_of(5, 400)
    whole = split(pairs_of(rows), folded, both)
    for part, codes in enumerate((range(6), range(6, 12))):
        alone = split(pairs_of([row for row in rows if row[1] in codes]), folded, both)
        other = split(pairs_of([row for row in rows if row[1] not in codes]), folded, both)
        for subject in range(20):
            gone = whole[word(subject)].keys() - other.get(word(subject), {}).keys()
            assert gone <= alone.get(word(subject), {}).keys(), part
            assert other.get(word(subject), {}).keys() <= whole[word(subject)].keys()
            assert len(gone) <= 2


def split(pairs: Pairs, projection: np.ndarray, parts: np.ndarray) -> dict[tuple[int, int], dict[int, int]]:
    """As ``kept``, at most two cells of each part."""
    subjects, cells, counts = bound(pairs, projection, parts, HASHES, 2)
    numbers, words, _, _ = pairs.columns()
    names = {int(number): tuple(words[i].tolist()) for i, number in enumerate(numbers)}
    found: dict[tuple[int, int], dict[int, int]] = {}
    for subject, cell, count in zip(subjects.tolist(), cells.tolist(), counts.tolist(), strict=True):
        found.setdefault(names[subject], {})[cell] = count
    return found

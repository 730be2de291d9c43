"""Distinct keys are numbered in the order in which they are met, however they come."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.numbers import Numbers, Words, distinct, distinct_between, first_met, mix, numbered

WORDS = st.integers(0, 3) | st.sampled_from([2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)


def expected(keys: list[tuple[int, ...]]) -> list[int]:
    met: dict[tuple[int, ...], int] = {}
    return [met.setdefault(key, len(met)) for key in keys]


@given(st.integers(1, 3), st.data())
def test_a_key_has_the_number_of_its_first_appearance(width: int, data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.tuples(*[WORDS] * width), max_size=60))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(keys)), max_size=4)))
    numbers, found = Numbers(width), []
    for start, end in zip([0, *cuts], [*cuts, len(keys)], strict=True):
        known = len(numbers)
        part = numbers.of(np.array(keys[start:end], dtype=np.uint64).reshape(-1, width))
        assert first_met(part, known).tolist() == [n >= known and n not in part[:i] for i, n in enumerate(part)]
        found += part.tolist()
    assert found == expected(keys)
    assert numbers.keys.tolist() == [list(key) for key in dict.fromkeys(keys)]


@pytest.mark.parametrize("batch", [1, 37, 5000])
def test_a_table_that_grows_finds_what_it_has(batch: int) -> None:
    drawn = mix(np.arange(20_000, dtype=np.uint64) % np.uint64(7_000)).reshape(-1, 1)
    numbers = Numbers(1)
    found = np.concatenate([numbers.of(drawn[start : start + batch]) for start in range(0, len(drawn), batch)])
    assert (found == np.arange(20_000) % 7_000).all()
    assert len(numbers) == 7_000


def meeting(seed: int, count: int) -> Words:
    """Keys of two words that all have one hash under a seed that is known."""
    first, second = (int(factor) for factor in Numbers(2, seed)._factors)
    return np.array(
        [(key, -key * first * pow(second, -1, 2**64) % 2**64) for key in range(1, count + 1)], dtype=np.uint64
    )


def slots(numbers: Numbers, keys: Words) -> int:
    """In how many slots these keys are looked for first, once they are known."""
    numbers.of(keys)
    return len(set(numbers._first(numbers._hashed(list(keys.T))).tolist()))


def test_keys_that_meet_in_one_slot_are_told_apart() -> None:
    assert Numbers(2).of(meeting(0, 199)).tolist() == list(range(199))


def test_nobody_can_choose_keys_that_meet_who_does_not_know_the_seed() -> None:
    keys = meeting(0, 5_000)
    assert slots(Numbers(2), keys) == 1
    assert min(slots(Numbers(2, seed), keys) for seed in (1, 2**32, 2**63 + 5)) > 3_300  # by chance 3 743 of 8192


@pytest.mark.parametrize("step", [1, 3, 1 << 8, 1 << 31, 1 << 50])
def test_keys_that_differ_in_a_few_bits_only_are_spread(step: int) -> None:
    keys = np.arange(5_000, dtype=np.uint64).reshape(-1, 1) * np.uint64(step)
    assert slots(Numbers(1), keys) > 3_300


def test_a_key_takes_what_is_promised() -> None:
    numbers = Numbers(1)
    for start in range(0, 200_000, 1000):
        numbers.of(mix(np.arange(start, start + 1000, dtype=np.uint64)).reshape(-1, 1))
        if start >= 10_000:
            assert 8 + 6 <= numbers.nbytes / len(numbers) <= 12 + 12 + 1


@given(st.lists(st.integers(0, 30), max_size=50), st.sampled_from([31, 10**6]))
def test_distinct_numbers_come_in_order_with_their_places(numbers: list[int], size: int) -> None:
    found, places = distinct(np.array(numbers, dtype=np.int64), size)
    assert found.tolist() == sorted(set(numbers))
    assert found[places].tolist() == numbers


@given(st.lists(st.integers(-50, 50) | st.sampled_from([-(10**6), 10**6]), min_size=1, max_size=50))
def test_distinct_numbers_that_are_near_each_other_come_so_too(numbers: list[int]) -> None:
    found, places = distinct_between(np.array(numbers, dtype=np.int64))
    assert found.tolist() == sorted(set(numbers))
    assert found[places].tolist() == numbers


def test_items_are_numbered_as_they_appear() -> None:
    met, places = numbered(["b", None, "a", "b"])
    assert (met, places.tolist()) == (["b", None, "a"], [0, 1, 2, 0])

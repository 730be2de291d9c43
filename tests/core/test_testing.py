"""The helpers that are given to users who test their own statistics."""

import doctest
from datetime import UTC, datetime

import pytest

import pipeline.testing as helpers
from pipeline.core.budget import OverBudget
from pipeline.core.outcomes import Reason
from pipeline.core.windows import window_named
from pipeline.testing import ABSENT, MemoryKeyStore, NoNoise, cut, declarations, event, record, run

STATISTICS = """
version = "1"
[statistics.by_plan]
description = "Users by plan."
dimensions = ["plan"]
measures = ["users"]
max_cells = 1
windows = ["day"]
"""


def test_the_example_in_its_docstring_holds() -> None:
    assert doctest.testmod(helpers).failed == 0
    assert doctest.testmod(helpers).attempted >= 4


def test_a_statistic_of_ones_own_is_counted() -> None:
    result = run(
        declarations(statistics=STATISTICS), [record(*[event(subject=f"u-{i}", plan="free") for i in range(5)])]
    )
    counts = result.counts("by_plan", "day-2026-05-01")
    assert counts["free",] == {"users": 5}
    assert counts["premium",] == {"users": 0}
    with pytest.raises(KeyError):
        result.release("by_plan", "week-2026-04-27")


def test_what_is_unsound_is_refused_as_it_would_be_in_operation() -> None:
    with pytest.raises(OverBudget):
        declarations(day=1.0)
    with pytest.raises(ValueError, match="plan"):
        declarations(fields='version = "1"\ntypes = ["t.v1"]\nfields = {}', statistics=STATISTICS)


def test_an_event_takes_changes_by_name() -> None:
    built = event(subject=ABSENT, feature="x", time=datetime(2026, 5, 1, tzinfo=UTC), platform=ABSENT)
    assert "subject" not in built
    assert built["data"] == {"feature": "x"}
    assert built["time"] == "2026-05-01T00:00:00+00:00"
    assert event(data={"feature": "y"})["data"] == {"feature": "y"}
    assert event()["id"] != event()["id"]


@pytest.mark.parametrize("form", ["ndjson", "batch", "bare"])
def test_records_of_every_form_hold_their_events(form: helpers.Form) -> None:
    assert run(declarations(), [record(event(), event(), event(), form=form)]).accepted == 3


@pytest.mark.parametrize("form", ["structured", "binary"])
def test_records_of_one_event_hold_it(form: helpers.Form) -> None:
    result = run(declarations(), [record(event(), form=form), record(event(id=""), form=form)])
    assert result.accepted == 1
    assert [r.reason for r in result.rejections] == [Reason.INVALID_ATTRIBUTE]


def test_a_binary_record_needs_an_event() -> None:
    with pytest.raises(TypeError, match="headers"):
        record(b"{}", form="binary")


def test_records_are_dealt_numbered_and_cut() -> None:
    deliveries = list(cut([record(event()) for _ in range(7)], sources=2, batch=3))
    assert [(d.source, [r.offset for r in d.records]) for d in deliveries] == [(0, [0, 1, 2]), (0, [3]), (1, [0, 1, 2])]


def test_a_run_destroys_the_keys_of_what_it_released() -> None:
    keys = MemoryKeyStore()
    result = run(declarations(), [record(event())], keys=keys)
    assert {window_named(tally.window) for tally in result.tallies} == keys.destroyed
    assert all(keys.window(window) is None for window in keys.destroyed)
    with pytest.raises(ValueError, match="destroyed"):
        helpers.release(
            declarations(), [*result.tallies, helpers.Closed(partition=0, partitions=1, closed=10**6)], keys=keys
        )


def test_keys_follow_from_the_seed() -> None:
    window = window_named("day-2026-05-01")
    keys = [MemoryKeyStore(seed).window(window) for seed in ("a", "a", "b")]
    one, same, other = (key.pseudonym("u-1") for key in keys if key is not None)
    assert one == same != other
    assert MemoryKeyStore("a").route() == MemoryKeyStore("a").route() != MemoryKeyStore("b").route()


def test_noise_of_zero_notes_its_draws() -> None:
    noise = NoNoise()
    assert noise.add([3, -1], 26.7) == [3, -1]
    assert noise.add([], 1.0) == []
    assert noise.draws == [(2, 26.7), (0, 1.0)]


def test_public_names_exist() -> None:
    assert all(hasattr(helpers, name) for name in helpers.__all__)

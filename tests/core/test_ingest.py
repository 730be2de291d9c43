"""The first hop: every event of a record ends in exactly one outcome, and what is sent on names nobody."""

from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from pipeline.core import generalising, pseudonyms
from pipeline.core.columns import Columns
from pipeline.core.contributions import Contributions
from pipeline.core.ingest import STEPS, Batch, Ingest
from pipeline.core.outcomes import Reason
from pipeline.core.tallies import PartitionState
from pipeline.core.windows import date_of, day_of, window_named
from pipeline.testing import OPEN, MemoryKeyStore, declarations, event, record

from .cases import Case, cases, outcomes_of, parametrized, record_of

DECLARED = declarations()
CASES = cases()
EVENT = event(id="e-1", subject="subject-17", feature="feature-x", app_version="7.3", duration_ms=5)


def build(partitions: int = 1, *, keys: MemoryKeyStore | None = None, **policy: Any) -> Ingest:
    changed = msgspec.structs.replace(DECLARED.policy, **policy)
    return Ingest(DECLARED.registry, DECLARED.plan, changed, keys or MemoryKeyStore(), partitions)


def outcomes(case: Case) -> list[str]:
    """What becomes of each event of a case, in the order in which they stand."""
    changed = msgspec.structs.replace(DECLARED.policy, timezone=case.get("timezone", "UTC"))
    since, until = (day_of(case[name]) if name in case else None for name in ("since", "until"))
    ingest = Ingest(DECLARED.registry, DECLARED.plan, changed, MemoryKeyStore(), 1, (since, until))
    built = record_of(case)
    batch = ingest.ingest(0, [replace(built, offset=offset) for offset in range(case.get("deliveries", 1))])
    found = [((r.offset, r.place), r.reason.value) for r in batch.rejections]
    for contributions in batch.contributions.values():
        refused = PartitionState(0, 1, DECLARED.plan).fold(contributions)
        rows = dict.fromkeys(places(contributions), "accepted")
        found += (rows | {(r.offset, r.place): r.reason.value for r in refused}).items()
    assert len(dict(found)) == len(found), "an event has two outcomes"
    return [outcome for _, outcome in sorted(found)]


def places(contributions: Contributions) -> list[tuple[int, int]]:
    offsets = np.frombuffer(contributions.offsets, dtype="<i8").tolist()
    return list(zip(offsets, np.frombuffer(contributions.indexes, dtype="<i4").tolist(), strict=True))


@pytest.mark.parametrize("case", parametrized(CASES))
def test_an_event_ends_in_the_outcome_of_its_case(case: Case) -> None:
    assert outcomes(case) == outcomes_of(case)


@pytest.mark.parametrize("case", parametrized([case for case in CASES if "counted" in case]))
def test_an_event_is_counted_under_the_values_of_its_case(case: Case) -> None:
    ingest = build()
    (decoded,) = ingest.decoder.decode(record_of(case))
    columns = Columns.made_of(ingest.decoder.names, [decoded.event])  # type: ignore[list-item]
    places, _ = ingest.generaliser.places(columns)
    values = [met[place[0]] for met, place in zip(ingest.generaliser.met(), places, strict=True)]
    counted = dict(zip(DECLARED.plan.finest, values, strict=True))
    assert case["counted"].items() <= counted.items()


def test_every_reason_has_a_case() -> None:
    shown = {outcome for case in CASES for outcome in outcomes_of(case)}

    assert shown == {reason.value for reason in Reason} | {"accepted"}


def test_every_case_has_a_name_of_its_own() -> None:
    names = [(case["file"], case["name"]) for case in CASES]

    assert len(set(names)) == len(names)


def test_the_subject_is_gone_after_pseudonymise_and_the_open_values_after_seal() -> None:
    ingest, batch = build(), Batch(0, [record(EVENT)], OPEN)
    seen = {}
    for step in STEPS:
        step(ingest, batch)
        seen[step.__name__] = repr({name: value for name, value in vars(batch).items() if name != "keys"})

    assert [name for name, text in seen.items() if "subject-17" in text] == [
        "decode",
        "place",
        "refuse",
        "route",
    ]
    assert "e-1" not in seen["pseudonymise"]
    assert "feature-x" in seen["pseudonymise"]
    assert [name for name, text in seen.items() if "feature-x" not in text] == ["seal", "pack"]
    assert batch.keys == {}


def test_all_that_a_subject_does_meets_in_one_partition() -> None:
    ingest = build(partitions=8)
    days = [f"2026-0{month}-1{day}T10:00:00Z" for month in (4, 5) for day in range(9)]
    for subject in ("u-1", "u-2", "u-3"):
        events = [event(subject=subject, source=f"app-{i}", feature=f"f-{i}", time=day) for i, day in enumerate(days)]
        batch = ingest.ingest(0, [record(*events)], OPEN)
        assert len(batch.contributions) == 1


def test_events_of_nobody_are_spread_over_the_partitions() -> None:
    events = [event(subject=None, id=str(i)) for i in range(400)]
    batch = build(partitions=4).ingest(0, [record(*events)], OPEN)

    assert sorted(batch.contributions) == [0, 1, 2, 3]
    assert min(contributions.rows for contributions in batch.contributions.values()) > 50
    assert not any(any(contributions.known) for contributions in batch.contributions.values())


def test_a_subject_has_one_pseudonym_a_window_and_no_other_window_has_it() -> None:
    days = ["2026-05-01", "2026-05-01", "2026-05-02", "2026-05-04", "2026-06-01"]
    events = [event(subject="u-1", id=str(i), time=f"{day}T10:00:00Z") for i, day in enumerate(days)]
    (contributions,) = build().ingest(0, [record(*events)], OPEN).contributions.values()

    pseudonyms_of = {c.kind: [c.pseudonyms[16 * i : 16 * i + 16] for i in range(5)] for c in contributions.windows}
    day, week, month = (pseudonyms_of[kind] for kind in ("day", "week", "month"))
    assert day[0] == day[1]
    assert len(set(day)) == 4  # 1, 2, 4 May and 1 June
    assert week[0] == week[1] == week[2]
    assert len(set(week)) == 3
    assert month[0] == month[1] == month[2] == month[3] != month[4]
    assert not set(day) & set(week) | set(day) & set(month) | set(week) & set(month)


def test_rows_keep_the_day_and_lose_the_time() -> None:
    times = ["2026-05-01T00:00:00Z", "2026-05-01T13:37:11.5Z", "2026-05-01T23:59:59Z"]
    events = [event(id=str(i), time=time, feature="x") for i, time in enumerate(times)]
    (contributions,) = build().ingest(0, [record(*events)], OPEN).contributions.values()

    for columns in contributions.windows:
        assert len(columns.windows) == 1
        assert not columns.places().any()
    first_days = [date_of(columns.windows[0][0]).isoformat() for columns in contributions.windows]
    assert first_days == ["2026-05-01", "2026-04-27", "2026-05-01"]


def test_an_open_value_is_sealed_and_a_declared_one_is_not() -> None:
    (contributions,) = build().ingest(0, [record(EVENT)], OPEN).contributions.values()

    for columns in contributions.windows:
        _, _, cell = columns.cell(0)
        values = dict(zip(DECLARED.plan.finest, cell, strict=True))
        assert (values["platform"], values["duration_ms"]) == (b"web", b"under 1 s")
        assert len(values["feature"]) == len(values["app_version"]) == pseudonyms.SEAL_BYTES


def test_an_absent_field_without_a_stand_in_is_empty() -> None:
    (contributions,) = build().ingest(0, [record(event())], OPEN).contributions.values()

    _, _, cell = contributions.windows[0].cell(0)
    assert cell[DECLARED.plan.finest.index("duration_ms")] == b""


@pytest.mark.parametrize("window", ["day-2026-05-01", "week-2026-04-27", "month-2026-05-01"])
def test_a_row_goes_on_with_nothing_in_it_once_a_key_of_its_windows_is_destroyed(window: str) -> None:
    """It was counted before and comes again, or it is late: where it stood says which, and the tally knows."""
    keys = MemoryKeyStore()
    keys.destroy(window_named(window))
    other = event(time="2026-04-20T10:00:00Z", id="other")
    batch = build(keys=keys).ingest(0, [record(EVENT, other)], OPEN)

    assert batch.rejections == []
    (contributions,) = batch.contributions.values()
    assert contributions.known == bytes([0, 1])
    assert contributions.tokens[:8] == bytes(8)
    for columns in contributions.windows:
        assert columns.pseudonyms[:16] == bytes(16)
        assert set(columns.cell(0)[2]) == {b""}
        assert columns.pseudonyms[16:] != bytes(16)


def test_a_word_on_what_is_closed_counts_and_the_arrival_does_not() -> None:
    day = day_of(date_of(0).replace(year=2026, month=5, day=1))
    ancient = [record(EVENT, arrived=4e9)]

    assert build().ingest(0, ancient, day).rejections == []
    assert [r.reason for r in build().ingest(0, ancient, day + 1).rejections] == [Reason.LATE]
    assert [r.reason for r in build().ingest(0, ancient, None).rejections] == [Reason.LATE]


def test_lateness_and_the_clocks_that_run_ahead_are_the_policys() -> None:
    noon = replace(record(EVENT), arrived=1777636800.0 + 24 * 3600)  # 2 May 2026, noon

    assert build(lateness_hours=12.1).ingest(0, [noon]).rejections == []
    assert [r.reason for r in build(lateness_hours=12).ingest(0, [noon]).rejections] == [Reason.LATE]
    early = replace(noon, arrived=1777629600.0 - 3600)  # an hour before the event
    assert build(future_minutes=60).ingest(0, [early]).rejections == []
    assert [r.reason for r in build(future_minutes=59).ingest(0, [early]).rejections] == [Reason.FUTURE]


def test_contributions_say_where_each_row_came_from() -> None:
    bad = event(id="")
    records = [record(EVENT, bad, event(subject="u-2"), offset=7), record(bad, offset=8), record(bad, EVENT, offset=11)]
    (contributions,) = build().ingest(3, records, OPEN).contributions.values()

    assert contributions.partition == 3
    assert contributions.last == 11
    assert places(contributions) == [(7, 0), (7, 2), (11, 1)]
    assert contributions.rows == 3


def test_every_partition_is_told_how_far_the_batch_reaches() -> None:
    records = [record(event(subject=f"u-{offset}"), offset=offset) for offset in range(40)]
    batch = build(partitions=3).ingest(0, records, OPEN)
    assert {partition: c.last for partition, c in batch.contributions.items()} == {0: 39, 1: 39, 2: 39}


def test_rejections_say_where_the_event_stood() -> None:
    batch = build().ingest(3, [record(EVENT, event(id=""), offset=7), record(event(time="x"), offset=9)], OPEN)

    assert [tuple(r) for r in batch.rejections] == [
        (Reason.INVALID_ATTRIBUTE, 3, 7, 1),
        (Reason.INVALID_TIME, 3, 9, 0),
    ]


def test_nothing_is_sent_where_nothing_was_accepted() -> None:
    batch = build().ingest(0, [record(event(id=""))], OPEN)

    assert batch.contributions == {}
    assert build().ingest(0, [], OPEN).contributions == {}


def test_the_same_records_give_the_same_contributions_again() -> None:
    records = [record(*[event(id=str(i), subject=f"u-{i % 3}", feature=f"f-{i % 5}") for i in range(20)])]
    ingest = build(partitions=3)

    assert ingest.ingest(0, records, OPEN).contributions == ingest.ingest(0, records, OPEN).contributions
    assert ingest.ingest(0, records, OPEN).contributions == build(partitions=3).ingest(0, records, OPEN).contributions


def test_caches_that_overflow_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [event(id=str(i), subject=f"u-{i % 7}", feature="A" if i == 5 else f"f-{i % 5}") for i in range(40)]
    roomy = build(partitions=3).ingest(0, [record(*events)], OPEN)
    monkeypatch.setattr(generalising, "_CACHE", 2)
    monkeypatch.setattr(pseudonyms, "_CACHE", 2)
    tight = build(partitions=3).ingest(0, [record(*events)], OPEN)

    assert tight.contributions == roomy.contributions
    assert tight.rejections == roomy.rejections

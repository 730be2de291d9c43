"""The simulated application: seeded, and as it is declared in ``pipeline/simulation/world.py``."""

from collections import Counter
from datetime import date, datetime, timedelta

import pytest

from pipeline.core.decoding import Decoder
from pipeline.core.events import Record
from pipeline.core.fields import Registry, generalise
from pipeline.core.outcomes import Reason
from pipeline.declarations import read_toml
from pipeline.settings import SCHEMAS
from pipeline.simulation import APPLICATION, Day, Use, encode_use, reaching, simulate, world
from pipeline.simulation.people import draw_users
from pipeline.simulation.writing import write_lines

FIRST = date(2026, 6, 1)
USERS, DAYS = 3_000, 42


@pytest.fixture(scope="module")
def days() -> list[Day]:
    """Six weeks of three thousand users."""
    return list(simulate(1, USERS, FIRST, DAYS))


@pytest.fixture(scope="module")
def uses(days: list[Day]) -> list[Use]:
    """All that is emitted in them."""
    return [use for day in days for use in day.uses]


@pytest.fixture(scope="module")
def registry() -> Registry:
    """The shipped one."""
    return read_toml(SCHEMAS / "fields.toml", Registry)


def share(uses: list[Use], **values: str | None) -> float:
    return sum(all(getattr(use, name) == value for name, value in values.items()) for use in uses) / len(uses)


def delay(day: Day, use: Use) -> int:
    return (day.date - use.time.date()).days


def users_of(day: Day) -> int:
    return len({use.subject for use in day.uses})


def test_the_same_seed_gives_the_same_days() -> None:
    assert list(simulate(7, 200, FIRST, 6)) == list(simulate(7, 200, FIRST, 6))


def test_another_seed_gives_other_users_and_other_events() -> None:
    one, other = (
        {value for day in simulate(seed, 200, FIRST, 3) for use in day.uses for value in (use.subject, use.id)}
        for seed in (1, 2)
    )
    assert one & other == {None}


def test_the_first_days_do_not_depend_on_how_many_follow(days: list[Day]) -> None:
    assert list(simulate(1, USERS, FIRST, 3)) == days[:3]


def test_days_follow_each_other_and_uses_are_in_the_order_of_their_times(days: list[Day]) -> None:
    assert [day.date for day in days] == [FIRST + timedelta(days=n) for n in range(DAYS)]
    for day in days:
        assert day.uses == sorted(day.uses, key=lambda use: use.time)


def test_some_uses_have_no_subject(uses: list[Use]) -> None:
    assert share(uses, subject=None) == pytest.approx(world.WITHOUT_SUBJECT, rel=0.1)


def test_some_are_emitted_a_day_later_and_some_too_late(days: list[Day]) -> None:
    delays = Counter(delay(day, use) for day in days[10:] for use in day.uses)  # before, few can be late yet
    total = delays.total()
    low, high = world.LATE_DAYS
    assert set(delays) == {0, 1, *range(low, high + 1)}
    assert delays[1] / total == pytest.approx(world.DELAYED, rel=0.2)
    assert sum(delays[n] for n in range(low, high + 1)) / total == pytest.approx(world.LATE, rel=0.2)


def test_some_are_emitted_twice_and_every_other_has_its_own_id(uses: list[Use]) -> None:
    times = Counter(uses)
    assert set(times.values()) == {1, 2}
    assert sum(n == 2 for n in times.values()) / len(times) == pytest.approx(world.REPEATED, rel=0.2)
    assert len({use.id for use in times}) == len(times)


def test_platforms_features_and_plans_are_as_declared(uses: list[Use]) -> None:
    people = draw_users(1, USERS)
    for platform, weight in world.PLATFORMS.items():
        assert sum(u.platform == platform for u in people) / USERS == pytest.approx(weight / 100, abs=0.03)
    assert sum(u.also_web for u in people) / USERS == pytest.approx(world.SECOND_PLATFORM_SHARE, abs=0.03)
    assert sum(u.plan == "free" for u in people) / USERS == pytest.approx(0.64, abs=0.03)
    by_number = [name for name, _ in Counter(use.feature for use in uses).most_common()]
    assert by_number[0] == "message.sent"
    assert set(by_number) == {feature.name for feature in world.FEATURES} | {world.RARE_FEATURE}


def test_a_feature_is_used_by_a_handful_only(uses: list[Use]) -> None:
    subjects = {use.subject for use in uses if use.feature == world.RARE_FEATURE} - {None}
    assert 1 <= len(subjects) <= 1 + USERS / world.RARE_ONE_IN


def test_only_features_that_last_have_durations(uses: list[Use]) -> None:
    lasting = {feature.name for feature in world.FEATURES if feature.typical_ms}
    assert {use.feature for use in uses if use.duration_ms is not None} == lasting
    assert all(use.duration_ms is not None for use in uses if use.feature in lasting)


def test_weeks_have_their_rhythm_and_the_application_grows(days: list[Day]) -> None:
    users = [users_of(day) for day in days]
    tuesdays, sundays = sum(users[1::7]), sum(users[6::7])
    assert sundays / tuesdays == pytest.approx(world.MONDAY_TO_SUNDAY[6] / world.MONDAY_TO_SUNDAY[1], abs=0.06)
    assert sum(users[-7:]) > 1.08 * sum(users[:7])


def test_a_version_rolls_out_over_two_weeks_and_some_never_update(days: list[Day]) -> None:
    def on_new(day: int, web: bool) -> float:
        uses = [u for u in days[day].uses if delay(days[day], u) == 0 and (u.platform == "web") == web]
        return share(uses, app_version=world.NEW_VERSION)

    out = world.ROLL_OUT_DAY
    assert on_new(out - 1, web=False) == on_new(out - 1, web=True) == 0
    assert on_new(out, web=True) == 1
    assert 0.3 < on_new(out + 6, web=False) < 0.7
    rest = on_new(out + world.ROLL_OUT_DAYS, web=False)
    assert rest == pytest.approx(1 - world.OLD_VERSION_SHARE, abs=0.03)
    assert on_new(DAYS - 1, web=False) == pytest.approx(rest, abs=0.03)


def test_subjects_opt_out_at_first_and_later_and_nothing_of_theirs_is_let_through(days: list[Day]) -> None:
    assert len(days[0].opted_out) / USERS == pytest.approx(world.OPTED_OUT_AT_FIRST, rel=0.3)
    assert sum(len(day.opted_out) for day in days[1:]) > 0
    emitted, gone = 0, set[str]()
    for day, let_through in zip(days, reaching(days), strict=True):
        gone.update(day.opted_out)
        emitted += sum(use.subject in gone for use in day.uses)
        assert [use for use in day.uses if use.subject not in gone] == let_through.uses
    assert emitted > 0


def test_every_line_is_an_event_that_says_what_the_use_was(days: list[Day], registry: Registry) -> None:
    decoder = Decoder(registry)
    week = list(reaching(days))[:7]
    lines = list(write_lines(days[:7]))
    uses = [use for day in week for use in day.uses]
    assert len(lines) == len(uses)
    for use, line in zip(uses, lines, strict=True):
        [(_, event)] = decoder.decode(Record(0, 0.0, (), line))
        assert not isinstance(event, Reason)
        assert (event.id, event.source, event.time, event.subject) == (use.id, APPLICATION, use.time, use.subject)
        assert tuple(getattr(event.data, name) for name in Use._fields[3:]) == use[3:]


def test_no_simulated_field_is_taken_for_personal_data_or_unregistered(uses: list[Use], registry: Registry) -> None:
    for name in Use._fields[3:]:
        for value in {getattr(use, name) for use in uses}:
            assert not isinstance(generalise(registry.fields[name], value), Reason)


def test_each_broken_record_is_rejected_for_the_reason_that_it_names(days: list[Day], registry: Registry) -> None:
    decoder = Decoder(registry)
    seen = set()
    for day in days:
        assert 1 <= len(day.broken) <= world.BROKEN_PER_DAY
        for value, reason in day.broken:
            [(_, found)] = decoder.decode(Record(0, 0.0, (), value))
            if not isinstance(found, Reason):
                found = generalise(registry.fields["feature"], found.data.feature)
            assert found is reason
            seen.add(reason)
    assert len(seen) == 7


def test_a_use_without_a_subject_or_a_duration_has_no_such_attribute() -> None:
    use = Use(datetime.fromisoformat("2026-06-01T12:00:00+00:00"), "1", None, "a", "web", "4.1", "NL", "free", None)
    assert b"subject" not in encode_use(use)
    assert b"duration_ms" not in encode_use(use)

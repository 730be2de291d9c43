"""Windows are half-open ranges of calendar days."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from pipeline.core.windows import (
    KINDS,
    Calendar,
    Kind,
    Window,
    date_of,
    day_of,
    window_named,
    window_of,
    windows_between,
)


def day(text: str) -> int:
    return day_of(date.fromisoformat(text))


def window(kind: Kind, text: str) -> tuple[str, str]:
    found = window_of(kind, day(text))
    return date_of(found.start).isoformat(), date_of(found.end).isoformat()


def test_a_day_is_counted_from_1970() -> None:
    assert day("1970-01-01") == 0
    assert day("1970-01-02") == 1
    assert day("1969-12-31") == -1
    assert date_of(day("2026-05-01")) == date(2026, 5, 1)


@pytest.mark.parametrize(
    ("kind", "at", "expected"),
    [
        ("day", "2026-05-01", ("2026-05-01", "2026-05-02")),
        ("week", "2026-05-01", ("2026-04-27", "2026-05-04")),  # a Friday
        ("week", "2026-04-27", ("2026-04-27", "2026-05-04")),  # its Monday
        ("week", "2026-05-03", ("2026-04-27", "2026-05-04")),  # its Sunday
        ("week", "2027-01-01", ("2026-12-28", "2027-01-04")),  # ISO week 53 of 2026
        ("month", "2026-05-31", ("2026-05-01", "2026-06-01")),
        ("month", "2026-12-01", ("2026-12-01", "2027-01-01")),
        ("month", "2024-02-29", ("2024-02-01", "2024-03-01")),
        ("month", "2026-02-28", ("2026-02-01", "2026-03-01")),
        ("week", "1969-12-31", ("1969-12-29", "1970-01-05")),
    ],
)
def test_a_window_holds_its_day(kind: Kind, at: str, expected: tuple[str, str]) -> None:
    assert window(kind, at) == expected


def test_a_week_is_the_iso_week() -> None:
    for offset in range(800):
        at = date(2025, 1, 1) + timedelta(days=offset)
        found = window_of("week", day_of(at))
        assert {date_of(d).isocalendar()[:2] for d in range(found.start, found.end)} == {at.isocalendar()[:2]}


def test_windows_sort_by_their_end_and_shorter_kinds_first() -> None:
    # Sunday, 31 May 2026, ends a day, a week and a month.
    windows = [window_of(kind, day("2026-05-31")) for kind in KINDS]
    assert sorted([*reversed(windows), window_of("day", day("2026-05-30"))]) == [
        window_of("day", day("2026-05-30")),
        *windows,
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_is_named_by_its_kind_and_first_date(kind: Kind) -> None:
    found = window_of(kind, day("2026-05-13"))
    assert found.kind == kind
    assert window_named(found.name) == found
    assert found.name == f"{kind}-{date_of(found.start)}"


@pytest.mark.parametrize(
    "name",
    ["", "day", "day-", "hour-2026-05-01", "week-2026-05-01", "month-2026-05-02", "day-2026-02-30", "day-20260501"],
)
def test_what_is_no_windows_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"window|date|day|isoformat"):
        window_named(name)


def test_the_windows_between_two_days_are_those_that_hold_one_of_them() -> None:
    since, until = day("2026-04-30"), day("2026-05-05")
    assert [w.name for w in windows_between("week", since, until)] == ["week-2026-04-27", "week-2026-05-04"]
    assert [w.name for w in windows_between("month", since, until)] == ["month-2026-04-01", "month-2026-05-01"]
    assert len(list(windows_between("day", since, until))) == 5
    assert list(windows_between("day", since, since)) == []
    assert [w.name for w in windows_between("month", since, since + 1)] == ["month-2026-04-01"]


@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC", "Europe/Amsterdam", "America/New_York", "Asia/Kathmandu"])
def test_an_instant_falls_on_the_day_that_the_zones_clock_shows(zone: str) -> None:
    calendar = Calendar(zone)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for minutes in range(0, 366 * 24 * 60, 7 * 13):
        at = start + timedelta(minutes=minutes, seconds=59, microseconds=999_999)
        assert calendar.day(at.timestamp()) == day_of(at.astimezone(ZoneInfo(zone)).date())


@pytest.mark.parametrize("zone", ["UTC", "Europe/Amsterdam", "America/New_York", "Asia/Kathmandu"])
@pytest.mark.parametrize("at", ["2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-07-01", "1971-01-01"])
def test_a_day_begins_with_its_first_instant(zone: str, at: str) -> None:
    calendar = Calendar(zone)
    begin = calendar.start(day(at))
    assert calendar.day(begin) == day(at)
    assert calendar.day(begin - 0.001) == day(at) - 1


def test_a_day_of_a_clock_change_has_23_or_25_hours() -> None:
    calendar = Calendar("Europe/Amsterdam")
    hours = [(calendar.start(day(at) + 1) - calendar.start(day(at))) / 3600 for at in ("2026-03-29", "2026-10-25")]
    assert hours == [23, 25]


def test_instants_before_1970_have_a_day() -> None:
    assert Calendar().day(-1) == -1
    assert Calendar("Europe/Amsterdam").day(-3600 - 1) == -1
    assert Calendar("Europe/Amsterdam").day(-3600) == 0


# If these raised, one event with such a time would stop the first hop for good.
@pytest.mark.parametrize("zone", ["UTC", "Europe/Amsterdam", "America/New_York"])
def test_every_time_that_an_event_can_have_has_a_day(zone: str) -> None:
    first = datetime.fromisoformat("0001-01-01T00:00:00+23:59").timestamp()
    last = datetime.fromisoformat("9999-12-31T23:59:59-23:59").timestamp()
    calendar = Calendar(zone)
    assert calendar.day(first) < day("0002-01-01")
    assert calendar.day(last) > day("9999-12-30")


def test_windows_are_equal_by_value() -> None:
    assert window_of("day", 5) == Window(6, 0, 5)
    assert len({window_of("month", day("2026-05-01")), window_of("month", day("2026-05-31"))}) == 1

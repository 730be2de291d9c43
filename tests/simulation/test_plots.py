"""The two plots of the terminal."""

from datetime import date, timedelta

import pytest

from pipeline.demo.plots import bars, columns
from pipeline.demo.watching import sparkline

MONDAY = date(2026, 6, 1)


def test_columns_are_as_high_as_their_values_and_the_axis_is_round() -> None:
    rows = [(MONDAY + timedelta(days=n), value) for n, value in enumerate((200.0, 100.0, 0.0, -30.0))]
    lines = columns(rows).plain.splitlines()
    assert [line[:11].strip(" ▔") for line in lines[:4]] == ["200", "", "150", ""]
    assert [line[11:] for line in lines[:8]] == ["█   "] * 4 + ["██  "] * 4
    assert lines[8].strip() == "1 Jun"


@pytest.mark.parametrize("top", [1, 7, 99, 100, 101, 2_465, 1_000_000])
def test_five_steps_of_the_axis_at_most_reach_the_top(top: int) -> None:
    *levels, _ = columns([(MONDAY, float(top))]).plain.splitlines()
    assert 4 <= len(levels) <= 10
    assert levels[0].endswith(("▁", "▂", "▃", "▄", "▅", "▆", "▇", "█", "▔ "))


def test_weekends_are_dimmed() -> None:
    text = columns([(MONDAY + timedelta(days=n), 1.0) for n in range(7)])
    dimmed = [span for span in text.spans if span.style == "dim green"]
    assert len(dimmed) == 2 * (len(text.plain.splitlines()) - 1)


def test_bars_are_full_up_to_the_lower_bound_and_shaded_up_to_the_upper_one() -> None:
    rows = [("search", 30.0, 20.0, 40.0), ("call", 4.0, -2.0, 10.0)]
    assert bars(rows, width=40).plain.splitlines() == [
        "  search " + "█" * 20 + "░" * 20 + " 30 ± 10",
        "    call " + "░" * 10 + " 4 ± 6",
    ]


def test_a_sparkline_begins_at_zero_and_cuts_off_what_is_below() -> None:
    assert sparkline([0, 7, -3, 14]) == "▁▅▁█"

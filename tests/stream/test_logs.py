"""Logs are lines for operators: few, readable by machines, and without anything that was received."""

import json
import logging
import sys
from typing import Any

import pytest

from pipeline.logs import MINUTE, JsonFormatter, Sparingly, TextFormatter

SECRET = "u-17@example.org"


def line(message: str, *args: Any, name: str = "aiokafka.conn", place: int = 1, error: bool = False) -> Any:
    raised = None
    if error:
        try:
            raise ValueError(SECRET)
        except ValueError:
            raised = sys.exc_info()
    return logging.LogRecord(name, logging.WARNING, "conn.py", place, message, args, raised)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_a_library_repeats_is_told_once_a_minute_and_counted() -> None:
    clock = Clock()
    sparingly = Sparingly(clock)
    told = []
    for second in range(130):
        clock.now = 1000.0 + second
        for _ in range(20):
            record = line("broker %d is away", second)
            if sparingly.filter(record):
                told.append(record.getMessage())
    assert told == [
        "broker 0 is away",
        "broker 60 is away [and 1199 more like it]",
        "broker 120 is away [and 1199 more like it]",
    ]


def test_another_place_or_another_logger_is_another_kind() -> None:
    sparingly = Sparingly(Clock())
    kinds = [line("a"), line("b", place=2), line("c", name="kafka.net")]
    assert [sparingly.filter(record) for record in [*kinds, *kinds]] == [True] * 3 + [False] * 3


def test_our_own_lines_are_all_told() -> None:
    sparingly = Sparingly(Clock())
    assert all(sparingly.filter(line("one", name="headcount.worker")) for _ in range(3))


@pytest.mark.parametrize("formatter", [TextFormatter("%(levelname)s %(message)s"), JsonFormatter()])
def test_of_an_exception_the_class_and_the_place_are_told_and_not_the_text(formatter: logging.Formatter) -> None:
    text = formatter.format(line("a fetch failed", error=True))
    assert "a fetch failed (ValueError at " in text
    assert SECRET not in text
    assert "\n" not in text


def test_a_line_of_json_is_one_object() -> None:
    told = json.loads(JsonFormatter().format(line("two\nlines and a %s", '"quote"')))
    assert told["message"] == 'two\nlines and a "quote"'
    assert told["level"] == "warning"
    assert told["logger"] == "aiokafka.conn"
    assert told["time"].endswith("+00:00")
    assert MINUTE == 60

"""Subjects who try to be seen: each has a way of its own to move more than its bounds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from pipeline.core.windows import date_of

Random = np.random.Generator


class Unit(NamedTuple):
    """What is protected: a subject's month, or one event of nobody."""

    subject: str | None
    what: str


@dataclass(frozen=True)
class Deed:
    """One delivery of one event. ``phase``: before (0) or after (1) the first day was closed."""

    phase: int
    unit: Unit
    text: bytes


@dataclass(frozen=True)
class Way:
    """How a subject behaves: numbers of events, of features, of deliveries of each; and what is odd about them."""

    events: tuple[int, int] = (1, 4)
    features: int = 3
    deliveries: int = 1
    late: float = 0.1  # part that comes after the first day was closed
    odd: Callable[[dict[str, object], Random], bytes] | None = None


def _as_is(event: dict[str, object]) -> bytes:
    return msgspec.json.encode(event)


def _spoiled(event: dict[str, object], random: Random) -> bytes:
    """Well-formed JSON that is no event that could be counted, or one that is just within the limits."""
    data = dict(event["data"])  # type: ignore[call-overload]
    match int(random.integers(8)):
        case 0:
            return _as_is(event | {"data": data | {"feature": "X" * 40_000}})
        case 1:
            return _as_is(event | {"subject": ["a", "list"]})
        case 2:
            return _as_is(event | {"time": "0001-01-01T00:00:00Z"})
        case 3:
            return _as_is(event | {"time": "9999-12-31T23:59:59Z"})
        case 4:
            return _as_is(event | {"data": data | {"duration_ms": -1}})
        case 5:
            return _as_is(event).replace(b"audit", b"\xff\xfe")
        case 6:
            return _as_is(event | {"nested": _nested(200)})
        case _:
            return _as_is(event | {"data": data | {"feature": "jan@example.com"}})


def _nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


WAYS: tuple[Way, ...] = (
    Way(),  # quiet
    Way(),
    Way(events=(5, 10), features=5),
    Way(events=(25, 40), features=1),  # more events in a cell than anyone is counted for
    Way(events=(15, 30), features=30),  # each in another cell
    Way(events=(3, 6), deliveries=4),  # each sent again and again
    Way(events=(6, 15), late=0.8),  # when the day is closed
    Way(events=(5, 10), odd=_spoiled),
)
NAMES = ("subject-{}", "subject-1{}", "ünï-{}", "a\0b{}", "subject-{}" + "x" * 240, "{}")


def crowd(random: Random, since: int, until: int) -> list[Deed]:
    """What a handful of subjects, and nobody, did on these days; deliveries in no order."""
    deeds: list[Deed] = []
    names = [NAMES[int(place)].format(number) for number, place in enumerate(random.integers(len(NAMES), size=5))]
    for name in names:
        way = WAYS[int(random.integers(len(WAYS)))]
        for number in range(int(random.integers(*way.events))):
            deeds += _deliveries(random, name, way, number, since, until)
    for number in range(2):
        deeds += _deliveries(random, None, Way(deliveries=3), 1000 + number, since, until)
    return deeds


def _deliveries(random: Random, name: str | None, way: Way, number: int, since: int, until: int) -> list[Deed]:
    day = date_of(int(random.integers(since, until)))
    data: dict[str, object] = {
        "feature": f"f-{int(random.integers(way.features))}",
        "platform": ("ios", "web", "toaster")[int(random.integers(3))],
        "country": ("NL", "BE", "DE", "ZZ")[int(random.integers(4))],
        "app_version": f"{int(random.integers(way.features))}.1",
    }
    if random.integers(2):
        data["duration_ms"] = 10 ** int(random.integers(7))
    event: dict[str, object] = {
        "specversion": "1.0",
        "id": f"{number}",  # which others have too: an id belongs to its subject and source
        "source": "audit",
        "type": "usage.feature.used.v1",
        "time": f"{day}T{int(random.integers(24)):02d}:30:00Z",
        "data": data,
    }
    if name is not None:
        event["subject"] = name
    text = _as_is(event) if way.odd is None or random.integers(2) else way.odd(event, random)
    unit = Unit(name, f"{number}" if name is None else f"{day:%Y-%m}")
    times = int(random.integers(1, way.deliveries + 1))
    return [Deed(int(random.random() < way.late), unit, text) for _ in range(times)]

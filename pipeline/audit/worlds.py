"""What the attacks are tried on: declarations, events by the line, and what the core makes of them."""

from collections.abc import Container, Iterable, Sequence
from datetime import date

import msgspec

from pipeline.core import releasing
from pipeline.core.events import Record
from pipeline.core.pseudonyms import KeyStore
from pipeline.core.release import Release
from pipeline.core.releasing import Noise
from pipeline.core.tallies import Tally
from pipeline.core.windows import Window, window_named
from pipeline.declarations import Declarations
from pipeline.testing import ARRIVED, MemoryKeyStore, run

NDJSON = (("content-type", b"application/x-ndjson"),)
LINES = 500  # events a record


def by_day(dimension: str | None = None, *, cells: int = 1, events: int | None = None) -> str:
    """A statistic of daily users as TOML declares it, by one dimension or by none (``active_users``).

    ``events``: where given, events are counted too, so many of a subject, and there is a total.
    """
    declared = {
        "description": f"By {dimension}." if dimension else "All.",
        "dimensions": [dimension] if dimension else [],
        "measures": ["users"] if events is None else ["users", "events"],
        "max_cells": cells,
        "windows": ["day"],
    }
    lines = [f"[statistics.{f'by_{dimension}' if dimension else 'active_users'}]"]
    lines += [f"{name} = {value!r}" for name, value in declared.items()]
    return "\n".join(lines + ([] if events is None else [f"max_events = {events}", "total = true"])) + "\n"


def declaring(*statistics: str) -> str:
    """The TOML of a file of these statistics."""
    return "".join(['version = "audit"\n', *statistics])


class Kept(MemoryKeyStore):
    """Keys that outlive the release, so that the same tallies can be released again and again."""

    def destroy(self, window: Window) -> None:
        """Not here."""


class Counting:
    """Noise that counts: ``draws`` values were asked for so far."""

    def __init__(self, noise: Noise) -> None:
        self.noise = noise
        self.draws = 0

    def add(self, values: Sequence[int], sigma: float) -> list[int]:
        self.draws += len(values)
        return self.noise.add(values, sigma)


def line(subject: str | None, time: str, number: object, **data: object) -> bytes:
    """One event, as an application sends it."""
    who = {} if subject is None else {"subject": subject}
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": f"audit-{number}",
            "source": "audit",
            "type": "usage.feature.used.v1",
            "time": time,
            **who,
            "data": data,
        }
    )


def records(lines: Sequence[bytes], each: int = LINES) -> Iterable[Record]:
    """The lines as records of NDJSON."""
    for start in range(0, len(lines), each):
        yield Record(start // each, ARRIVED, NDJSON, b"\n".join(lines[start : start + each]))


def word(number: int, letters: str = "abcdefghijklmnop") -> str:
    """A name of a feature for each number, without a digit, so that none looks personal."""
    text = ""
    while number or not text:
        number, place = divmod(number, len(letters))
        text += letters[place]
    return text


def tallied(declared: Declarations, given: Iterable[Record], keys: KeyStore, since: date, until: date) -> list[Tally]:
    """What all partitions counted, exactly."""
    return list(run(declared, given, keys=keys, since=since, until=until).tallies)


def released(
    declared: Declarations,
    tallies: Iterable[Tally],
    keys: KeyStore,
    noise: Noise,
    only: Container[Window] | None = None,
) -> list[Release]:
    """The windows' releases, drawn anew."""
    windows: dict[Window, list[Tally]] = {}
    for each in tallies:
        windows.setdefault(window_named(each.window), []).append(each)
    found: list[Release] = []
    for window, parts in sorted(windows.items()):
        key = keys.window(window)
        if key is not None and (only is None or window in only):
            found += releasing.release_window(
                declared.accountant, window, declared.plan.of(window.kind), parts, key, noise
            )
    return found

"""Simulated uses as CloudEvents, one a line: what the emitter would send."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from pipeline.emitter import TYPE, Data, Event
from pipeline.simulation.days import Day, Use, reaching

APPLICATION: Final = "chat-app"

_encode = msgspec.json.Encoder().encode


def encode_use(use: Use) -> bytes:
    """The event as JSON."""
    data = Data(use.feature, use.platform, use.app_version, use.country, use.duration_ms, use.plan)
    return _encode(Event("1.0", use.id, APPLICATION, TYPE, use.time, data, use.subject))


def write_lines(days: Iterable[Day], broken: bool = False) -> Iterator[bytes]:
    """Every event that would reach the topic, a line each; with ``broken`` also the records that are no events."""
    for day in reaching(days):
        for use in day.uses:
            yield encode_use(use) + b"\n"
        if broken:
            for each in day.broken:
                yield each.value + b"\n"

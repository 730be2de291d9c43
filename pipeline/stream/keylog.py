"""What the topic of keys says: a fold whose result stays the same however much of the log Kafka has compacted away.

Compaction keeps the last record of a key, and the first to draw a window's key has to win. So each draw has a record
key of its own, ``day-2026-05-05/3f2a…``: nobody's record takes the place of anybody else's. A draw that is wrapped anew
says where in the log it first stood. What was destroyed is said under the window's own name, for ever, and wins over
every draw, whatever comes first.
"""

import secrets
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

import msgspec


class KeyDrawn(msgspec.Struct, frozen=True, kw_only=True, tag="drawn"):
    """A key, wrapped. ``place``: the offset that it was first written at, ``None`` where that is this record's own."""

    wrapped: bytes
    drawn: datetime
    place: int | None = None


class KeyDestroyed(msgspec.Struct, frozen=True, kw_only=True, tag="destroyed"):
    """A window's key is destroyed, and never drawn again."""

    destroyed: datetime


KeyRecord = KeyDrawn | KeyDestroyed


def new_draw(name: str) -> str:
    """A record key for a draw of that name's key."""
    return f"{name}/{secrets.token_hex(8)}"


@dataclass
class KeyLog:
    """The draws of each name that were not taken back, by their record keys, and the names that are destroyed.

    ``met``: of each draw, how many of its records hold wrapped bytes that this reading of the log still found.
    """

    draws: dict[str, dict[str, KeyDrawn]] = field(default_factory=dict)
    destroyed: dict[str, datetime] = field(default_factory=dict)
    met: Counter[str] = field(default_factory=Counter)

    def add(self, offset: int, key: bytes, value: bytes | None) -> None:
        """Takes in the next record. Raises ``msgspec.MsgspecError`` for what is none of ours."""
        draw = key.decode()
        name = draw.partition("/")[0]
        if value is None:
            self.draws.get(name, {}).pop(draw, None)
            return
        record = _DECODER.decode(value)
        if isinstance(record, KeyDestroyed):
            self.destroyed[name] = record.destroyed
            return
        self.met[draw] += 1
        draws = self.draws.setdefault(name, {})
        if record.place is None:
            record = msgspec.structs.replace(record, place=draws[draw].place if draw in draws else offset)
        draws[draw] = record

    def first(self, name: str) -> tuple[str, KeyDrawn] | None:
        """The draw that counts, with its record key; ``None`` when nobody has drawn, or it is destroyed."""
        draws = self.draws.get(name)
        if not draws or name in self.destroyed:
            return None
        return min(draws.items(), key=lambda item: item[1].place or 0)

    def useless(self, name: str) -> list[str]:
        """The record keys of the draws that do not count: all where the name is destroyed, else all but the first."""
        first = self.first(name)
        return [draw for draw in self.draws.get(name, {}) if first is None or draw != first[0]]

    def live(self) -> dict[str, tuple[str, KeyDrawn]]:
        """The names that have a key, each with the draw that counts."""
        found = ((name, self.first(name)) for name in sorted(self.draws))
        return {name: first for name, first in found if first is not None}

    def lingering(self) -> set[str]:
        """Names of which the log still holds bytes that count for nothing: destroyed, beaten, or wrapped anew since."""
        return {
            name
            for draw, times in self.met.items()
            for name in [draw.partition("/")[0]]
            if times > 1 or draw not in self.draws[name] or draw in self.useless(name)
        }


def encode_key_record(record: KeyRecord) -> bytes:
    """The record's value: JSON."""
    return _ENCODER.encode(record)


_ENCODER = msgspec.json.Encoder()
_DECODER: msgspec.json.Decoder[KeyRecord] = msgspec.json.Decoder(KeyRecord)

"""Somebody who holds all that is left and a list of everybody, and tries to tell who did what."""

import base64
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.core.contributions import Contributions, decode_contribution
from pipeline.core.pseudonyms import KEY_BYTES, Router, WindowKey
from pipeline.core.texts import Texts
from pipeline.core.windows import window_of
from pipeline.stream.keywrapping import KeyStoreError, Wrapping
from pipeline.stream.topics import CONTRIBUTIONS, KEYS

WRAPPED_BYTES = 12 + KEY_BYTES + 16  # nonce, key, tag
MIXED = 20  # different bytes in 32: one random key in a million million has fewer, and text and tables seldom more


class Event(NamedTuple):
    """What somebody did, as whoever sent it may remember."""

    subject: str
    id: str
    feature: str
    day: str


@dataclass
class Found:
    """What could be told, by window: whose pseudonyms, which events by their tokens, which sealed features."""

    subjects: dict[str, set[str]] = field(default_factory=dict)
    events: dict[str, set[str]] = field(default_factory=dict)
    features: dict[str, set[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(any(each.values()) for each in (self.subjects, self.events, self.features))


@dataclass
class Attacker:
    """``files``: every file, by its path; ``topics``: every record of every topic; ``keks``: what wraps.

    ``source``: what all events name as theirs. ``everybody``: all events that there were, so all subjects too.
    """

    files: Mapping[str, bytes]
    topics: Mapping[str, Sequence[Any]]
    keks: Sequence[bytes]
    source: str
    everybody: Sequence[Event]

    def link(self) -> Found:
        """Every key that can be had, against everybody."""
        found = Found()
        rows = list(self.rows())
        retained = {content for *_, contents in rows for content in contents}
        windows = {content: window for window, contents in rows for content in contents}
        identity = [
            Texts.of(each) for each in zip(*((e.subject, self.source, e.id) for e in self.everybody), strict=True)
        ]
        digests = [router.digests(identity) for router in self.routes(1)]
        for key in self.keys(retained):
            for event in self.everybody:
                for told, who, content in (
                    (found.subjects, event.subject, key.pseudonym(event.subject)),
                    (found.features, event.feature, key.seal("feature", event.feature)),
                ):
                    if content in retained:
                        told.setdefault(windows[content], set()).add(who)
            for tokens in map(key.tokens, digests):
                for event, token in zip(self.everybody, tokens, strict=True):
                    if token.tobytes() in retained:
                        found.events.setdefault(windows[token.tobytes()], set()).add(event.id)
        return found

    def rows(self) -> Iterator[tuple[str, list[bytes]]]:
        """Each row and kind of window: the window's name, and all that is retained under its key."""
        for record in self.topics[CONTRIBUTIONS]:
            batch = decode_contribution(record.value)
            if not isinstance(batch, Contributions):
                continue
            for columns, row in itertools.product(batch.windows, range(batch.rows)):
                start, _, cell = columns.cell(row)
                contents = [columns.pseudonyms[16 * row : 16 * row + 16], *filter(None, cell)]
                if columns is batch.windows[0]:  # tokens are made under the shortest window's key
                    contents.append(batch.tokens[8 * row : 8 * row + 8])
                yield window_of(columns.kind, start).name, contents

    def keys(self, retained: set[bytes]) -> Iterator[WindowKey]:
        """Every wrapped key that the key-encryption keys open, and every 32 bytes that lie about and fit."""
        yield from (WindowKey(key) for key in set(self.unwrapped()))
        for candidate in {each for content in set(self.contents()) for each in mixed(content)}:
            key = WindowKey(candidate)
            if any(key.pseudonym(subject) in retained for subject in self.subjects[:3]):
                yield key

    @property
    def subjects(self) -> list[str]:
        return sorted({event.subject for event in self.everybody})

    def unwrapped(self) -> Iterator[bytes]:
        """All that can be unwrapped, wherever it lies, for any place that a key can have."""
        wrapping = Wrapping(*self.keks)
        names = {name for name, _ in self.rows()} | {"route"}
        places = sorted(names) + sorted({record.key.decode() for record in self.topics[KEYS]})
        for content in self.where_keys_are():
            for start, place in itertools.product(range(len(content) - WRAPPED_BYTES + 1), places):
                with suppress(KeyStoreError):
                    yield wrapping.unwrap(content[start : start + WRAPPED_BYTES], place)

    def where_keys_are(self) -> Iterator[bytes]:
        """The files of the directory of keys, and what records of the topic hold in base64."""
        yield from (content for name, content in self.files.items() if "headcount-keys-" in name)
        for record in self.topics[KEYS]:
            for text in re.findall(rb"[A-Za-z0-9+/]{40,}=*", record.value or b""):
                yield base64.b64decode(text)

    def contents(self) -> Iterable[bytes]:
        """All bytes there are, but for rows: they are what is to be linked."""
        yield from self.files.values()
        for topic, records in self.topics.items():
            if topic != CONTRIBUTIONS:
                yield b"\0".join(part for record in records for part in (record.key, record.value) if part)

    def routes(self, partitions: int) -> list[Router]:
        """Every router that one of the keys would make."""
        return [Router(key, partitions) for key in set(self.unwrapped())]


def compacted(records: Sequence[Any]) -> list[Any]:
    """What Kafka's cleaner leaves of a topic: the last record of each key, and no deletions."""
    last = {record.key: record for record in records}
    return [record for record in last.values() if record.value is not None]


def mixed(content: bytes) -> Iterator[bytes]:
    """Every 32 bytes of it, at any place, that could be a random key."""
    for place in range(0, len(content), 16):  # one such block is whole in each of them
        if len(set(content[place : place + 16])) >= MIXED // 2:
            for start in range(max(0, place - 15), place + 1):
                candidate = content[start : start + KEY_BYTES]
                if len(candidate) == KEY_BYTES and len(set(candidate)) >= MIXED:
                    yield candidate

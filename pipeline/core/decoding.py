"""From records to typed events. Decoding never raises and never quotes: what cannot be read becomes a
:class:`~pipeline.core.outcomes.Reason`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from pipeline.core.columns import Columns, Names
from pipeline.core.events import (
    BATCH,
    JSON,
    MAX_EVENT,
    MAX_EVENTS,
    MAX_RECORD,
    NDJSON,
    STRUCTURED,
    Headers,
    Record,
    Text,
    Time,
    UsageEvent,
    event_type,
)
from pipeline.core.fields import Registry
from pipeline.core.forms import BINARY, elements, form_of, headers_of, limited
from pipeline.core.layouts import Layouts
from pipeline.core.numbers import Ints
from pipeline.core.outcomes import Reason
from pipeline.core.texts import Texts

MAX_FORMS = 1000  # headers whose form is remembered
TOGETHER = 1 << 20  # bytes of records that are decoded at a time
SEVERAL = 512  # events that are decoded at a time

UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeError)


class Decoded(NamedTuple):
    """One event of a record, or the reason why it is none, with its place in the record."""

    place: int
    event: UsageEvent | Reason


class Rows(NamedTuple):
    """The events of some records as columns, and where each stood: the record's number among them, the place in the
    record.
    """

    columns: Columns
    records: Ints
    places: Ints
    rejected: list[tuple[int, int, Reason]]  # (record's number, place in it, why)


class Decoder:
    """Decodes records. Events are typed, and checked against the registry, as they are parsed."""

    def __init__(self, registry: Registry) -> None:
        self.types = frozenset(registry.types)
        kind = event_type(registry)
        self.data_type = kind.__annotations__["data"]
        self.required = tuple(name for name, field in registry.fields.items() if field.required)
        self._one: Callable[[bytes], Any] = msgspec.json.Decoder(kind).decode
        self._forms: dict[Headers, str] = {}
        self._raws: Callable[[bytes], Any] = msgspec.json.Decoder(list[msgspec.Raw]).decode
        self._members: Callable[[bytes], Any] = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        self._data: Callable[[bytes], Any] = msgspec.json.Decoder(self.data_type).decode
        self.names = Names(registry)
        self._layouts = Layouts(self.names, lambda text: isinstance(self._single(text), kind))

    def decode(self, record: Record) -> list[Decoded]:
        """Every event of a record, in order; a record that cannot be taken apart is one event with one reason."""
        parts = self._parts(record)
        found = [self._single(text) for text in parts] if isinstance(parts, list) else [parts]
        return [Decoded(place, each) for place, each in enumerate(found)]

    def rows(self, records: Sequence[Record]) -> Iterator[Rows]:
        """:meth:`decode` of many records, so much at a time as the processor's cache holds. What looks like events
        that were met before never becomes an object.
        """
        sizes = np.cumsum([len(record.value or b"") for record in records])
        start = 0
        while start < len(records):
            before = int(sizes[start - 1]) if start else 0
            end = max(start + 1, int(np.searchsorted(sizes, before + TOGETHER, side="right")))
            yield self._rows(records[start:end], start)
            start = end

    def _rows(self, records: Sequence[Record], first: int) -> Rows:
        texts, numbers, known = self._taken_apart(records)
        counts = np.bincount(numbers, minlength=len(records))
        places = np.arange(len(numbers)) - (np.cumsum(counts) - counts)[numbers]
        columns, read = self._layouts.read(texts)
        rejected: list[tuple[int, Reason]] = []
        parts = []
        left = np.flatnonzero(~read)
        for start in range(0, len(left), SEVERAL):
            rows = left[start : start + SEVERAL]
            found = self._several(texts.at(rows).tolist(), numbers[rows].tolist(), known)
            events = [each for each in found if not isinstance(each, Reason)]
            taken = np.array([not isinstance(each, Reason) for each in found], dtype=bool)
            rejected += [(row, why) for row, why in zip(rows.tolist(), found, strict=True) if isinstance(why, Reason)]
            parts.append((rows[taken], Columns.made_of(self.names, events)))
        if not parts:
            return Rows(columns, first + numbers, places, [])
        columns.take(parts)
        kept = np.ones(len(texts), dtype=bool)
        kept[[row for row, _ in rejected]] = False
        reasons = [(first + int(numbers[row]), int(places[row]), why) for row, why in rejected]
        return Rows(columns.at(kept), first + numbers[kept], places[kept], reasons)

    def _several(
        self, texts: list[bytes], numbers: list[int], known: Mapping[int, UsageEvent | Reason]
    ) -> Sequence[UsageEvent | Reason]:
        try:
            if not known and max(map(len, texts)) <= MAX_EVENT:
                return list(map(self._one, texts))
        except UNREADABLE:
            pass  # something is wrong with one of them: find out which
        return [known.get(number) or self._single(text) for number, text in zip(numbers, texts, strict=True)]

    def _taken_apart(
        self, records: Sequence[Record], *, patiently: bool = False
    ) -> tuple[Texts, Ints, dict[int, UsageEvent | Reason]]:
        """The texts of all events, the number of each one's record, and of some records what they are instead."""
        known: dict[int, UsageEvent | Reason] = {}
        forms = [record.headers for record in records]
        if forms and self._forms.get(forms[0]) == STRUCTURED and forms.count(forms[0]) == len(forms):
            values = [record.value or b"" for record in records]
            if all(values):  # a usual case: every record is one text
                return Texts.joined(values), np.arange(len(values)), known
        texts, of, lined = [], [], []
        for number, record in enumerate(records):
            value, form = record.value or b"", self._forms.get(record.headers)
            lines = form in NDJSON and not patiently
            if (lines or form == STRUCTURED) and len(value) <= MAX_RECORD and value and not value.isspace():
                parts: list[bytes] | UsageEvent | Reason = [value]
            else:
                parts = self._parts(record)
                lines = False
            if isinstance(parts, list):
                texts += parts
            else:
                known[number] = parts
                parts = [b" "]
                texts += parts
            of += [number] * len(parts)
            lined += [lines] * len(parts)
        columns, numbers = Texts.joined(texts), np.array(of, dtype=np.int64)
        if not any(lined):
            return columns, numbers, known
        columns, whole = columns.lines(np.array(lined))
        numbers = numbers[whole]
        if np.bincount(numbers).max() > MAX_EVENTS:
            return self._taken_apart(records, patiently=True)
        return columns, numbers, known

    def _parts(self, record: Record) -> list[bytes] | UsageEvent | Reason:
        """The texts of a record's events; or the one event, or the reason, where they cannot be told apart so."""
        value = record.value
        if not value:
            return Reason.EMPTY
        if len(value) > MAX_RECORD:
            return Reason.TOO_LARGE
        form = self._forms.get(record.headers)
        if form is None:
            form = form_of(record.headers)
            if form != BINARY and len(self._forms) < MAX_FORMS:  # a binary event's headers are its own
                self._forms[record.headers] = form
        if form == STRUCTURED:
            return [value]
        if form == BINARY:
            return self._binary(record.headers, value)
        if form == BATCH or (not form and value.lstrip()[:1] == b"["):
            try:
                return limited([bytes(part) for part in self._raws(value)])
            except UNREADABLE:
                # One event that is nested too deep takes no other with it: elements are told apart by their brackets.
                reason = _unreadable(value)
                parts = elements(value) if reason is Reason.TOO_DEEP else []
                return limited(parts) if parts else reason
        if form in NDJSON or not form or form in JSON:
            lines = list(filter(bytes.strip, value.split(b"\n")))
            if form not in NDJSON and len(lines) > 1 and _reads(value, msgspec.Raw):
                # One event that is printed over several lines is one event all the same.
                return [value]
            return limited(lines)
        return Reason.UNSUPPORTED_FORM

    def _single(self, text: bytes) -> UsageEvent | Reason:
        if len(text) > MAX_EVENT:
            return Reason.TOO_LARGE
        try:
            event: UsageEvent = self._one(text)
            return event
        except UNREADABLE:
            return self._why(text)

    def _why(self, text: bytes) -> Reason:
        """The reason why a text is no event, attribute by attribute in the order of the enumeration."""
        try:
            text.decode()
            members = self._members(text)
        except UNREADABLE:
            return _unreadable(text)
        return self._why_members(members)

    def _why_members(self, members: Mapping[str, Any]) -> Reason:
        for name in ("specversion", "id", "source", "type", "time", "data"):
            if name not in members or bytes(members[name]) == b"null":
                return Reason.MISSING_ATTRIBUTE
        for name, kind, reason in (
            ("specversion", Literal["1.0"], Reason.INVALID_ATTRIBUTE),
            ("id", Text, Reason.INVALID_ATTRIBUTE),
            ("source", Text, Reason.INVALID_ATTRIBUTE),
            ("type", Text, Reason.INVALID_ATTRIBUTE),
            ("type", Literal[tuple(sorted(self.types))], Reason.UNKNOWN_TYPE),
            ("subject", Text | None, Reason.INVALID_SUBJECT),
            ("time", Time, Reason.INVALID_TIME),
            ("data", dict[str, msgspec.Raw], Reason.INVALID_DATA),
        ):
            if name in members and not _reads(members[name], kind):
                return reason
        data = msgspec.json.decode(members["data"], type=dict[str, msgspec.Raw])
        if any(name not in data or bytes(data[name]) == b"null" for name in self.required):
            return Reason.MISSING_FIELD
        return Reason.INVALID_FIELD

    def _binary(self, named: Headers, value: bytes) -> UsageEvent | Reason:
        """Binary mode: the attributes are headers, the value is ``data``."""
        headers, form = headers_of(named)
        if len(value) > MAX_EVENT:
            return Reason.TOO_LARGE
        if form and form not in JSON and not form.endswith("+json"):
            return Reason.UNSUPPORTED_FORM
        try:
            attributes = {n[3:]: c.decode() for n, c in headers.items() if n.startswith("ce_") and c is not None}
        except UnicodeError:
            return Reason.NOT_UTF8
        members: dict[str, Any] = {n: msgspec.Raw(msgspec.json.encode(a)) for n, a in attributes.items()}
        members["data"] = msgspec.Raw(value)
        try:
            value.decode()
            self._members(value)
        except UNREADABLE:
            reason = _unreadable(value)
            return Reason.INVALID_DATA if reason is Reason.NOT_AN_EVENT else reason
        try:
            event: UsageEvent = self._one(msgspec.json.encode(members))
            return event
        except UNREADABLE:
            return self._why_members(members)


def _reads(raw: Any, kind: Any) -> bool:
    """Whether a text is JSON of that type."""
    try:
        msgspec.json.decode(raw, type=kind)
    except UNREADABLE:
        return False
    return True


def _unreadable(text: bytes) -> Reason:
    """Why a text is no JSON object."""
    try:
        text.decode()
        msgspec.json.decode(text, type=msgspec.Raw)
    except UnicodeError:
        return Reason.NOT_UTF8
    except RecursionError:
        return Reason.TOO_DEEP
    except msgspec.MsgspecError:
        return Reason.NOT_JSON
    return Reason.NOT_AN_EVENT

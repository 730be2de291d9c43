"""The first hop: from records to contributions, in the order of :data:`STEPS`. Reading the tuple is reading the design.

Each step takes a batch whose rows all come from one source partition, fills in columns, and rejects rows for one named
reason. After ``pseudonymise`` no identifier is left in the batch; after ``seal`` no value that an application chose is
left in the clear.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.columns import ATTRIBUTES
from pipeline.core.contributions import Contributions, WindowColumns
from pipeline.core.decoding import Decoder
from pipeline.core.dictionaries import NOTHING, Dictionary
from pipeline.core.events import Record
from pipeline.core.fields import Registry
from pipeline.core.generalising import REFUSALS, Column, Generaliser
from pipeline.core.numbers import Flags, Ints, Words, distinct, distinct_between, numbered
from pipeline.core.outcomes import Reason, Rejection
from pipeline.core.policy import Policy
from pipeline.core.pseudonyms import PSEUDONYM_BYTES, KeyStore, Router, WindowKey
from pipeline.core.statistics import Plan
from pipeline.core.windows import Calendar, Kind, Span, Window, day_of, part_of, window_of


def _nothing() -> Ints:
    return np.empty(0, dtype=np.int64)


Picked = Ints | slice  # rows, or all of them
Entries = tuple[list[tuple[int, bytes]], Ints]  # (window's first day, value) of each entry, and one entry a row


@dataclass
class KindColumns:
    """The rows as the windows of one kind see them. Columns hold places in the lists beside them."""

    windows: list[Window]
    of: Ints  # a row's window
    pseudonyms: npt.NDArray[np.void]  # 16 bytes a row
    parts: list[tuple[int, int]]  # a window's first day, and the part of it
    part: Ints
    values: list[Entries] = field(default_factory=list)  # per dimension of the finest cell


@dataclass
class Batch:
    """Rows of one source partition, as columns that the steps fill in and take away."""

    partition: int
    records: Sequence[Record]
    closed: int | None  # windows that end by this day are closed; None: judged by each record's arrival
    offsets: Ints = field(default_factory=_nothing)
    indexes: Ints = field(default_factory=_nothing)
    arrivals: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    seconds: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))  # since 1970
    subjects: Ints = field(default_factory=_nothing)  # codes of the dictionary of subjects
    digests: Words = field(default_factory=lambda: np.empty((0, 2), dtype=np.uint64))  # two words an event
    refused: Ints = field(default_factory=_nothing)  # a row's place in REFUSALS, or -1
    days: Ints = field(default_factory=_nothing)
    values: list[Column] = field(default_factory=list)  # per dimension of the finest cell
    partitions: Ints = field(default_factory=_nothing)
    keys: dict[Window, WindowKey] = field(default_factory=dict)
    gone: Flags = field(default_factory=lambda: np.empty(0, dtype=bool))  # rows of a window whose key is destroyed
    tokens: Words = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    known: Flags = field(default_factory=lambda: np.empty(0, dtype=bool))
    kinds: dict[Kind, KindColumns] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)
    contributions: dict[int, Contributions] = field(default_factory=dict)

    def reject(self, rejected: Flags, reason_of: Callable[[int], Reason]) -> None:
        """Takes out these rows."""
        if not rejected.any():
            return
        for row in np.flatnonzero(rejected).tolist():
            where = int(self.offsets[row]), int(self.indexes[row])
            self.rejections.append(Rejection(reason_of(row), self.partition, *where))
        kept = ~rejected
        self.subjects, self.digests = self.subjects[kept], self.digests[kept]
        self.offsets, self.indexes, self.arrivals = self.offsets[kept], self.indexes[kept], self.arrivals[kept]
        self.days, self.refused = self.days[kept], self.refused[kept]
        self.values = [(met, numbers[kept]) for met, numbers in self.values]


class Ingest:
    """The first hop under one registry, plan, policy and set of keys. Pure but for the keys that the store draws."""

    def __init__(
        self,
        registry: Registry,
        plan: Plan,
        policy: Policy,
        keys: KeyStore,
        partitions: int,
        span: Span = (None, None),
    ) -> None:
        self.plan = plan
        self.policy = policy
        self.keys = keys
        self.since, self.until = span
        self.decoder = Decoder(registry)
        self.calendar = Calendar(policy.timezone)
        self.effective = day_of(policy.effective)
        self.router = Router(keys.route(), partitions)
        self.subjects = Dictionary(self.router.seed)
        self.generaliser = Generaliser(registry, plan.finest, self.router.seed)

    def ingest(
        self,
        partition: int,
        records: Sequence[Record],
        closed: int | None = None,
        lap: Callable[[str], object] = str,
    ) -> Batch:
        """All records through all steps: ``contributions`` per partition to send to, and ``rejections``.

        ``lap``: called with the name of each step after it, by whoever has a clock.
        """
        batch = Batch(partition, records, closed)
        for step in STEPS:
            step(self, batch)
            lap(step.__name__)
            if not len(batch.offsets):
                break  # nothing is left
        return batch


def decode(ingest: Ingest, batch: Batch) -> None:
    """Records become columns of what is counted, some records at a time. What is not registered exists nowhere, and
    ids and sources are in the digests only.
    """
    ingest.subjects.forget()
    ingest.generaliser.forget()
    parts: list[tuple[Any, ...]] = []
    for rows in ingest.decoder.rows(batch.records):
        identity = [rows.columns.texts(name) for name in ATTRIBUTES]
        subjects, digests = ingest.subjects.codes(identity[0]), ingest.router.digests(identity)
        values, refused = ingest.generaliser.places(rows.columns)
        parts.append((rows.records, rows.places, rows.columns.seconds, subjects, digests, refused, *values))
        for number, place, reason in rows.rejected:
            batch.rejections.append(Rejection(reason, batch.partition, batch.records[number].offset, place))
    if not parts:
        return
    of, batch.indexes, batch.seconds, batch.subjects, batch.digests, batch.refused, *columns = map(
        np.concatenate, zip(*parts, strict=True)
    )
    batch.values = list(zip(ingest.generaliser.met(), columns, strict=True))
    batch.offsets = np.array([record.offset for record in batch.records], dtype=np.int64)[of]
    batch.arrivals = np.array([record.arrived for record in batch.records], dtype=np.float64)[of]


def place(ingest: Ingest, batch: Batch) -> None:
    """Times become days; the future, closed windows, and days that are not this policy's or replay's are rejected."""
    seconds, batch.seconds = batch.seconds, np.empty(0)
    batch.days = days = ingest.calendar.days(seconds)
    lateness = ingest.policy.lateness
    closed = ingest.calendar.days(batch.arrivals - lateness) if batch.closed is None else np.array(batch.closed)
    met, of_row = distinct_between(days)
    ends = np.array([window_of(ingest.plan.kinds[0], day).end for day in met.tolist()], dtype=np.int64)
    outside = np.zeros(len(days), dtype=bool)
    if ingest.since is not None:
        outside |= days < ingest.since
    if ingest.until is not None:
        outside |= days >= ingest.until
    checks = (
        (Reason.FUTURE, seconds > batch.arrivals + ingest.policy.future_minutes * 60),
        (Reason.BEFORE_POLICY, days < ingest.effective),
        (Reason.OUT_OF_SPAN, outside),
        (Reason.LATE, ends[of_row] <= closed),
    )
    failed = np.argmax([*(rows for _, rows in checks), np.ones(len(days), dtype=bool)], axis=0)
    batch.reject(failed < len(checks), lambda row: checks[failed[row]][0])


def refuse(_: Ingest, batch: Batch) -> None:
    """Values that look personal, or are of no kind, are rejected; the others are the few that are counted."""
    batch.reject(batch.refused >= 0, lambda row: REFUSALS[int(batch.refused[row])])


def route(ingest: Ingest, batch: Batch) -> None:
    """A keyed hash of the subject, or of the event where nobody is known, chooses the partition."""
    batch.known = batch.subjects != NOTHING
    batch.partitions = ingest.router.partitions(ingest.subjects, batch.subjects)
    if not batch.known.all():
        nobodys = np.flatnonzero(~batch.known)
        batch.partitions[nobodys] = ingest.router.partitions_of_events(batch.digests[nobodys])


def pseudonymise(ingest: Ingest, batch: Batch) -> None:
    """The subject becomes one pseudonym per window, under that window's key; then subjects and ids are forgotten.

    Where a key is destroyed the window was released. The row was counted before and comes again, or it is late: where
    it stood says which, and the tally knows. It goes on with nothing in it.
    """
    days, day_of_row = distinct_between(batch.days)
    calendar = {kind: [window_of(kind, day) for day in days.tolist()] for kind in ingest.plan.kinds}
    for met in {window for windows in calendar.values() for window in windows}:
        key = ingest.keys.window(met)
        if key is not None:
            batch.keys[met] = key
    gone = [any(each not in batch.keys for each in windows) for windows in zip(*calendar.values(), strict=True)]
    batch.gone = np.array(gone, dtype=bool)[day_of_row]
    batch.known &= ~batch.gone
    for kind, of_day in calendar.items():
        windows, window = numbered(of_day)
        parts, part = numbered([(w.start, part_of(w, day)) for w, day in zip(of_day, days.tolist(), strict=True)])
        columns = KindColumns(windows, window[day_of_row], _none(len(batch.subjects)), parts, part[day_of_row])
        for key, rows in _by_key(batch, columns):
            columns.pseudonyms[rows] = key.pseudonyms(ingest.subjects, batch.subjects[rows])
        batch.kinds[kind] = columns
    batch.tokens = np.zeros(len(batch.subjects), dtype="<u8")
    for key, rows in _by_key(batch, batch.kinds[ingest.plan.kinds[0]]):
        batch.tokens[rows] = key.tokens(batch.digests[rows])
    batch.subjects, batch.digests = _nothing(), batch.digests[:0]
    batch.records, batch.arrivals = (), np.empty(0)


def _none(rows: int) -> npt.NDArray[np.void]:
    return np.zeros(rows, dtype=f"V{PSEUDONYM_BYTES}")


def _by_key(batch: Batch, columns: KindColumns) -> Iterator[tuple[WindowKey, Picked]]:
    """The rows of each window whose key is there."""
    if len(columns.windows) == 1 and not batch.gone.any():
        yield batch.keys[columns.windows[0]], slice(None)
        return
    for number, window in enumerate(columns.windows):
        rows = np.flatnonzero((columns.of == number) & ~batch.gone)
        if len(rows):
            yield batch.keys[window], rows


def seal(ingest: Ingest, batch: Batch) -> None:
    """Open values are sealed under each window's key, so that a value that one user alone has is never in the clear."""
    for columns in batch.kinds.values():
        for name, (met, numbers) in zip(ingest.plan.finest, batch.values, strict=True):
            # Number 0 is no value.
            pairs, pair = distinct(
                columns.of * len(met) + np.where(batch.gone, 0, numbers), len(columns.windows) * len(met)
            )
            entries = []
            for each in pairs.tolist():
                window, value = columns.windows[each // len(met)], met[each % len(met)]
                if value is None:
                    sealed = b""
                elif ingest.plan.fields[name].open:
                    sealed = batch.keys[window].seal(name, value)
                else:
                    sealed = value.encode()
                entries.append((window.start, sealed))
            columns.values.append((entries, pair))
    batch.values, batch.keys = [], {}


def pack(_: Ingest, batch: Batch) -> None:
    """Rows become one columnar record per partition that they are sent to."""
    for destination in np.unique(batch.partitions).tolist():
        rows = np.flatnonzero(batch.partitions == destination)
        batch.contributions[destination] = Contributions(
            partition=batch.partition,
            last=int(batch.offsets[-1]),
            offsets=batch.offsets[rows].astype("<i8").tobytes(),
            indexes=batch.indexes[rows].astype("<i4").tobytes(),
            tokens=batch.tokens[rows].tobytes(),
            known=batch.known[rows].tobytes(),
            windows=[_pack_kind(kind, columns, rows) for kind, columns in batch.kinds.items()],
        )


def _pack_kind(kind: Kind, columns: KindColumns, rows: Ints) -> WindowColumns:
    """One kind's columns of some rows, with what they refer to and nothing else."""
    lists: list[list[Any]] = []
    cells = []
    everything: list[tuple[list[Any], Ints]] = [(columns.parts, columns.part), *columns.values]
    for entries, places in everything:
        used, place = distinct(places[rows], len(entries))
        lists.append([entries[each] for each in used.tolist()])
        cells.append(place.astype("<i4").tobytes())
    return WindowColumns(kind, columns.pseudonyms[rows].tobytes(), lists[0], lists[1:], b"".join(cells))


Step = Callable[[Ingest, Batch], None]

STEPS: tuple[Step, ...] = (
    decode,
    place,
    refuse,
    route,
    pseudonymise,
    seal,
    pack,
)

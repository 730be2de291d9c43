"""The first hop: from records to contributions, in the order of :data:`STEPS`. Reading the tuple is reading the design.

Each step takes a batch whose rows all come from one source partition, fills in columns, and rejects rows for one named
reason. After ``pseudonymise`` no identifier is left in the batch; after ``seal`` no value that an application chose is
left in the clear.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.core.contributions import Contributions, WindowColumns
from pipeline.core.events import Decoder, Record, UsageEvent
from pipeline.core.fields import Registry, generalise
from pipeline.core.outcomes import Reason, Rejection
from pipeline.core.policy import Policy
from pipeline.core.pseudonyms import PSEUDONYM_BYTES, KeyStore, Router, WindowKey
from pipeline.core.statistics import Plan
from pipeline.core.windows import Calendar, Kind, Span, Window, day_of, part_of, window_of

_NOBODY = bytes(PSEUDONYM_BYTES)
_NO_TOKEN = bytes(8)
_CACHE = 100_000

Cell = tuple[int, int, tuple[bytes, ...]]  # the window's first day, the part of it, one sealed value per dimension
Values = tuple[str | None, ...]  # one per dimension of the finest cell


@dataclass
class Batch:
    """Rows of one source partition, as columns that the steps fill in and take away."""

    partition: int
    records: Sequence[Record]
    closed: int | None  # windows that end by this day are closed; None: judged by each record's arrival
    offsets: list[int] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    events: list[UsageEvent] = field(default_factory=list)
    days: list[int] = field(default_factory=list)
    keys: dict[Window, WindowKey] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)  # days of which a window's key is destroyed
    values: list[Values] = field(default_factory=list)
    partitions: list[int] = field(default_factory=list)
    tokens: list[bytes] = field(default_factory=list)
    known: list[bool] = field(default_factory=list)
    windows: dict[Kind, list[Window]] = field(default_factory=dict)
    pseudonyms: dict[Kind, list[bytes]] = field(default_factory=dict)
    cells: dict[Kind, list[Cell]] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)
    contributions: dict[int, Contributions] = field(default_factory=dict)

    def reject(self, reasons: list[Reason | None]) -> None:
        """Takes out the rows that have a reason."""
        if not any(reasons):
            return
        for reason, offset, index in zip(reasons, self.offsets, self.indexes, strict=True):
            if reason:
                self.rejections.append(Rejection(reason, self.partition, offset, index))
        for name in (
            "offsets",
            "indexes",
            "arrivals",
            "events",
            "days",
            "values",
            "partitions",
            "tokens",
            "known",
        ):
            column = getattr(self, name)
            if column:
                setattr(self, name, [v for v, reason in zip(column, reasons, strict=True) if not reason])


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
        self._generalised: dict[Values, Values | Reason] = {}
        self._fields = tuple(registry.fields.items())
        self._counted = tuple(i for i, (name, _) in enumerate(self._fields) if name in plan.finest)
        self._open = tuple(plan.fields[name].open for name in plan.finest)

    def ingest(self, partition: int, records: Sequence[Record], closed: int | None = None) -> Batch:
        """All records through all steps: ``contributions`` per partition to send to, and ``rejections``."""
        batch = Batch(partition, records, closed)
        for step in STEPS:
            step(self, batch)
        return batch

    def values_of(self, event: UsageEvent) -> Values | Reason:
        """The event's finest cell, every registered field generalised, or the reason why one of them cannot be."""
        raw = tuple([getattr(event.data, name) for name, _ in self._fields])
        known = self._generalised.get(raw)
        if known is None:
            if len(self._generalised) >= _CACHE:
                self._generalised.clear()
            general: list[str | None] = []
            known = None
            for (_, registered), value in zip(self._fields, raw, strict=True):
                result = generalise(registered, value)
                if isinstance(result, Reason):
                    known = result
                    break
                general.append(result)
            if known is None:
                known = tuple([general[i] for i in self._counted])
            self._generalised[raw] = known
        return known


def decode(ingest: Ingest, batch: Batch) -> None:
    """Records become typed events; what is not registered does not exist from here on."""
    for record in batch.records:
        for position, event in ingest.decoder.decode(record):
            if isinstance(event, Reason):
                batch.rejections.append(Rejection(event, batch.partition, record.offset, position))
                continue
            batch.offsets.append(record.offset)
            batch.indexes.append(position)
            batch.arrivals.append(record.arrived)
            batch.events.append(event)


def place(ingest: Ingest, batch: Batch) -> None:
    """Times become days; the future, closed windows, and days that are not this policy's or replay's are rejected."""
    ahead = ingest.policy.future_minutes * 60
    day_at = ingest.calendar.day
    shortest = ingest.plan.kinds[0]
    reasons: list[Reason | None] = []
    for event, arrived in zip(batch.events, batch.arrivals, strict=True):
        seconds = event.time.timestamp()
        day = day_at(seconds)
        batch.days.append(day)
        closed = day_at(arrived - ingest.policy.lateness) if batch.closed is None else batch.closed
        if seconds > arrived + ahead:
            reasons.append(Reason.FUTURE)
        elif day < ingest.effective:
            reasons.append(Reason.BEFORE_POLICY)
        elif (ingest.since is not None and day < ingest.since) or (ingest.until is not None and day >= ingest.until):
            reasons.append(Reason.OUT_OF_SPAN)
        elif window_of(shortest, day).end <= closed:
            reasons.append(Reason.LATE)
        else:
            reasons.append(None)
    batch.reject(reasons)


def generalise_fields(ingest: Ingest, batch: Batch) -> None:
    """Registered values become the few that are counted; those that look personal, or are of no kind, are rejected."""
    found = [ingest.values_of(event) for event in batch.events]
    batch.values = [() if isinstance(values, Reason) else values for values in found]
    batch.reject([values if isinstance(values, Reason) else None for values in found])


def route(ingest: Ingest, batch: Batch) -> None:
    """A keyed hash of the subject, or of the event where nobody is known, chooses the partition."""
    partition = ingest.router.partition
    batch.partitions = [partition(e.subject if e.subject is not None else f"{e.source}\0{e.id}") for e in batch.events]


def pseudonymise(ingest: Ingest, batch: Batch) -> None:
    """The subject becomes one pseudonym per window, under that window's key; then the events are forgotten.

    Where a key is destroyed the window was released. The row was counted before and comes again, or it is late: where
    it stood says which, and the tally knows. It goes on with nothing in it.
    """
    windows = {(kind, day): window_of(kind, day) for kind in ingest.plan.kinds for day in set(batch.days)}
    for (_, day), window in windows.items():
        key = batch.keys.get(window) or ingest.keys.window(window)
        if key is None:
            batch.gone.add(day)
        else:
            batch.keys[window] = key
    for kind in ingest.plan.kinds:
        batch.windows[kind] = [windows[kind, day] for day in batch.days]
        batch.pseudonyms[kind] = [
            _NOBODY if e.subject is None or day in batch.gone else batch.keys[w].pseudonym(e.subject)
            for e, w, day in zip(batch.events, batch.windows[kind], batch.days, strict=True)
        ]
    shortest = batch.windows[ingest.plan.kinds[0]]
    batch.tokens = [
        _NO_TOKEN if day in batch.gone else batch.keys[w].token(e.subject, e.source, e.id)
        for e, w, day in zip(batch.events, shortest, batch.days, strict=True)
    ]
    batch.known = [
        e.subject is not None and day not in batch.gone for e, day in zip(batch.events, batch.days, strict=True)
    ]
    batch.events, batch.records, batch.arrivals = [], (), []


def seal(ingest: Ingest, batch: Batch) -> None:
    """Open values are sealed under each window's key, so that a value that one user alone has is never in the clear."""
    for kind in ingest.plan.kinds:
        sealed: dict[tuple[int, Values], Cell] = {}
        for day, values in set(zip(batch.days, batch.values, strict=True)):
            window = window_of(kind, day)
            key = batch.keys.get(window)
            cell = tuple(
                b""
                if key is None or value is None or day in batch.gone
                else key.seal(name, value)
                if is_open
                else value.encode()
                for name, value, is_open in zip(ingest.plan.finest, values, ingest._open, strict=True)
            )
            sealed[day, values] = (window.start, part_of(window, day), cell)
        batch.cells[kind] = [sealed[day, values] for day, values in zip(batch.days, batch.values, strict=True)]
    batch.values, batch.keys = [], {}


def pack(ingest: Ingest, batch: Batch) -> None:
    """Rows become one columnar record per partition that they are sent to."""
    if not batch.offsets:
        return
    last = batch.offsets[-1]
    destinations = np.array(batch.partitions)
    for destination in sorted(set(batch.partitions)):
        rows = np.flatnonzero(destinations == destination).tolist()
        columns = []
        for kind in ingest.plan.kinds:
            places: dict[Cell, int] = {}
            cells = batch.cells[kind]
            codes = [places.setdefault(cells[row], len(places)) for row in rows]
            pseudonyms = batch.pseudonyms[kind]
            columns.append(
                WindowColumns(
                    kind,
                    b"".join([pseudonyms[r] for r in rows]),
                    np.array(codes, dtype="<i4").tobytes(),
                    list(places),
                )
            )
        batch.contributions[destination] = Contributions(
            partition=batch.partition,
            last=last,
            offsets=np.array([batch.offsets[r] for r in rows], dtype="<i8").tobytes(),
            indexes=np.array([batch.indexes[r] for r in rows], dtype="<i4").tobytes(),
            tokens=b"".join([batch.tokens[r] for r in rows]),
            known=bytes([batch.known[r] for r in rows]),
            windows=columns,
        )


Step = Callable[[Ingest, Batch], None]

STEPS: tuple[Step, ...] = (
    decode,
    place,
    generalise_fields,
    route,
    pseudonymise,
    seal,
    pack,
)

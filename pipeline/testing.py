"""For tests of one's own declarations: keys in memory, noise of zero, builders, and all three hops in one process.

>>> from math import inf
>>> declared = declarations(delta=1.0, max_epsilon=inf)  # no thresholds: what is counted can be looked at
>>> result = run(declared, [record(event(subject="u-1"), event(subject="u-2"), event(subject="u-2"))])
>>> result.counts("active_users", "day-2026-05-01")
{(): {'users': 2}}
>>> result.release("feature_use", "day-2026-05-01").total
[2, 3]

Nothing here protects anyone: the keys can be worked out by whoever knows the seed, and the counts are exact.
"""

import itertools
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec

from pipeline.core import events
from pipeline.core.budget import Accountant
from pipeline.core.contributions import Progress, decode_contribution, encode_contribution
from pipeline.core.events import Record
from pipeline.core.fields import Registry
from pipeline.core.ingest import Ingest
from pipeline.core.outcomes import Rejection
from pipeline.core.policy import Policy
from pipeline.core.pseudonyms import KEY_BYTES, KeyStore, WindowKey
from pipeline.core.release import Measure, Release
from pipeline.core.releasing import Gathered, Noise, release_window
from pipeline.core.statistics import Plan, Statistics
from pipeline.core.tallies import FOREVER, Closed, PartitionState, Tally
from pipeline.core.windows import Window, day_of
from pipeline.declarations import Declarations
from pipeline.settings import SCHEMAS

__all__ = [
    "ABSENT",
    "EXACT",
    "Delivery",
    "MemoryKeyStore",
    "NoNoise",
    "Result",
    "cut",
    "declarations",
    "event",
    "record",
    "release",
    "run",
    "tally",
]

ABSENT: Final[Any] = object()  # as a value for :func:`event`: leaves the attribute or field out
EXACT: Final = SCHEMAS / "exact.toml"  # the policy without noise, thresholds and bounds
ARRIVED: Final = datetime(2026, 12, 31, tzinfo=UTC).timestamp()
OPEN: Final = -(10**6)  # a day before every window: none is closed yet

Form = Literal["ndjson", "batch", "structured", "binary", "bare"]
T = TypeVar("T")

_ATTRIBUTES = frozenset({"specversion", "id", "source", "type", "subject", "time", "data"})
_numbers = itertools.count(1)


class MemoryKeyStore:
    """A ``KeyStore`` whose keys follow from a seed: equal seeds, equal pseudonyms. Destroyed is for ever here too."""

    def __init__(self, seed: str = "") -> None:
        self._seed = seed.encode()
        self._keys: dict[Window, WindowKey] = {}
        self.destroyed: set[Window] = set()

    def window(self, window: Window) -> WindowKey | None:
        if window in self.destroyed:
            return None
        if window not in self._keys:
            self._keys[window] = WindowKey(self._key(window.name))
        return self._keys[window]

    def destroy(self, window: Window) -> None:
        self.destroyed.add(window)
        self._keys.pop(window, None)

    def route(self) -> bytes:
        return self._key("route")

    def _key(self, name: str) -> bytes:
        return blake2b(name.encode(), key=self._seed[:64], digest_size=KEY_BYTES).digest()


class NoNoise:
    """Noise of zero. ``draws``: of each call, how many values were asked for, and under which sigma."""

    def __init__(self) -> None:
        self.draws: list[tuple[int, float]] = []

    def add(self, values: Sequence[int], sigma: float) -> list[int]:
        self.draws.append((len(values), sigma))
        return list(values)


def declarations(
    *,
    fields: str | Path | None = None,
    statistics: str | Path | None = None,
    policy: str | Path | None = None,
    today: date = date(2026, 5, 1),
    **budget: Any,
) -> Declarations:
    """The declarations of TOML texts, of files, or (where nothing is given) those that are shipped.

    ``budget`` changes keys of the policy's ``[budget]``. Raises ``ValueError`` for what is unsound or over budget.
    """
    registry = _read(fields, "fields.toml", Registry).active(today)
    decided = _read(policy, "policy.toml", Policy)
    if budget:
        decided = msgspec.structs.replace(decided, budget=msgspec.structs.replace(decided.budget, **budget))
    plan = Plan(_read(statistics, "statistics.toml", Statistics), registry)
    return Declarations(registry, plan, decided, Accountant(decided, plan))


def event(**changes: Any) -> dict[str, Any]:
    """A CloudEvent of 1 May 2026 with an id of its own. Changes are to attributes by name, any others to ``data``."""
    built: dict[str, Any] = {
        "specversion": "1.0",
        "id": f"e-{next(_numbers)}",
        "source": "app",
        "type": "usage.feature.used.v1",
        "subject": "u-1",
        "time": "2026-05-01T10:00:00Z",
        "data": {"feature": "search", "platform": "web"},
    }
    for name, value in changes.items():
        place = built if name in _ATTRIBUTES else built["data"]
        place[name] = value.isoformat() if isinstance(value, datetime) else value
    if isinstance(built["data"], dict):
        built["data"] = _present(built["data"])
    return _present(built)


def record(
    *contents: Mapping[str, Any] | bytes,
    form: Form = "ndjson",
    offset: int = 0,
    arrived: float = ARRIVED,
    headers: Iterable[tuple[str, bytes]] = (),
) -> Record:
    """A record of ``usage.events`` that holds these events, or texts as they are; a ``binary`` one holds one event."""
    kind = _FORMS[form]
    attributes: list[tuple[str, bytes]] = [] if kind is None else [("content-type", kind.encode())]
    if form == "binary":
        (content,) = contents
        if isinstance(content, bytes):
            raise TypeError("the attributes of a binary record are headers: give the event, not a text")
        attributes += [(f"ce_{name}", str(a).encode()) for name, a in content.items() if name != "data"]
        return Record(offset, arrived, (*attributes, *headers), msgspec.json.encode(content.get("data")))
    texts = [content if isinstance(content, bytes) else msgspec.json.encode(content) for content in contents]
    value = b"[" + b",".join(texts) + b"]" if form == "batch" else b"\n".join(texts)
    return Record(offset, arrived, (*attributes, *headers), value)


class Delivery(NamedTuple):
    """What ingest is handed at once: records of one source partition, in the order of their offsets."""

    source: int
    records: Sequence[Record]


@dataclass(frozen=True)
class Result:
    """What a run left behind. ``log``: per partition, the values of the records of ``usage.contributions``."""

    log: tuple[tuple[bytes, ...], ...]
    tallies: tuple[Tally, ...]
    releases: tuple[Release, ...]
    rejections: tuple[Rejection, ...]
    accepted: int

    def release(self, statistic: str, window: str) -> Release:
        """The release of a statistic in a window such as ``day-2026-05-01``. ``KeyError`` if there is none."""
        return {r.key.rpartition("/")[0]: r for r in self.releases}[f"{statistic}/{window}"]

    def counts(self, statistic: str, window: str) -> dict[tuple[str, ...], dict[Measure, int]]:
        """What was released: per cell, a number per measure."""
        found = self.release(statistic, window)
        columns = [(measure.name, values) for measure, values in zip(found.measures, found.values, strict=True)]
        return {cell: {name: values[row] for name, values in columns} for row, cell in enumerate(found.cells)}


def cut(records: Iterable[Record], *, sources: int = 1, batch: int = 100) -> Iterator[Delivery]:
    """Deals records to source partitions in turn, numbers them there and cuts them into deliveries of ``batch``."""
    dealt = list(records)
    for source in range(sources):
        mine = [msgspec.structs.replace(r, offset=offset) for offset, r in enumerate(dealt[source::sources])]
        yield from (Delivery(source, mine[start : start + batch]) for start in range(0, len(mine), batch))


def run(
    declared: Declarations,
    records: Iterable[Record | Delivery],
    *,
    sources: int = 1,
    partitions: int = 2,
    keys: KeyStore | None = None,
    noise: Noise | None = None,
    since: date | None = None,
    until: date | None = None,
    closed: int | None = OPEN,
) -> Result:
    """All records through ingest, tallies and releases, until every window is closed and its key destroyed.

    Records are :func:`cut` first; deliveries are taken as they are: repeated, re-cut, out of order. ``since``,
    ``until`` (the first day after): windows exist for these days only; if not given, where events are. ``closed``:
    windows that end by this day are closed; ``None``: judged by each record's arrival, as in operation.
    """
    given = list(records)
    deliveries = [each for each in given if isinstance(each, Delivery)]
    deliveries += cut((each for each in given if isinstance(each, Record)), sources=sources)
    keys = MemoryKeyStore() if keys is None else keys
    first, after = (None if day is None else day_of(day) for day in (since, until))
    ingest = Ingest(declared.registry, declared.plan, declared.policy, keys, partitions, (first, after))
    log: list[list[bytes]] = [[] for _ in range(partitions)]
    rejections: list[Rejection] = []
    for delivery in deliveries:
        result = ingest.ingest(delivery.source, delivery.records, closed)
        rejections += result.rejections
        for partition, contributions in result.contributions.items():
            log[partition].append(encode_contribution(contributions))
    words = [encode_contribution(Progress(source, sources, FOREVER, first, after)) for source in range(sources)]
    tallies: list[Tally | Closed] = []
    for partition in range(partitions):
        log[partition] += words
        counted, uncounted = tally(declared, log[partition], partition=partition, partitions=partitions)
        tallies += counted
        rejections += uncounted
    shortest = declared.plan.kinds[0]
    return Result(
        log=tuple(map(tuple, log)),
        tallies=tuple(each for each in tallies if isinstance(each, Tally)),
        releases=tuple(release(declared, tallies, keys=keys, noise=noise)),
        rejections=tuple(rejections),
        accepted=sum(t.accepted for t in tallies if isinstance(t, Tally) and t.window.startswith(f"{shortest}-")),
    )


def tally(
    declared: Declarations, log: Iterable[bytes], *, partition: int = 0, partitions: int = 1
) -> tuple[list[Tally | Closed], list[Rejection]]:
    """Folds a partition of ``usage.contributions`` from its beginning: what it gives out, and the rows not counted."""
    state = PartitionState(partition, partitions, declared.plan, bounded=declared.policy.budget.bounded)
    given: list[Tally | Closed] = []
    uncounted: list[Rejection] = []
    for value in log:
        contribution = decode_contribution(value)
        if isinstance(contribution, Progress):
            given += state.advance(contribution)
        else:
            uncounted += state.fold(contribution)
    return given, uncounted


def release(
    declared: Declarations, given: Iterable[Tally | Closed], *, keys: KeyStore, noise: Noise | None = None
) -> list[Release]:
    """Releases the windows that are complete, and destroys their keys. Without ``noise`` none is added."""
    gathered = Gathered()
    for each in given:
        gathered.add(each)
    releases: list[Release] = []
    for window in gathered.complete():
        key = keys.window(window)
        if key is None:
            raise ValueError(f"the key of {window.name} was destroyed before its release")
        names, tallies = declared.plan.of(window.kind), gathered.tallies[window].values()
        releases += release_window(declared.accountant, window, names, tallies, key, noise or NoNoise())
        keys.destroy(window)
    return releases


_FORMS: dict[Form, str | None] = {
    "ndjson": events.NDJSON[0],
    "batch": events.BATCH,
    "structured": events.STRUCTURED,
    "binary": "application/json",
    "bare": None,
}


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not ABSENT}


def _read(source: str | Path | None, shipped: str, kind: type[T]) -> T:
    text = source if isinstance(source, str) else (source or SCHEMAS / shipped).read_text()
    return msgspec.convert(tomllib.loads(text), kind)

"""A4: one release, one draw. Workers are ended wherever it could make a second one, and the log is read by an
attacker.

Whoever could see two draws of one number could average them. Real log on the embedded broker, real keys in files,
real noise; each window's releaser is ended at another place, started anew, given the same tallies again, and once
more after that. What fencing does between two that run at once is shown on Apache Kafka
(``tests/deployment/test_apache_kafka.py``).
"""

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
from kafka import TopicPartition

from pipeline.audit.estimates import rate_at_least
from pipeline.audit.findings import Finding, Report, at_most
from pipeline.audit.worlds import Counting, by_day, declaring, line, records, tallied
from pipeline.core.budget import OverBudget
from pipeline.core.events import Record
from pipeline.core.release import Release, decode_release, encode_release
from pipeline.core.tallies import Closed, Tally
from pipeline.core.windows import day_of, window_of
from pipeline.declarations import Declarations
from pipeline.noise import OpenDPNoise
from pipeline.stream import releaselog
from pipeline.stream.broker import embedded_broker
from pipeline.stream.keystore import FileKeyStore
from pipeline.stream.releaselog import Fenced
from pipeline.stream.releasing import KeyGone, Releaser
from pipeline.stream.tallying import encode_tally
from pipeline.stream.topics import RELEASES, TALLIES, create_topics
from pipeline.stream.transport import Batch
from pipeline.testing import declarations
from pipeline.warehouse.errors import WarehouseError
from pipeline.warehouse.projector import rebuild

SINCE = date(2026, 5, 1)
MONTH = 31
PARTITIONS = 2  # of contributions, as in ``pipeline.testing.run``
DECLARED = declaring(by_day("platform", events=5), by_day("feature"))  # one declared, one open


class Ended(Exception):
    """The worker ended here."""


class Place:
    """Where a releaser ends. The default: nowhere."""

    def noise(self, noise: Counting) -> Any:
        return noise

    def keys(self, keys: FileKeyStore) -> Any:
        return keys

    def commit(self, log: releaselog.ReleaseLog, releases: Sequence[Release], /) -> None:
        log.commit(releases)


class WhileDrawing(Place):
    """After some of the draws."""

    def noise(self, noise: Counting) -> Any:
        calls = iter(range(100))

        class Ending:
            def add(self, values: Sequence[int], sigma: float) -> list[int]:
                if next(calls) == 3:
                    raise Ended
                return noise.add(values, sigma)

        return Ending()


class BeforeCommit(Place):
    """Everything is drawn and nothing written."""

    def commit(self, _: releaselog.ReleaseLog, __: Sequence[Release], /) -> None:
        raise Ended


class WithinCommit(Place):
    """One of several releases is written, and the transaction not committed."""

    def commit(self, log: releaselog.ReleaseLog, releases: Sequence[Release], /) -> None:
        calls, encode = iter(range(100)), encode_release
        with replaced(releaselog, "encode_release", lambda release: encode(release) if not next(calls) else _end()):
            log.commit(releases)


class AfterCommit(Place):
    """Everything can be seen, and the worker does not know it."""

    def commit(self, log: releaselog.ReleaseLog, releases: Sequence[Release], /) -> None:
        log.commit(releases)
        raise Ended


class BeforeKey(Place):
    """The key is not yet destroyed."""

    def keys(self, keys: FileKeyStore) -> Any:
        class Ending:
            window, route, destroy = keys.window, keys.route, staticmethod(_end)

        return Ending()


def _end(*_: object) -> None:
    raise Ended


PLACES: tuple[Place, ...] = (Place(), WhileDrawing(), BeforeCommit(), WithinCommit(), AfterCommit(), BeforeKey())


def run(n: int, seed: int, report: Report) -> Iterator[Finding]:
    """``n`` windows, each with a worker that ends at one of :data:`PLACES`."""
    random = np.random.default_rng((seed, 4))
    declared = declarations(statistics=DECLARED)
    stopped = 0
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="headcount-audit-")))
        kafka = {"bootstrap_servers": [stack.enter_context(embedded_broker())]}
        create_topics(kafka, partitions=PARTITIONS)
        keys = FileKeyStore(directory / "keys", secrets.token_bytes(32))
        noise = Counting(OpenDPNoise())
        days = [SINCE + timedelta(days=day) for day in range(n)]
        for number, day in enumerate(days):
            given = counted(declared, keys, day, random)
            stopped += end_and_begin(declared, kafka, keys, noise, PLACES[number % len(PLACES)], given)
            report(number + 1, n)
        seen = [(key, value) for key, value in releaselog.read_log(kafka, TopicPartition(RELEASES, 0))]
        files = [contents(directory / name, kafka) for name in ("one", "two")]
        left = sum(keys.window(window_of("day", day_of(day))) is not None for day in days)
    releases = [decode_release(value) for _, value in seen]
    drawn = Counter((r.statistic, r.start) for r in releases)
    expected = n * len(declared.plan.statistics)
    twice = sum(times - 1 for times in drawn.values())
    tried = f"windows, with a worker ended at each of {len(PLACES)} places; draws that can be seen of one release"
    yield at_most(
        "A4 one draw: visible", tried, n, max(drawn.values(), default=0), 1, lower=rate_at_least(twice, expected, 0.05)
    )
    yield at_most("A4 one draw: missing", "releases that cannot be seen", expected, expected - len(drawn), 0)
    yield at_most(
        "A4 one draw: stopped", "workers that would have drawn without a key, or over the budget", n, stopped, 0
    )
    spent: dict[str, float] = {}
    for release in releases:
        spent[release.start[:7]] = spent.get(release.start[:7], 0.0) + release.rho
    paid = MONTH * declared.policy.budget.day
    yield at_most(
        "A4 one draw: spent",
        "ρ of all releases of days of a month beside what is paid for",
        len(releases),
        max(spent.values(), default=0),
        paid * (1 + 1e-9),
    )
    yield at_most("A4 one draw: keys left", "windows whose key is not destroyed", n, left, 0)
    rows = len(files[0]) or len(releases)
    tried = "rows of a file that is made from the log; those that differ when it is made again, or cannot be made"
    yield at_most("A4 one draw: rebuilt", tried, rows, len(files[0] ^ files[1]) if files[0] else rows, 0)


def end_and_begin(
    declared: Declarations, kafka: dict[str, Any], keys: FileKeyStore, noise: Counting, place: Place, given: Batch
) -> bool:
    """One window: a worker that ends at the place, one that starts anew, the tallies again, and one more. Gives whether
    the second one refused to go on.
    """
    with suppress(Ended), committing(place), _releaser(declared, kafka, place.keys(keys), place.noise(noise)) as first:
        first.handle(given)
    with _releaser(declared, kafka, keys, noise) as second:
        try:
            second.handle(given)
            second.handle(given)
        except (Fenced, KeyGone, OverBudget):
            return True
    return False


@contextmanager
def committing(place: Place) -> Iterator[None]:
    """The log's commit goes by way of the place."""
    commit = releaselog.ReleaseLog.commit

    def by_way_of(log: releaselog.ReleaseLog, releases: Iterable[Release]) -> None:
        with replaced(releaselog.ReleaseLog, "commit", commit):
            place.commit(log, list(releases))

    with replaced(releaselog.ReleaseLog, "commit", by_way_of):
        yield


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another value under the name, for as long as the block lasts."""
    known = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, known)


@contextmanager
def _releaser(declared: Declarations, kafka: dict[str, Any], keys: Any, noise: Any) -> Iterator[Releaser]:
    releaser = Releaser(declared.accountant, keys, noise, kafka)
    try:
        yield releaser
    finally:
        releaser.close()


def counted(declared: Declarations, keys: FileKeyStore, day: date, random: np.random.Generator) -> Batch:
    """All that the partitions give out of one day with some users."""
    lines = [
        line(f"u-{i}", f"{day}T12:00:00Z", i, feature="search", platform="web")
        for i in range(int(random.integers(80, 120)))
    ]
    given: list[Tally | Closed] = list(tallied(declared, records(lines), Lent(keys), day, day + timedelta(days=1)))
    given += [Closed(partition=p, partitions=PARTITIONS, closed=day_of(day) + 1) for p in range(PARTITIONS)]
    return Batch(TALLIES, 0, 0, [Record(place, 0.0, (), encode_tally(each)) for place, each in enumerate(given)])


class Lent:
    """A store's keys, which whoever counts may use and not destroy."""

    def __init__(self, keys: FileKeyStore) -> None:
        self.window, self.route = keys.window, keys.route

    def destroy(self, _: object) -> None:
        """Not here."""


def contents(directory: Path, kafka: dict[str, Any]) -> set[tuple[str, str]]:
    """Every row of every table of a file that is made from the log: (table, row). None where none can be made."""
    try:
        rebuild(directory, kafka)
    except WarehouseError:
        return set()
    with duckdb.connect(str(directory / "statistics.duckdb"), read_only=True) as connection:
        tables = connection.execute("SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal").fetchall()
        return {
            (f"{schema}.{table}", repr(row))
            for schema, table in tables
            for row in connection.execute(f'FROM "{schema}"."{table}"').fetchall()
        }

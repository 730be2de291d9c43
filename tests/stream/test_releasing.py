"""The third hop's shell over a real log: each window released once, whatever is given again, crashes or starts anew."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit.worlds import by_day, declaring
from pipeline.core.budget import Accountant, OverBudget
from pipeline.core.events import Record
from pipeline.core.pseudonyms import KeyStore
from pipeline.core.release import Release, decode_release
from pipeline.core.releasing import Noise
from pipeline.core.statistics import Plan, Statistic, Statistics
from pipeline.core.tallies import Closed, StatisticTally, Tally
from pipeline.core.windows import Window, window_named
from pipeline.declarations import Declarations
from pipeline.stream.keystore import FileKeyStore
from pipeline.stream.releasing import KeyGone, ReleaseHop, Releaser
from pipeline.stream.tallying import encode_tally
from pipeline.stream.topics import RELEASES, TALLIES
from pipeline.stream.transport import Batch
from pipeline.testing import EXACT, NoNoise, declarations
from tests.stream.conftest import KEK, PARTITIONS, read_topic

STATISTICS = declaring(by_day(), by_day("feature", cells=3, events=5))
MAY_5 = window_named("day-2026-05-05")
MAY_6 = window_named("day-2026-05-06")
BOTH = ["active_users/day-2026-05-05/1", "by_feature/day-2026-05-05/1"]


@pytest.fixture(scope="module")
def declared() -> Declarations:
    return declarations(statistics=STATISTICS, policy=EXACT)


class Releasing:
    """Releasers on one log and one set of keys, one after the other, as restarts make them."""

    def __init__(self, kafka: dict[str, Any], keys: FileKeyStore, declared: Declarations) -> None:
        self.kafka, self.keys, self.declared = kafka, keys, declared
        self.releasers: list[Releaser] = []

    def start(self, noise: Noise | None = None, accountant: Accountant | None = None, keys: Any = None) -> Releaser:
        """A worker that knows nothing but what the log and the directory of keys say."""
        releaser = Releaser(accountant or self.declared.accountant, keys or self.keys, noise or NoNoise(), self.kafka)
        self.releasers.append(releaser)
        return releaser

    def log(self) -> list[str]:
        """The keys of all visible releases."""
        return [record.key.decode() for record in read_topic(self.kafka, RELEASES, "read_committed")]

    def releases(self) -> dict[str, Release]:
        return {r.key.decode(): decode_release(r.value) for r in read_topic(self.kafka, RELEASES, "read_committed")}


@pytest.fixture
def releasing(kafka: dict[str, Any], keys: FileKeyStore, declared: Declarations) -> Iterator[Releasing]:
    releasing = Releasing(kafka, keys, declared)
    yield releasing
    for releaser in releasing.releasers:
        releaser.close()


def tallies(keys: KeyStore, window: Window = MAY_5, names: Sequence[str] = ("active_users", "by_feature")) -> list[Any]:
    """What all partitions counted in one window: partition p has p + 1 users of "search", the last one of "export"."""
    key = keys.window(window)
    assert key is not None
    given: list[Any] = []
    for partition in range(PARTITIONS):
        users = partition + 1
        cells, more = [(key.seal("feature", "search"),)], [(key.seal("feature", "export"),)]
        last = partition == PARTITIONS - 1
        counted = {
            "active_users": StatisticTally([()], [users], [2 * users], users, 2 * users),
            "by_feature": StatisticTally(
                cells + more * last, [users] + [1] * last, [2 * users] + [7] * last, users, 2 * users + 7 * last
            ),
        }
        given.append(
            Tally(
                partition=partition,
                partitions=PARTITIONS,
                window=window.name,
                accepted=2 * users,
                statistics={name: counted[name] for name in names},
            )
        )
    return given


def words(window: Window = MAY_5) -> list[Any]:
    """Every partition's word that it gave out all up to the window's end."""
    return [Closed(partition=number, partitions=PARTITIONS, closed=window.end) for number in range(PARTITIONS)]


def batch(*given: Any) -> Batch:
    return Batch(TALLIES, 0, 0, [Record(place, 0.0, (), encode_tally(each)) for place, each in enumerate(given)])


class Interrupted(Exception):
    """A crash."""


def interrupt() -> None:
    raise Interrupted


class Before:
    """A store's keys; before one is destroyed, something is done."""

    def __init__(self, keys: FileKeyStore, do: Callable[[], object]) -> None:
        self.window, self._destroy, self._do = keys.window, keys.destroy, do

    def destroy(self, window: Window) -> None:
        self._do()
        self._destroy(window)


class Failing(NoNoise):
    """Noise that ends the process at the given draw."""

    def __init__(self, draw: int) -> None:
        super().__init__()
        self.draw = draw

    def add(self, values: Sequence[int], sigma: float) -> list[int]:
        if len(self.draws) == self.draw:
            raise Interrupted
        return super().add(values, sigma)


def test_a_window_that_all_partitions_gave_out_is_released_once_and_its_key_destroyed(releasing: Releasing) -> None:
    releaser = releasing.start()
    given = tallies(releasing.keys)
    assert releaser.handle(batch(*given)) == 0  # counted, and nobody's word yet
    assert releaser.handle(batch(*words()[:-1])) == 0
    assert releasing.log() == []
    assert releasing.keys.window(MAY_5) is not None
    assert releaser.handle(batch(words()[-1])) == 1
    assert releasing.log() == BOTH
    assert releasing.keys.window(MAY_5) is None
    found = releasing.releases()
    assert found[BOTH[0]].values == [[6]]
    assert found[BOTH[1]].cells == [("export",), ("search",)]
    assert found[BOTH[1]].values == [[1, 6], [7, 12]]
    assert found[BOTH[1]].total == [6, 19]


def test_tallies_that_are_given_again_release_nothing_more(releasing: Releasing) -> None:
    noise = NoNoise()
    releaser = releasing.start(noise)
    given = tallies(releasing.keys) + words()
    assert releaser.handle(batch(*given)) == 1
    drawn = len(noise.draws)
    assert releaser.handle(batch(*given)) == 0
    assert releaser.handle(batch(*given[:2])) == 0
    assert len(noise.draws) == drawn
    assert releasing.log() == BOTH


def test_who_starts_anew_reads_the_log_first_and_releases_nothing_twice(releasing: Releasing) -> None:
    given = tallies(releasing.keys) + words()
    releasing.start().handle(batch(*given))
    noise = NoNoise()
    again = releasing.start(noise)
    assert again.handle(batch(*given)) == 0
    assert noise.draws == []
    assert releasing.log() == BOTH
    assert again.handle(batch(*tallies(releasing.keys, MAY_6), *words(MAY_6))) == 1
    assert len(releasing.log()) == 4


def test_who_is_given_the_tallies_back_starts_anew(releasing: Releasing, declared: Declarations) -> None:
    hop = ReleaseHop(declared.accountant, releasing.keys, NoNoise(), releasing.kafka)
    given = tallies(releasing.keys) + words()

    async def scenario() -> None:
        assert hop.begin(0, 7, 99) == 7  # the tallies are gathered from the beginning, whatever was committed
        await hop.handle(batch(*given[:2]))
        hop.forget(0)
        await hop.handle(batch(*given))  # it is no longer here to be asked
        hop.begin(0, 0, 99)
        await hop.handle(batch(*words()))  # what had been gathered is forgotten
        assert releasing.log() == []
        hop.begin(0, 0, 99)
        await hop.handle(batch(*given))
        assert releasing.log() == BOTH
        hop.forget(0)

    asyncio.run(scenario())


def test_one_that_is_closed_draws_nothing_and_fences_nobody(releasing: Releasing) -> None:
    noise = NoNoise()
    old, new = releasing.start(noise), releasing.start()
    old.handle(batch())
    old.close()
    new.handle(batch())
    assert old.handle(batch(*tallies(releasing.keys), *words())) == 0
    assert noise.draws == []
    assert new.handle(batch(*tallies(releasing.keys), *words())) == 1
    assert releasing.log() == BOTH


def test_what_a_partition_gave_out_twice_counts_once(releasing: Releasing) -> None:
    given = tallies(releasing.keys)
    releasing.start().handle(batch(*given, *given, *words()))
    assert releasing.releases()[BOTH[0]].values == [[6]]


def test_windows_are_released_together_in_order(releasing: Releasing) -> None:
    given = [*tallies(releasing.keys, MAY_6), *tallies(releasing.keys), *words(MAY_6)]
    assert releasing.start().handle(batch(*given)) == 2
    assert releasing.log() == [*BOTH, *(key.replace("05-05", "05-06") for key in BOTH)]


@pytest.mark.parametrize("draw", [0, 4])  # the first, and a total
def test_a_crash_while_drawing_leaves_nothing_to_be_seen(releasing: Releasing, draw: int) -> None:
    given = tallies(releasing.keys) + words()
    with pytest.raises(Interrupted):
        releasing.start(Failing(draw)).handle(batch(*given))
    assert read_topic(releasing.kafka, RELEASES) == []  # also for those who read what is not committed
    assert releasing.keys.window(MAY_5) is not None
    assert releasing.start().handle(batch(*given)) == 1
    assert releasing.log() == BOTH


def test_a_crash_between_the_draw_and_the_commit_leaves_nothing_to_be_seen(
    releasing: Releasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tallies(releasing.keys) + words()
    crashing = releasing.start()
    crashing.handle(batch())
    assert crashing.log is not None

    def crash(_: object) -> None:
        raise Interrupted

    monkeypatch.setattr(crashing.log, "commit", crash)
    with pytest.raises(Interrupted):
        crashing.handle(batch(*given))
    assert read_topic(releasing.kafka, RELEASES) == []
    assert releasing.keys.window(MAY_5) is not None
    assert releasing.start().handle(batch(*given)) == 1
    assert releasing.log() == BOTH


def test_a_crash_within_the_commit_never_makes_two_of_one(
    releasing: Releasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this broker shows of an aborted transaction counts as released; Apache Kafka shows nothing of it."""
    given = tallies(releasing.keys) + words()
    crashing = releasing.start()
    crashing.handle(batch())
    assert crashing.log is not None
    producer = crashing.log._producer
    send, sent = producer.send, []

    def crash_at_the_second(*args: Any, **more: Any) -> Any:
        if sent:
            raise Interrupted
        sent.append(send(*args, **more))
        return sent[-1]

    monkeypatch.setattr(producer, "send", crash_at_the_second)
    with pytest.raises(Interrupted):
        crashing.handle(batch(*given))
    assert releasing.keys.window(MAY_5) is not None
    assert releasing.start().handle(batch(*given)) == 1
    assert sorted(releasing.log()) == BOTH
    assert releasing.keys.window(MAY_5) is None


def test_a_key_is_destroyed_after_the_release_can_be_seen(releasing: Releasing) -> None:
    seen: list[list[str]] = []
    looking = Before(releasing.keys, lambda: seen.append(releasing.log()))
    releasing.start(keys=looking).handle(batch(*tallies(releasing.keys), *words()))
    assert seen == [BOTH]


def test_a_crash_between_the_commit_and_the_key_is_made_good(releasing: Releasing) -> None:
    given = tallies(releasing.keys) + words()
    with pytest.raises(Interrupted):
        releasing.start(keys=Before(releasing.keys, interrupt)).handle(batch(*given))
    assert releasing.keys.window(MAY_5) is not None
    assert releasing.start().handle(batch(*given)) == 0
    assert releasing.keys.window(MAY_5) is None
    assert releasing.log() == BOTH


def test_a_window_without_key_and_without_release_stops_the_releaser(releasing: Releasing) -> None:
    given = tallies(releasing.keys) + words()
    releasing.keys.destroy(MAY_5)
    with pytest.raises(KeyGone, match=r"day-2026-05-05 has no release, and its key is destroyed.* docs/operators\.md"):
        releasing.start().handle(batch(*given))
    assert read_topic(releasing.kafka, RELEASES) == []


def test_a_window_whose_key_was_lost_stops_the_releaser_and_nothing_is_published(
    releasing: Releasing, tmp_path: Path
) -> None:
    """A directory that was emptied: a new key is drawn, and opens nothing."""
    given = tallies(releasing.keys) + words()
    others = FileKeyStore(tmp_path / "emptied", KEK)
    with pytest.raises(KeyGone, match="is not the one that its cells were sealed under") as stopped:
        releasing.start(keys=others).handle(batch(*given))
    assert "docs/operators.md" in str(stopped.value)
    assert read_topic(releasing.kafka, RELEASES) == []
    assert releasing.start(keys=releasing.keys).handle(batch(*given)) == 1  # with the right directory nothing is lost
    assert releasing.log() == BOTH


def test_a_statistic_that_is_declared_later_does_not_stop_the_windows_that_never_counted_it(
    releasing: Releasing, declared: Declarations
) -> None:
    """Tallies are kept for days: after a change of the statistics the releaser meets some from before it."""
    old = tallies(releasing.keys, names=["active_users"])
    first = Accountant(declared.policy, plan_of(declared, "active_users"))
    releasing.start(accountant=first).handle(batch(*old, *words()))
    assert releasing.log() == BOTH[:1]
    both = releasing.start()
    assert both.handle(batch(*old, *words())) == 0
    assert releasing.log() == BOTH[:1]
    # Nor is one of nothing published where the key is still there.
    waiting = tallies(releasing.keys, MAY_6, names=["active_users"])
    assert both.handle(batch(*waiting, *words(MAY_6))) == 1
    assert releasing.log() == [BOTH[0], BOTH[0].replace("05-05", "05-06")]
    assert releasing.keys.window(MAY_6) is None


def test_a_statistic_that_is_no_longer_declared_is_not_released(releasing: Releasing, declared: Declarations) -> None:
    only = Accountant(declared.policy, plan_of(declared, "active_users"))
    assert releasing.start(accountant=only).handle(batch(*tallies(releasing.keys), *words())) == 1
    assert releasing.log() == BOTH[:1]


def plan_of(declared: Declarations, *names: str) -> Plan:
    """The plan with these statistics only."""
    kept: dict[str, Statistic] = {name: declared.plan.statistics[name] for name in names}
    return Plan(Statistics(version="less", statistics=kept), declared.registry)


# -- what the month cannot pay


def test_a_window_that_the_log_has_no_budget_for_is_refused_before_any_draw(releasing: Releasing) -> None:
    """As after a change of the declarations within a month: what is in the log counts, whatever policy wrote it."""
    modest = declarations(statistics=STATISTICS, day=0.01).accountant
    modest.rho_cap = 0.015  # one day and a half: what another policy spent is as gone as what this one did
    releasing.start(accountant=modest).handle(batch(*tallies(releasing.keys), *words()))
    assert len(releasing.log()) == 2
    noise = NoNoise()
    again = releasing.start(noise, accountant=modest)
    with pytest.raises(OverBudget, match=r"day-2026-05-06 .* May 2026 .* nothing was released"):
        again.handle(batch(*tallies(releasing.keys, MAY_6), *words(MAY_6)))
    assert noise.draws == []
    assert len(releasing.log()) == 2
    assert releasing.keys.window(MAY_6) is not None  # whoever corrects the declarations has it released then


def test_windows_of_one_commit_share_the_budget(releasing: Releasing) -> None:
    modest = declarations(statistics=STATISTICS, day=0.01).accountant
    modest.rho_cap = 0.015
    noise = NoNoise()
    given = [*tallies(releasing.keys), *tallies(releasing.keys, MAY_6), *words(MAY_6)]
    with pytest.raises(OverBudget):
        releasing.start(noise, accountant=modest).handle(batch(*given))
    assert noise.draws == []
    assert releasing.log() == []

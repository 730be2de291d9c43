"""A worker that is killed at any moment loses nothing and counts nothing twice, and no window is ever drawn twice."""

import random
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import msgspec
import pytest

from pipeline.core.outcomes import Reason
from pipeline.replay import Sender
from pipeline.sources import Lines
from pipeline.stack import Stack
from tests.e2e.counting import Counts, count_in_sql, difference
from tests.e2e.running import EXACT, Finished, Kill, finish, stack_of, tell_everything_was_sent

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

START, DAYS, A_DAY = date(2026, 4, 13), 30, 5_000  # a Monday, and a month's end in between
ROWS = DAYS * A_DAY
AGAIN = 1_000  # events that are delivered twice


def events_of(day: date, source: random.Random) -> Iterator[bytes]:
    """A day's events in the order of their times: 6 000 people of very different habits, and some that nobody sent."""
    for number in range(A_DAY):
        second = 86_400 * number // A_DAY
        data = {
            "feature": f"feature-{int(source.paretovariate(0.8)) % 25}",
            "platform": source.choice(["ios", "android", "web", "toaster", None]),
            "app_version": source.choice(["1.0.3", "1.1", "2.0.0", None]),
            "duration_ms": source.choice([None, 10, 5_000, 59_999, 60_000, 10**6]),
        }
        yield msgspec.json.encode(
            {
                "specversion": "1.0",
                "id": f"{day:%d}-{number}",
                "source": "app",
                "type": "usage.feature.used.v1",
                "time": f"{day}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z",
                "subject": None if source.random() < 0.02 else f"u-{int(source.paretovariate(0.5)) % 6_000}",
                "data": {name: value for name, value in data.items() if value is not None},
            }
        )


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("events") / "events.ndjson"
    source = random.Random(11)
    with path.open("wb") as file:
        for number in range(DAYS):
            file.writelines(line + b"\n" for line in events_of(START + timedelta(number), source))
    return path


@pytest.fixture(scope="module")
def expected(events: Path) -> Counts:
    return count_in_sql(events)


def feed(stack: Stack, events: Path) -> Iterator[tuple[int, int]]:
    """Sends day after day, some batches twice, and after each day the word that it is over; a week ahead at most."""
    sender = Sender(stack.kafka)
    with events.open("rb") as file:
        for number in range(DAYS):
            batches = [b"".join(file.readline() for _ in range(500)).rstrip() for _ in range(A_DAY // 500)]
            if number in (3, 17):
                batches.append(batches[0])
            for _ in sender.send(Lines(batch, 500, 0, 0) for batch in batches):
                pass
            sender.tell(START + timedelta(number + 1))
            yield sender.events, 6 * max(0, number - 7)
    tell_everything_was_sent(stack.kafka)


def run(directory: Path, events: Path, workers: int, *kills: Kill, **environment: str) -> Finished:
    with stack_of(directory, workers, **environment) as stack:
        return finish(stack, ROWS + AGAIN, feed(stack, events), kills)


def assert_counted_once(finished: Finished, expected: Counts, seed: int = 0) -> None:
    assert finished.watch.accepted_events() == ROWS, f"seed {seed}"
    # A kill delivers a record again, with where it stood: then it is known, and neither counted nor rejected.
    assert Counter(each.reason for each in set(finished.rejections)) == {Reason.DUPLICATE: AGAIN}, f"seed {seed}"
    twice = [key for key, times in Counter(finished.log).items() if times > 1]
    assert twice == [], f"seed {seed}"
    assert difference(finished.counts, expected) == {}, f"seed {seed}"
    assert not any(release.protects for release in finished.releases.values())


@pytest.fixture(scope="module")
def undisturbed(events: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    finished = run(tmp_path_factory.mktemp("undisturbed"), events, 1)
    assert finished.restarts == 0
    return finished


def test_an_undisturbed_run_counts_what_plain_sql_counts(undisturbed: Finished, expected: Counts) -> None:
    assert len(expected) == 6 * (DAYS + 5 + 2)
    assert sum(map(len, expected.values())) > 5_000
    assert_counted_once(undisturbed, expected)


def test_a_worker_that_is_killed_again_and_again_changes_nothing(
    events: Path, expected: Counts, undisturbed: Finished, tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    source = random.Random(seed)
    shares = [source.uniform(0.1, 0.35), source.uniform(0.4, 0.65)]
    kills = [Kill(0, lambda contributed, _, share=share: contributed >= share) for share in shares]
    some = source.randrange(6 * 20, 6 * 28)  # of 222: while it is releasing, some windows are out and others are not
    kills.append(Kill(0, lambda _, released: released >= some))
    finished = run(tmp_path, events, 1, *kills)
    assert [kill.at is not None and kill.at[0] > 0.05 and kill.at[1] < len(expected) for kill in kills] == [True] * 3
    assert finished.restarts == 3
    assert_counted_once(finished, expected, seed)
    assert finished.counts == undisturbed.counts


def test_one_of_two_workers_that_is_killed_changes_nothing(
    events: Path, expected: Counts, undisturbed: Finished, tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    share = random.Random(seed).uniform(0.3, 0.7)
    kill = Kill(1, lambda contributed, _: contributed >= share)
    finished = run(tmp_path, events, 2, kill, HEADCOUNT_KEYS="kafka:")  # also: keys that two workers draw are one key
    assert kill.at is not None
    assert kill.at[0] < 1
    assert finished.restarts == 1
    assert_counted_once(finished, expected, seed)
    assert finished.counts == undisturbed.counts


def test_the_policy_of_these_tests_is_the_one_that_protects_nobody() -> None:
    assert "protects-nobody" in EXACT.read_text()


@pytest.mark.parametrize("workers", [1, 2])
def test_nor_does_going_on_from_checkpoints(
    events: Path, expected: Counts, undisturbed: Finished, tmp_path: Path, workers: int
) -> None:
    seed = random.randrange(10**6)
    source = random.Random(seed)
    shares = [source.uniform(0.2, 0.4), source.uniform(0.5, 0.8)]
    kills = [Kill(0, lambda contributed, _, share=share: contributed >= share) for share in shares]
    checkpoints = {"HEADCOUNT_CHECKPOINTS": str(tmp_path / "checkpoints"), "HEADCOUNT_CHECKPOINT_SECONDS": "0.1"}
    finished = run(tmp_path, events, workers, *kills, **checkpoints)
    assert_counted_once(finished, expected, seed)
    assert finished.counts == undisturbed.counts
    logs = b"".join(path.read_bytes() for path in (tmp_path / "logs").iterdir())
    assert b"goes on from a checkpoint" in logs, f"seed {seed}"
    assert b"passed over" not in logs, f"seed {seed}"

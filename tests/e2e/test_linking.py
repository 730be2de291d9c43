"""Who holds every file, every topic, the key-encryption key and a list of everybody can link before a window closes,
and not after.

What they do not hold is ``usage.events``: it names everybody for as long as it is kept, whatever became of the keys
(48 hours; ``schemas/PROMISE.md``).
"""

import base64
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import msgspec
import pytest

from pipeline.core.contributions import Contributions, decode_contribution
from pipeline.core.windows import day_of
from pipeline.replay import PARTITIONS, Sender, no_report, wait_for_releases
from pipeline.settings import SCHEMAS, Settings
from pipeline.sources import Lines
from pipeline.stack import Stack
from pipeline.stream.keys import KeyState, open_keys
from pipeline.stream.topics import CONTRIBUTIONS, EVENTS, KEYS, TOPICS
from pipeline.warehouse.projector import rebuild
from tests.e2e.linking import Attacker, Event, compacted
from tests.e2e.running import Reader, declared, read_all, stack_of, tell_everything_was_sent
from tests.e2e.test_planted_data import files_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(280)]

POLICY = SCHEMAS / "policy.toml"
SOURCE = "shop-web"
DAYS = ("2026-05-05", "2026-05-06")
SUBJECTS = [f"subject-{number}" for number in range(160)]
EVERYBODY = [
    Event(subject, f"e-{number}-{day}", f"{'search' if number % 3 else f'feature-of-{number}'}", day)
    for number, subject in enumerate(SUBJECTS)
    for day in DAYS
]
FEATURES = {event.feature for event in EVERYBODY}
WINDOWS = ("day-2026-05-05", "day-2026-05-06", "month-2026-05-01", "week-2026-05-04")
HELD = tuple(topic.name for topic in TOPICS if topic.name != EVENTS)


def line(event: Event) -> bytes:
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": event.id,
            "source": SOURCE,
            "type": "usage.feature.used.v1",
            "subject": event.subject,
            "time": f"{event.day}T10:00:00Z",
            "data": {"feature": event.feature, "platform": "web"},
        }
    )


@dataclass
class Run:
    """What there was to be held at four moments, and the states of the keys at the last."""

    open: Attacker  # everything is counted, nothing is closed
    first_day: Attacker  # the first day is released
    released: Attacker  # everything is
    rotated: Attacker  # under a new key-encryption key; nobody has the old one any more
    states: list[KeyState]


@pytest.fixture(scope="module", params=["files", "topic"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    root = tmp_path_factory.mktemp("linking")
    (root / "temporary").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(root / "temporary"))  # of the workers
        patch.setattr(tempfile, "tempdir", str(root / "temporary"))  # of the broker's log and the directory of keys
        store = {"HEADCOUNT_KEYS": "kafka:"} if request.param == "topic" else {}
        with stack_of(root / "run", 1, POLICY, **store) as stack:
            yield run_in(root, stack)


def run_in(root: Path, stack: Stack) -> Run:
    plan = declared(POLICY).plan
    with closing(Sender(stack.kafka)) as sender:
        batches = [EVERYBODY[start : start + 40] for start in range(0, len(EVERYBODY), 40)]
        list(sender.send(Lines(b"\n".join(map(line, batch)), len(batch), 0, 0) for batch in batches))
        wait_until_all_is_contributed(stack)
        at_first = holding(root, stack)
        sender.tell(date(2026, 5, 6))
        until = day_of(date(2026, 5, 6))
        wait_for_releases(stack, plan, no_report, until)
        wait_for_keys(stack, {*WINDOWS[1:], "route"})
        first_day = holding(root, stack)
    tell_everything_was_sent(stack.kafka)
    wait_for_releases(stack, plan, no_report)
    wait_for_keys(stack, {"route"})
    stack.stop()
    rebuild(root / "run", stack.kafka)
    released = holding(root, stack)
    new = base64.b64encode(secrets.token_bytes(32)).decode()
    both = {**stack.environment, "HEADCOUNT_KEK": f"{new}\n{stack.environment['HEADCOUNT_KEK']}"}
    with closing(open_keys(Settings.from_environment(both), make=False)) as store:
        assert store.rotate() == 1  # the route's
        states = store.states()
    stack.environment["HEADCOUNT_KEK"] = new
    return Run(at_first, first_day, released, holding(root, stack), states)


def wait_until_all_is_contributed(stack: Stack) -> None:
    reader, rows, deadline = Reader(stack.kafka, CONTRIBUTIONS), 0, time.monotonic() + 60
    while rows < len(EVERYBODY):
        found = [decode_contribution(record.value) for record in reader.poll(0.2)]
        rows += sum(each.rows for each in found if isinstance(each, Contributions))
        stack.supervise()
        assert time.monotonic() < deadline, f"{rows} rows of {len(EVERYBODY)}"


def wait_for_keys(stack: Stack, live: set[str]) -> None:
    """Until these are the keys that live, as `headcount keys` says it."""
    deadline = time.monotonic() + 60
    with closing(open_keys(Settings.from_environment(stack.environment), make=False)) as store:
        while (found := {each.id for each in store.states() if each.state == "live"}) != live:
            time.sleep(0.1)
            assert time.monotonic() < deadline, found


def holding(root: Path, stack: Stack) -> Attacker:
    """All of it, as it is now."""
    return Attacker(
        files={str(path.relative_to(root)): path.read_bytes() for path in files_of(root)},
        topics=read_all(stack.kafka, *HELD),
        keks=[base64.b64decode(stack.environment["HEADCOUNT_KEK"])],
        source=SOURCE,
        everybody=EVERYBODY,
    )


def after_compaction(attacker: Attacker) -> Attacker:
    """On Apache Kafka, within the hour (``tests/deployment/test_keys.py`` sees it happen)."""
    return replace(attacker, topics={**attacker.topics, KEYS: compacted(attacker.topics[KEYS])})


def of(window: str) -> list[Event]:
    """The events of a window."""
    return [event for event in EVERYBODY if not window.startswith("day") or window.endswith(event.day)]


def test_before_a_window_closes_everybody_can_be_linked(run: Run) -> None:
    """So the test can fail."""
    found = run.open.link()
    for window in WINDOWS:
        assert found.subjects[window] == set(SUBJECTS)
        assert found.features[window] == FEATURES
        if window.startswith("day"):
            assert found.events[window] == {event.id for event in of(window)}


def test_a_row_can_be_linked_until_the_last_of_its_windows_is_released(run: Run) -> None:
    """It has a pseudonym of the day, one of the week and one of the month, side by side."""
    found = after_compaction(run.first_day).link()
    assert {"day-2026-05-05"}.isdisjoint(found.subjects.keys() | found.events.keys() | found.features.keys())
    for window in WINDOWS[1:]:
        assert found.subjects[window] == set(SUBJECTS)


def test_after_the_release_nobody_can_be_linked_and_nothing_be_opened(run: Run) -> None:
    attacker = after_compaction(run.released)
    assert len(list(attacker.rows())) == 3 * len(EVERYBODY)  # the rows are all there
    assert not attacker.link()


def test_what_is_left_in_a_log_that_is_not_compacted_is_worth_nothing_under_a_new_key_encryption_key(run: Run) -> None:
    in_topic = len(run.released.topics[KEYS]) > 0
    assert bool(run.released.link()) == in_topic  # as PROMISE.md says, until the log is compacted
    assert not run.rotated.link()


def test_the_one_key_that_is_left_tells_which_partition_and_no_more(run: Run) -> None:
    attacker = after_compaction(run.rotated)
    [router] = attacker.routes(PARTITIONS)
    crowds = [0] * PARTITIONS
    for subject in SUBJECTS:
        crowds[router.partition(subject)] += 1
    pseudonyms: list[set[bytes]] = [set() for _ in range(PARTITIONS)]
    for record in attacker.topics[CONTRIBUTIONS]:
        batch = decode_contribution(record.value)
        if isinstance(batch, Contributions):
            month = batch.windows[-1].pseudonyms
            pseudonyms[record.partition].update(month[at : at + 16] for at in range(0, len(month), 16))
    assert [len(each) for each in pseudonyms] == crowds  # it is the route's: each partition holds its crowd
    assert min(crowds) > len(SUBJECTS) / PARTITIONS / 2


def test_the_store_says_that_all_windows_keys_are_destroyed(run: Run) -> None:
    states = {each.id: each.state for each in run.states}
    assert states == {**dict.fromkeys(WINDOWS, "destroyed"), "route": "live"}


def test_a_key_that_lies_about_anywhere_would_link_again(run: Run) -> None:
    """In a log, say, or between the pages of a table."""
    log = b"\n".join(b"drawn: " + key + bytes(100) for key in run.open.unwrapped())
    careless = replace(run.rotated, files={**run.rotated.files, "worker-1.log": log})
    assert careless.link().subjects == {window: set(SUBJECTS) for window in WINDOWS}


def test_all_that_there_is_was_held(run: Run) -> None:
    for attacker in (run.open, run.released):
        assert attacker.topics.keys() == {topic.name for topic in TOPICS} - {EVENTS}
        assert any(name.endswith("worker-1.log") for name in attacker.files)
        keys = [name for name in attacker.files if "headcount-keys-" in name]
        assert bool(keys) != bool(attacker.topics[KEYS])
    assert {Path(name).name for name in run.released.files} >= {"work.duckdb", "worker-1.log"}
    assert any(name.startswith("run/statistics") for name in run.released.files)

"""A checkpoint changes how long a restart takes, and nothing else; it is gone with the windows that are in it."""

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.checkpoints import restore, save, save_window
from pipeline.core.contributions import Contributions, Progress, decode_contribution, encode_contribution
from pipeline.core.events import Record
from pipeline.core.ingest import Ingest
from pipeline.core.tallies import FOREVER, PartitionState
from pipeline.core.windows import Window, day_of, window_named
from pipeline.stream import checkpoints as module
from pipeline.stream.checkpoints import Checkpoints
from pipeline.stream.keywrapping import KeyStoreError
from pipeline.stream.tallying import TallyHop
from pipeline.stream.topics import CONTRIBUTIONS
from pipeline.stream.transport import Batch
from pipeline.testing import OPEN, MemoryKeyStore, event, record
from tests.properties.worlds import SHOW_ALL, SINCE, UNTIL, Event, events, examples
from tests.stream.conftest import Sent

PLAN = SHOW_ALL.plan
LOG = "the-topic"


def contributions(contents: list[Event], keys: MemoryKeyStore, words: list[int]) -> list[bytes]:
    """One partition's log: each event in a record of its own, words in between, and some records twice."""
    ingest = Ingest(SHOW_ALL.registry, PLAN, SHOW_ALL.policy, keys, 1, (day_of(SINCE), day_of(UNTIL)))
    log = []
    for offset, each in enumerate(contents):
        found = ingest.ingest(0, [record(each, offset=offset)], OPEN)
        log += [encode_contribution(c) for c in found.contributions.values()]
        if offset < len(words):
            log.append(encode_contribution(Progress(0, 1, words[offset], day_of(SINCE), day_of(UNTIL))))
        if offset % 3 == 0:
            log += log[-1:]
    return [*log, encode_contribution(Progress(0, 1, FOREVER, day_of(SINCE), day_of(UNTIL)))]


def fold(state: PartitionState, log: list[bytes]) -> list[Any]:
    given: list[Any] = []
    for value in log:
        contribution = decode_contribution(value)
        given += state.fold(contribution) if isinstance(contribution, Contributions) else state.advance(contribution)
    return given


def through_bytes(state: PartitionState) -> PartitionState:
    """Saved, and made again in another process."""
    common = msgspec.msgpack.decode(msgspec.msgpack.encode(save(state, LOG, 7)), type=type(save(state, LOG, 7)))
    windows = {w: save_window(state, w) for w in state.windows}
    again = {w: msgspec.msgpack.decode(msgspec.msgpack.encode(s), type=type(s)) for w, s in windows.items()}
    return restore(common, again, PLAN, bounded=True)


@examples(60)
@given(st.data(), events())
def test_a_state_that_was_saved_anywhere_gives_what_it_would_have_given(
    data: st.DataObject, contents: list[Event]
) -> None:
    contents += data.draw(st.lists(st.sampled_from(contents), max_size=5)) if contents else []
    words = data.draw(st.lists(st.integers(day_of(SINCE), day_of(UNTIL)), max_size=4))
    log = contributions(contents, MemoryKeyStore(), words)
    plain = PartitionState(0, 1, PLAN)
    expected = fold(plain, log)
    state, found = PartitionState(0, 1, PLAN), []
    cuts = sorted(data.draw(st.sets(st.integers(0, len(log)), max_size=4)))
    for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True):
        found += fold(state, log[start:end])
        state = through_bytes(state)
    assert found == expected


class Place:
    """A directory of checkpoints, and the keys that they are sealed under."""

    def __init__(self, directory: Path, sent: Sent) -> None:
        self.keys, self.directory, self.sent = MemoryKeyStore(), directory, sent
        self.log = contributions(
            [event(id=str(n), subject=f"u-{n}", time=f"2026-05-0{1 + n // 3}T10:00:00Z") for n in range(9)],
            self.keys,
            [],
        )

    def open(self, identity: str = LOG) -> Checkpoints:
        return Checkpoints(self.directory, self.keys, PLAN, identity, bounded=True)

    def hop(self, identity: str = LOG) -> TallyHop:
        return TallyHop(PLAN, self.sent, partitions=1, bounded=True, checkpoints=self.open(identity), every=0.0)

    def handle(self, hop: TallyHop, start: int, end: int) -> list[bytes]:
        records = [Record(offset, 0.0, (), self.log[offset]) for offset in range(start, end)]
        asyncio.run(hop.handle(Batch(CONTRIBUTIONS, 0, start, records)))
        return [value for _, _, value in self.sent.take()]

    def begun(self, committed: int | None = 4, identity: str = LOG, earliest: int = 0) -> int:
        return self.hop(identity).begin(0, earliest, committed)

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*") if path.is_file())


@pytest.fixture
def place(tmp_path: Path, sent: Sent) -> Place:
    place = Place(tmp_path / "checkpoints", sent)
    hop = place.hop()
    assert hop.begin(0, 0, None) == 0
    place.handle(hop, 0, 4)
    return place


def test_a_restart_reads_on_from_the_checkpoint_and_gives_the_same(place: Place, exact: object) -> None:
    plain = TallyHop(PLAN, place.sent, partitions=1, bounded=True)
    plain.begin(0, 0, None)
    expected = place.handle(plain, 0, len(place.log))
    hop = place.hop()
    assert hop.begin(0, 0, 4) == 4
    assert place.handle(hop, 4, len(place.log)) == expected


def test_there_is_a_file_for_each_window_and_nothing_of_it_can_be_read(place: Place) -> None:
    at = f"0/{4:020d}"
    assert place.files() == [f"{at}/{name}" for name in
                             ("day-2026-05-01", "month-2026-05-01", "state", "week-2026-04-27")]  # fmt: skip
    key = place.keys.window(window_named("day-2026-05-01"))
    assert key is not None
    everything = b"".join(path.read_bytes() for path in place.directory.rglob("*") if path.is_file())
    for n in range(3):
        assert key.pseudonym(f"u-{n}") not in everything
    assert all((path.stat().st_mode & 0o077) == 0 for path in place.directory.rglob("*"))


def test_the_last_checkpoint_is_kept_and_no_other(place: Place) -> None:
    hop = place.hop()
    hop.begin(0, 0, 4)
    place.handle(hop, 4, 6)
    assert {name.split("/")[1] for name in place.files()} == {f"{6:020d}"}


def test_a_window_that_is_given_out_is_in_no_checkpoint_any_more(place: Place) -> None:
    hop = place.hop()
    hop.every = 3600.0
    hop.begin(0, 0, 4)
    place.log[4] = encode_contribution(Progress(0, 1, day_of(SINCE) + 4, day_of(SINCE), day_of(UNTIL)))  # 2 May
    place.handle(hop, 4, 5)
    assert not [name for name in place.files() if "day-2026-05-01" in name]
    assert [name for name in place.files() if "month-2026-05-01" in name]


def test_a_state_whose_tallies_are_not_sent_is_in_no_checkpoint(place: Place) -> None:
    """Whoever went on from it would take the windows for given out: they would never be."""
    plain = TallyHop(PLAN, place.sent, partitions=1, bounded=True)
    plain.begin(0, 0, None)
    expected = place.handle(plain, 0, len(place.log))

    async def broken(topic: str, partition: int, value: bytes) -> None:
        raise asyncio.CancelledError

    hop = place.hop()
    hop.begin(0, 0, 4)
    hop.every = 3600.0
    hop.assigned[0].due = float("inf")
    place.handle(hop, 4, 6)  # further than the checkpoint
    hop.send = broken
    with pytest.raises(asyncio.CancelledError):
        place.handle(hop, 6, len(place.log))
    asyncio.run(hop.save())
    again = place.hop()
    start = again.begin(0, 0, 4)
    assert place.handle(again, start, len(place.log)) == expected


def test_a_checkpoint_with_a_window_whose_key_is_destroyed_cannot_be_read_and_is_removed(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.keys.destroy(window_named("day-2026-05-01"))
    assert place.begun() == 0
    assert "a window in it was released" in caplog.text
    place.open().sweep()
    assert place.files() == []


def test_whoever_keeps_a_copy_of_the_files_cannot_read_them_once_the_key_is_destroyed(place: Place) -> None:
    window = window_named("day-2026-05-01")
    copy = {name: (place.directory / name).read_bytes() for name in place.files()}
    place.keys.destroy(window)
    place.open().sweep()
    other = MemoryKeyStore("another key")
    for name, data in copy.items():
        (place.directory / name).parent.mkdir(parents=True, exist_ok=True)
        (place.directory / name).write_bytes(data)
    place.keys = other
    assert place.begun() == 0


def own(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What checkpoints said; threads of clients that other tests have closed may still say something."""
    return [record for record in caplog.records if record.name == "headcount.checkpoints"]


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [torn, flipped, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", ["state", "day-2026-05-01", "month-2026-05-01"])
def test_a_damaged_checkpoint_is_passed_over_with_one_line(
    place: Place, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object], name: str
) -> None:
    damage(place.directory / "0" / f"{4:020d}" / name)
    assert place.begun() == 0
    [said] = own(caplog)
    assert "passed over" in said.getMessage()


def test_another_log_s_or_an_old_checkpoint_is_passed_over(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    assert place.begun(identity="made anew") == 0
    assert "of another log" in caplog.text
    assert place.begun(earliest=5) == 5
    assert "the log begins after it" in caplog.text
    assert place.begun(committed=None) == 0  # nothing was ever handled under this group
    assert place.begun() == 4


def test_what_a_crash_left_half_written_is_no_checkpoint_and_does_not_stay(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    hop = place.hop()
    hop.begin(0, 0, 4)
    whole = place.files()

    def crash(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_sync", crash)
    monkeypatch.setattr(module.shutil, "rmtree", crash)  # who is killed tidies nothing up
    with pytest.raises(KeyboardInterrupt):
        place.open().write(hop.assigned[0].state, 6)
    monkeypatch.undo()
    assert len(place.files()) > len(whole)
    assert place.begun() == 4
    assert place.files() == whole


def test_a_full_disk_is_said_and_costs_no_more_than_the_shortcut(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    hop = place.hop()
    hop.begin(0, 0, 4)
    monkeypatch.setattr(module, "_write", full)
    place.handle(hop, 4, 6)
    assert "was not written (OSError: No space left on device)" in caplog.text
    assert place.begun() == 4
    monkeypatch.undo()
    hop.assigned[0].due = 0.0
    place.handle(hop, 6, 7)
    assert place.begun() == 7
    assert own(caplog)[-1].levelno == logging.ERROR


def test_keys_that_cannot_be_had_cost_no_more_than_the_shortcut(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(_: Window) -> None:
        raise KeyStoreError("the store is away")

    monkeypatch.setattr(place.keys, "window", away)
    assert place.begun() == 0
    assert "passed over: KeyStoreError" in caplog.text
    place.open().sweep()
    monkeypatch.undo()
    assert place.begun() == 4

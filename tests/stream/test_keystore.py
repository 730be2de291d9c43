"""The windows' keys in files: one for all who ask, gone for all when it is destroyed."""

import multiprocessing
import os
import re
import secrets
import stat
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.core.windows import Window, window_named, windows_between
from pipeline.stream import keystore
from pipeline.stream.keystore import FileKeyStore
from pipeline.stream.keywrapping import KeyStoreError
from tests.stream.conftest import KEK

MAY = window_named("month-2026-05-01")
DAY = window_named("day-2026-05-05")


def mark_of(store: FileKeyStore, window: Window) -> bytes | None:
    """What tells one key from another."""
    key = store.window(window)
    return key and key.pseudonym("somebody")


def draw(directory: Path, names: list[str]) -> list[bytes | None]:
    store = FileKeyStore(directory, KEK)
    return [mark_of(store, window_named(name)) for name in names]


DAYS = [window.name for window in windows_between("day", 20_000, 20_030)]


def test_processes_that_ask_at_once_get_one_key(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        given = list(pool.map(draw, [tmp_path / "keys"] * 3, [DAYS] * 3))
    assert given[1:] == given[:-1]
    assert len(set(given[0])) == len(DAYS)  # a key of its own for each window


def test_threads_that_ask_at_once_get_one_key(tmp_path: Path) -> None:
    stores = [FileKeyStore(tmp_path / "keys", KEK) for _ in range(8)]
    for name in DAYS:
        together = threading.Barrier(len(stores))

        def ask(store: FileKeyStore, name: str = name, together: threading.Barrier = together) -> bytes | None:
            together.wait()
            return mark_of(store, window_named(name))

        with ThreadPoolExecutor(len(stores)) as pool:
            assert len(set(pool.map(ask, stores))) == 1


def test_a_key_outlives_the_process_that_drew_it(tmp_path: Path) -> None:
    first = mark_of(FileKeyStore(tmp_path / "keys", KEK), DAY)
    assert first is not None
    assert mark_of(FileKeyStore(tmp_path / "keys", KEK), DAY) == first


def test_a_destroyed_key_is_gone_for_ever_and_for_everybody(tmp_path: Path) -> None:
    mine, cached, idle = (FileKeyStore(tmp_path / "keys", KEK) for _ in range(3))
    assert mark_of(mine, DAY) == mark_of(cached, DAY) is not None
    mine.destroy(DAY)
    assert [store.window(DAY) for store in (mine, cached, idle, FileKeyStore(tmp_path / "keys", KEK))] == [None] * 4
    mine.destroy(DAY)  # again: nothing changes
    assert mine.window(DAY) is None
    assert mine.window(MAY) is not None


def test_a_window_that_nobody_asked_for_can_be_destroyed(keys: FileKeyStore) -> None:
    keys.destroy(DAY)
    assert keys.window(DAY) is None


def test_what_another_worker_destroyed_is_dropped_from_memory(tmp_path: Path) -> None:
    mine, other = (FileKeyStore(tmp_path / "keys", KEK) for _ in range(2))
    for store in (mine, other):
        store.window(DAY)
        store.window(MAY)
    other.destroy(DAY)
    mine.forget_destroyed()
    assert set(mine._known) == {MAY}


def test_drawing_and_destroying_at_once_ends_with_no_key_and_no_error(tmp_path: Path) -> None:
    """Ingest asks in one thread while the releaser destroys in another and the timer tidies up."""
    stores = [FileKeyStore(tmp_path / "keys", KEK) for _ in range(2)]
    windows = list(windows_between("day", 20_000, 20_060))
    done = threading.Event()

    def ask(store: FileKeyStore) -> None:
        while not done.is_set():
            for window in windows:
                store.window(window)

    def tidy(store: FileKeyStore) -> None:
        while not done.is_set():
            store.forget_destroyed()

    def destroy() -> None:
        try:
            for window in windows:
                stores[0].destroy(window)
        finally:
            done.set()

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(ask, store) for store in stores * 2] + [pool.submit(tidy, stores[0])]
        running.append(pool.submit(destroy))
    for each in running:
        each.result()
    assert all(store.window(window) is None for store in stores for window in windows)
    assert not list((tmp_path / "keys").glob("day-*.key"))


def test_a_key_that_is_destroyed_while_it_is_read_is_gone_and_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = (FileKeyStore(tmp_path / "keys", KEK) for _ in range(2))
    other.window(DAY)
    read = Path.read_bytes

    def destroyed_just_before(path: Path) -> bytes:
        if path.name == f"{DAY.name}.key":
            with path.open("r+b") as file:  # overwritten, not yet removed
                other._mark(DAY.name).touch()
                file.write(bytes(path.stat().st_size))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", destroyed_just_before)
    assert mine.window(DAY) is None


def test_a_key_that_is_removed_while_it_is_drawn_is_gone_and_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = (FileKeyStore(tmp_path / "keys", KEK) for _ in range(2))
    link = os.link

    def destroyed_just_after(source: Path, target: Path) -> None:
        link(source, target)
        other.destroy(DAY)

    monkeypatch.setattr(os, "link", destroyed_just_after)
    assert mine.window(DAY) is None
    assert not list((tmp_path / "keys").glob("*day*.key"))


@pytest.mark.parametrize("window", [DAY, MAY], ids=["a window that it knows", "one that it does not"])
@pytest.mark.parametrize("empty", [True, False], ids=["an empty directory", "none"])
def test_a_directory_that_is_gone_is_not_taken_for_a_new_one(tmp_path: Path, empty: bool, window: Window) -> None:
    """A volume that is not mounted any more: a second key for an open window would count everybody in it twice."""
    store = FileKeyStore(tmp_path / "keys", KEK)
    expected = mark_of(store, DAY)
    (tmp_path / "keys").rename(tmp_path / "elsewhere")
    if empty:
        (tmp_path / "keys").mkdir(mode=0o700)
    for _ in range(2):
        store.forget_destroyed()
        with pytest.raises(KeyStoreError, match=r"has lost .* docs/operators\.md"):
            store.window(window)
    if empty:
        assert list((tmp_path / "keys").iterdir()) == []
        (tmp_path / "keys").rmdir()
    (tmp_path / "elsewhere").rename(tmp_path / "keys")
    assert store.window(window) is not None
    assert mark_of(store, DAY) == expected


def test_a_key_that_is_lost_and_not_destroyed_is_not_drawn_again(tmp_path: Path) -> None:
    store = FileKeyStore(tmp_path / "keys", KEK)
    store.window(DAY)
    (tmp_path / "keys" / f"{DAY.name}.key").unlink()
    with pytest.raises(KeyStoreError, match=f"has lost the key of {DAY.name}"):
        store.window(DAY)


def test_what_a_worker_that_died_while_it_destroyed_a_key_has_left_is_erased_by_the_next(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    store = FileKeyStore(directory, KEK)
    store.window(DAY)
    store._mark(DAY.name).touch()
    assert [each.erased for each in store.states() if each.state == "destroyed"] == [False]
    again = FileKeyStore(directory, KEK)
    assert again.window(DAY) is None
    assert [each.erased for each in again.states() if each.state == "destroyed"] == [True]
    assert not (directory / f"{DAY.name}.key").exists()


def test_a_wrong_key_encryption_key_is_refused_and_says_so(tmp_path: Path) -> None:
    FileKeyStore(tmp_path / "keys", KEK)
    with pytest.raises(KeyStoreError, match="the key-encryption key is not the one that it was wrapped under"):
        FileKeyStore(tmp_path / "keys", bytes(32))


def test_a_key_put_in_another_window_s_place_is_refused(tmp_path: Path) -> None:
    store = FileKeyStore(tmp_path / "keys", KEK)
    store.window(MAY)
    path = tmp_path / "keys" / f"{MAY.name}.key"
    path.rename(path.with_name(f"{DAY.name}.key"))
    with pytest.raises(KeyStoreError):
        store.window(DAY)


@pytest.mark.parametrize("size", [0, 5, 12, 59])
def test_a_truncated_key_is_refused(tmp_path: Path, size: int) -> None:
    FileKeyStore(tmp_path / "keys", KEK).window(DAY)
    os.truncate(tmp_path / "keys" / f"{DAY.name}.key", size)
    with pytest.raises(KeyStoreError):
        FileKeyStore(tmp_path / "keys", KEK).window(DAY)


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o777, 0o710])
def test_a_directory_that_others_can_enter_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys").chmod(mode)
    with pytest.raises(KeyStoreError, match="chmod 700"):
        FileKeyStore(tmp_path / "keys", KEK)


def test_only_the_owner_can_read_what_the_store_writes(tmp_path: Path) -> None:
    before = os.umask(0)  # the most careless one
    try:
        store = FileKeyStore(tmp_path / "keys", KEK)
        store.window(DAY)
        store.window(MAY)
        store.destroy(MAY)
    finally:
        os.umask(before)
    paths = [tmp_path / "keys", *(tmp_path / "keys").iterdir()]
    assert len(paths) == 4
    assert not any(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) for path in paths)


def test_no_bytes_of_a_destroyed_key_are_left_in_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []
    token_bytes = secrets.token_bytes

    def remembered(size: int) -> bytes:
        drawn.append(token_bytes(size))
        return drawn[-1]

    monkeypatch.setattr(keystore.secrets, "token_bytes", remembered)
    directory = tmp_path / "keys"
    store = FileKeyStore(directory, KEK)
    store.window(DAY)
    path = directory / f"{DAY.name}.key"
    wrapped = path.read_bytes()
    os.link(path, directory / ".draft")  # a crash may leave a second name of the same bytes
    clear = [each for each in drawn if len(each) == 32]
    assert len(clear) == 2  # the route's and the window's
    assert not any(each in other.read_bytes() for each in [*clear, KEK] for other in directory.iterdir())
    with path.open("rb") as held_open:
        store.destroy(DAY)
        assert held_open.read() == bytes(len(wrapped))
    left = {other.name: other.read_bytes() for other in directory.iterdir()}
    assert left.keys() == {"route.key", ".draft", f"{DAY.name}.destroyed"}
    for start in range(len(wrapped) - 8):
        assert not any(wrapped[start : start + 8] in content for content in left.values())


def test_the_route_outlives_windows_and_restarts(tmp_path: Path) -> None:
    store = FileKeyStore(tmp_path / "keys", KEK)
    route, born = store.route(), store.born()
    store.window(DAY)
    store.destroy(DAY)
    again = FileKeyStore(tmp_path / "keys", KEK)
    assert again.route() == route
    assert again.born() == born
    assert FileKeyStore(tmp_path / "others", KEK).route() != route


def test_a_file_s_name_says_which_window_and_nothing_else(keys: FileKeyStore, tmp_path: Path) -> None:
    for window in (DAY, MAY):
        key = keys.window(window)
        assert key is not None
        for subject in ("jan.jansen@voorbeeld.example", "0612345678"):
            key.pseudonym(subject)
            key.seal("feature", subject)
    keys.destroy(DAY)
    names = sorted(path.name for path in (tmp_path / "keys").iterdir())
    assert names == ["day-2026-05-05.destroyed", "month-2026-05-01.key", "route.key"]
    assert all(re.fullmatch(r"route\.key|(day|week|month)-\d{4}-\d\d-\d\d\.(key|destroyed)", name) for name in names)
    assert (tmp_path / "keys" / "day-2026-05-05.destroyed").read_bytes() == b""


def test_nothing_is_marked_as_destroyed_in_a_directory_that_is_not_the_one_with_the_key(tmp_path: Path) -> None:
    directory, elsewhere = tmp_path / "keys", tmp_path / "elsewhere"
    store = FileKeyStore(directory, KEK)
    before = mark_of(store, MAY)
    directory.rename(elsewhere)
    directory.mkdir(0o700)
    with pytest.raises(KeyStoreError, match="put the directory back"):
        store.destroy(MAY)
    assert list(directory.iterdir()) == []
    directory.rmdir()
    elsewhere.rename(directory)
    assert mark_of(store, MAY) == before
    store.destroy(MAY)
    assert store.window(MAY) is None

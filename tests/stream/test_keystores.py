"""Files and topic behave the same, whoever draws, destroys, dies, comes back or wraps anew, in whatever order."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from kafka.admin import KafkaAdminClient, NewTopic

from pipeline.core.pseudonyms import WindowKey
from pipeline.core.windows import Window, window_named
from pipeline.stream import keytopic
from pipeline.stream.broker import embedded_broker
from pipeline.stream.keys import SharedKeys
from pipeline.stream.keystore import FileKeyStore
from pipeline.stream.keytopic import TopicKeyStore

WINDOWS = [window_named(name) for name in ("day-2026-05-05", "day-2026-05-06", "week-2026-05-04", "month-2026-05-01")]

Open = Callable[..., SharedKeys]  # with key-encryption keys


@pytest.fixture(scope="module")
def kafka() -> Iterator[dict[str, Any]]:
    with embedded_broker() as address:
        yield {"bootstrap_servers": [address]}


def in_files(directory: str) -> Open:
    return lambda *keks: FileKeyStore(Path(directory, "keys"), *keks)


def in_a_topic(kafka: dict[str, Any]) -> Open:
    name = f"keys-{secrets.token_hex(8)}"
    with closing(KafkaAdminClient(**kafka)) as admin:
        admin.create_topics([NewTopic(name, 1, 1)])
    return lambda *keks: TopicKeyStore(kafka, *keks, topic=name)


def mark_of(key: WindowKey | None) -> bytes | None:
    """What tells one key from another."""
    return key and key.pseudonym("somebody")


class KeyStores(RuleBasedStateMachine):
    """Two workers on one store of each kind, and what is known to hold."""

    kafka: dict[str, Any]

    @initialize()
    def open(self) -> None:
        self.directory = TemporaryDirectory()
        self.kinds = [in_files(self.directory.name), in_a_topic(self.kafka)]
        self.keks = [secrets.token_bytes(32)]
        self.stores = [[opened(*self.keks) for _ in range(2)] for opened in self.kinds]
        self.routes = [stores[0].route() for stores in self.stores]
        self.born = [stores[0].born() for stores in self.stores]
        self.marks: list[dict[Window, bytes]] = [{}, {}]  # of each kind
        self.destroyed: set[Window] = set()

    workers = st.integers(0, 1)
    windows = st.sampled_from(WINDOWS)

    @rule(worker=workers, window=windows)
    def ask(self, worker: int, window: Window) -> None:
        for stores, marks in zip(self.stores, self.marks, strict=True):
            mark = mark_of(stores[worker].window(window))
            if window in self.destroyed:
                assert mark is None
            else:
                assert mark is not None
                assert marks.setdefault(window, mark) == mark

    @rule(worker=workers, window=windows)
    def destroy(self, worker: int, window: Window) -> None:
        self.destroyed.add(window)
        for stores, marks in zip(self.stores, self.marks, strict=True):
            stores[worker].destroy(window)
            marks.pop(window, None)
            assert stores[worker].window(window) is None
            self.told(stores[1 - worker], window)

    def told(self, store: SharedKeys, window: Window) -> None:
        """The other worker has it from its timer, within two of its seconds."""
        for _ in range(100):
            store.forget_destroyed()
            if store.window(window) is None:
                return
        raise AssertionError("a worker holds on to a destroyed key")

    @rule(worker=workers)
    def restart(self, worker: int) -> None:
        for stores, opened in zip(self.stores, self.kinds, strict=True):
            stores[worker].close()
            stores[worker] = opened(*self.keks)

    @rule(retire=st.booleans())
    def rotate(self, retire: bool) -> None:
        """As the page for operators says it: the new key on top, restart, rotate; and some day the old ones go."""
        self.keks.insert(0, secrets.token_bytes(32))
        for worker in range(2):
            self.restart(worker)
        for stores in self.stores:
            live = sum(each.state == "live" for each in stores[0].states())
            assert stores[0].rotate() == live
            assert stores[1].rotate() == 0
            assert {each.current for each in stores[1].states() if each.state == "live"} == {True}
        if retire:
            del self.keks[1:]
            for worker in range(2):
                self.restart(worker)

    @invariant()
    def they_say_the_same(self) -> None:
        if not hasattr(self, "stores"):
            return
        expected = {window.name: "destroyed" for window in self.destroyed} | {"route": "live"}
        expected |= {window.name: "live" for window in self.marks[0]}
        for stores, route, born in zip(self.stores, self.routes, self.born, strict=True):
            states = stores[0].states()
            assert {each.id: each.state for each in states} == expected
            assert [each.id for each in states] == sorted(expected)
            assert all((each.destroyed is not None) == (each.state == "destroyed") for each in states)
            assert {store.route() for store in stores} == {route}
            assert {store.born() for store in stores} == {born}
        assert self.marks[0].keys() == self.marks[1].keys()

    def teardown(self) -> None:
        for stores in self.stores:
            for store in stores:
                store.close()
        self.directory.cleanup()


def test_files_and_topic_behave_the_same(kafka: dict[str, Any]) -> None:
    class Here(KeyStores):
        pass

    Here.kafka = kafka
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.fixture(params=["files", "topic"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, kafka: dict[str, Any]) -> Iterator[Open]:
    """One more worker's store, with these key-encryption keys."""
    kind = in_files(str(tmp_path)) if request.param == "files" else in_a_topic(kafka)
    with ExitStack() as stack:
        yield lambda *keks: stack.enter_context(closing(kind(*keks)))


OLD, NEW = bytes(32), bytes(range(32))
DAY, MONTH = WINDOWS[0], WINDOWS[3]


def test_a_worker_with_the_new_key_alone_is_refused_until_all_is_wrapped_anew(opened: Open) -> None:
    old = opened(OLD)
    marks = [mark_of(old.window(window)) for window in WINDOWS]
    old.route()
    with pytest.raises(Exception, match=r"below the new one, until `headcount keys rotate`"):
        opened(NEW).route()
    assert opened(NEW, OLD).rotate() == len(WINDOWS) + 1
    assert [mark_of(opened(NEW).window(window)) for window in WINDOWS] == marks
    with pytest.raises(Exception, match="cannot be unwrapped"):
        opened(OLD).route()
    assert [mark_of(old.window(window)) for window in WINDOWS] == marks  # it has them in memory


def test_a_key_that_was_drawn_under_the_old_one_since_is_named_and_wrapped_the_next_time(opened: Open) -> None:
    old, both = opened(OLD), opened(NEW, OLD)
    old.route()
    both.rotate()
    mark = mark_of(old.window(DAY))
    assert [each.id for each in both.states() if each.current is False] == [DAY.name]
    assert both.rotate() == 1
    assert mark_of(opened(NEW).window(DAY)) == mark


@pytest.mark.parametrize("seconds", [-3600 * 24 * 40, 3600 * 24 * 40])
def test_a_clock_that_jumps_brings_no_key_back(opened: Open, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Whatever the time is: what is destroyed is said to be, and not said until when."""
    store = opened(OLD)
    store.window(DAY)
    store.destroy(DAY)
    store.destroy(MONTH)

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(seconds=seconds)

    monkeypatch.setattr(keytopic, "datetime", Shifted)
    for again in (store, opened(OLD)):
        again.forget_destroyed()
        assert again.window(DAY) is None
        assert again.window(MONTH) is None
        again.destroy(DAY)
        assert again.window(DAY) is None

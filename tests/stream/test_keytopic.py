"""Keys in a topic: one for all who ask, also on a broker that shows records before those ahead of them."""

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaTimeoutError

from pipeline.core.windows import Window, window_named, windows_between
from pipeline.stream import keytopic
from pipeline.stream.broker import embedded_broker
from pipeline.stream.keylog import KeyDestroyed, encode_key_record
from pipeline.stream.keytopic import Tail, TopicKeyStore
from pipeline.stream.keywrapping import KeyStoreError
from pipeline.stream.topics import KEYS
from tests.stream.conftest import KEK, read_topic

DAY = window_named("day-2026-05-05")
MAY = window_named("month-2026-05-01")
DAYS = list(windows_between("day", 20_000, 20_040))

Opened = Callable[[], TopicKeyStore]


@pytest.fixture
def opened(kafka: dict[str, Any]) -> Iterator[Opened]:
    """One more worker's store."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(TopicKeyStore(kafka, KEK)))


def mark_of(store: TopicKeyStore, window: Window) -> bytes | None:
    """What tells one key from another."""
    key = store.window(window)
    return key and key.pseudonym("somebody")


def test_workers_that_ask_at_once_get_one_key(opened: Opened) -> None:
    stores = [opened() for _ in range(5)]
    together = threading.Barrier(len(stores))

    def ask(store: TopicKeyStore) -> list[bytes | None]:
        given = []
        for window in DAYS:
            together.wait()
            given.append(mark_of(store, window))
        return given

    with ThreadPoolExecutor(len(stores)) as pool:
        given = list(pool.map(ask, stores))
    assert given[1:] == given[:-1]
    assert len(set(given[0])) == len(DAYS)
    log = opened()._tail.log
    assert {len(log.draws[window.name]) for window in DAYS} == {1}  # who was beaten has taken it back
    assert sum(log.met.values()) > len(DAYS)  # else nobody was
    assert len({store.route() for store in stores}) == len({store.born() for store in stores}) == 1


def test_a_hole_in_the_log_is_waited_for_and_not_skipped(
    kafka: dict[str, Any], opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This broker may show the second draw first: who took it for the first would have a key of their own."""
    mine, other = opened(), opened()
    read_on, hidden = Tail.read_on, [True, True]

    def without_the_first(tail: Tail, milliseconds: int) -> None:
        poll = tail._consumer.poll

        def hiding(**arguments: Any) -> Any:
            polled = poll(**arguments)
            if any(record.offset == first for records in polled.values() for record in records) and hidden:
                hidden.pop()
                return {tp: [r for r in records if r.offset != first] for tp, records in polled.items()}
            return polled

        with monkeypatch.context() as patch:
            patch.setattr(tail._consumer, "poll", hiding)
            read_on(tail, milliseconds)

    first = len(read_topic(kafka, KEYS))
    expected = mark_of(other, DAY)
    monkeypatch.setattr(Tail, "read_on", without_the_first)
    monkeypatch.setattr(mine._tail._consumer, "poll", skip_once(mine._tail._consumer.poll))
    assert mark_of(mine, DAY) == expected
    assert hidden == []


def skip_once(poll: Callable[..., Any]) -> Callable[..., Any]:
    """The broker's answer, but nothing the first time: so that a draw is written although there is one."""
    calls = []

    def polled(**arguments: Any) -> Any:
        calls.append(arguments)
        return {} if len(calls) == 1 else poll(**arguments)

    return polled


def test_what_is_destroyed_while_it_is_drawn_is_gone(kafka: dict[str, Any], opened: Opened) -> None:
    mine, other = opened(), opened()
    other.destroy(DAY)  # mine has not read it yet
    mine._tail.read_on = lambda _: None  # type: ignore[method-assign]
    real = Tail.read_on

    def say(records: Any, _say: Any = mine._say) -> None:
        mine._tail.read_on = lambda milliseconds: real(mine._tail, milliseconds)  # type: ignore[method-assign]
        _say(records)

    mine._say = say  # type: ignore[method-assign]
    assert mine.window(DAY) is None
    log = opened()._tail.log
    assert log.draws.get(DAY.name) == {}
    assert log.met.total() == 1  # it was drawn, for nothing


def test_what_another_worker_destroyed_is_dropped_from_memory(opened: Opened) -> None:
    mine, other = opened(), opened()
    for window in (DAY, MAY):
        assert mark_of(mine, window) == mark_of(other, window) is not None
    other.destroy(DAY)
    for _ in range(100):
        mine.forget_destroyed()
        if DAY not in mine._known:
            break
    assert set(mine._known) == {MAY}


def test_what_a_worker_that_died_has_left_is_taken_back(kafka: dict[str, Any], opened: Opened) -> None:
    """It had said that the key is destroyed, and not yet deleted it."""
    store = opened()
    store.window(DAY)
    with closing(KafkaProducer(**kafka)) as producer:
        said = KeyDestroyed(destroyed=store._tail.log.draws[DAY.name].popitem()[1].drawn)
        producer.send(KEYS, key=DAY.name.encode(), value=encode_key_record(said), partition=0).get(10)
    again = opened()
    assert again._tail.log.draws[DAY.name]
    again.forget_destroyed()
    assert read_topic(kafka, KEYS)[-1].value is None
    assert not opened()._tail.log.draws[DAY.name]


def test_the_log_holds_wrapped_keys_and_no_other(
    kafka: dict[str, Any], opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[bytes] = []
    token_bytes = secrets.token_bytes

    def remembered(size: int) -> bytes:
        drawn.append(token_bytes(size))
        return drawn[-1]

    monkeypatch.setattr(secrets, "token_bytes", remembered)
    store = opened()
    store.route()
    store.window(DAY)
    store.destroy(DAY)
    clear = [each for each in drawn if len(each) == 32]
    assert len(clear) == 2
    records = read_topic(kafka, KEYS)
    everything = b"".join((record.key or b"") + (record.value or b"") for record in records)
    assert not [each for each in [*clear, KEK] if each in everything or each.hex().encode() in everything]
    assert [record.value is None for record in records] == [False, False, False, True]


def test_a_draw_in_another_s_place_is_refused(kafka: dict[str, Any], opened: Opened) -> None:
    opened().window(MAY)
    [record] = read_topic(kafka, KEYS)
    with closing(KafkaProducer(**kafka)) as producer:
        moved = record.key.replace(MAY.name.encode(), DAY.name.encode())
        producer.send(KEYS, key=moved, value=record.value, partition=0).get(10)
    with pytest.raises(KeyStoreError, match="cannot be unwrapped"):
        opened().window(DAY)


def test_something_that_is_no_key_is_refused_and_not_quoted(kafka: dict[str, Any], opened: Opened) -> None:
    with closing(KafkaProducer(**kafka)) as producer:
        producer.send(KEYS, key=b"route", value=b"jan.jansen@voorbeeld.example", partition=0).get(10)
    with pytest.raises(KeyStoreError, match=r"usage\.keys holds something that is no key, at offset 0") as refused:
        opened()
    assert "jansen" not in str(refused.value)


@pytest.mark.parametrize("partitions", [None, 3])
def test_a_topic_that_is_missing_or_has_several_partitions_is_refused(partitions: int | None) -> None:
    """Of two partitions nobody could say which draw was first."""
    with embedded_broker() as address:
        kafka: Mapping[str, Any] = {"bootstrap_servers": [address]}
        if partitions:
            with closing(KafkaAdminClient(**kafka)) as admin:
                admin.create_topics([NewTopic(KEYS, partitions, 1)])
        with pytest.raises(
            KeyStoreError, match=r"usage\.keys is missing, or has not one partition: `headcount topics`"
        ):
            TopicKeyStore(kafka, KEK)


def test_when_the_topic_cannot_be_written_nothing_is_given_and_later_it_is(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    store.window(MAY)
    assert store._producer is not None

    def away(*_: Any, **__: Any) -> Any:
        raise KafkaTimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(store._producer, "send", away)
        for attempt in (store.window, store.destroy):
            with pytest.raises(KeyStoreError, match=r"usage\.keys cannot be written \(KafkaTimeoutError\)"):
                attempt(DAY)  # type: ignore[operator]
        store.forget_destroyed()
        assert store.window(MAY) is not None  # what is known is known
    assert mark_of(store, DAY) == mark_of(opened(), DAY) is not None
    store.destroy(DAY)
    assert store.window(DAY) is None


def test_when_the_topic_cannot_be_read_back_a_key_is_neither_used_nor_taken_for_destroyed(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    store.window(MAY)
    monkeypatch.setattr(keytopic, "PATIENCE", 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(store._tail._consumer, "poll", lambda **_: {})
        for attempt in (store.window, store.destroy):
            with pytest.raises(KeyStoreError, match=r"could not be read up to offset"):
                attempt(DAY if attempt == store.window else MAY)  # type: ignore[operator]
        store.forget_destroyed()
    monkeypatch.setattr(keytopic, "PATIENCE", 30.0)
    assert mark_of(store, DAY) == mark_of(opened(), DAY) is not None
    assert store.window(MAY) is None  # the word was written
    store.destroy(MAY)
    assert not opened()._tail.log.draws[MAY.name]


def test_a_topic_that_was_made_anew_is_not_taken_for_the_one_that_was(kafka: dict[str, Any], opened: Opened) -> None:
    store = opened()
    store.route()
    store.window(MAY)
    with closing(KafkaAdminClient(**kafka)) as admin:
        admin.delete_topics([KEYS])
        admin.create_topics([NewTopic(KEYS, 1, 1)])
    for attempt in (store.window, store.destroy):
        with pytest.raises(KeyStoreError, match=r"made anew while this worker ran: docs/operators\.md"):
            attempt(DAY)  # type: ignore[operator]
    assert store.window(MAY) is not None


def test_the_broker_that_is_gone_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keytopic, "PATIENCE", 2.0)
    with embedded_broker() as address:
        kafka = {"bootstrap_servers": [address]}
        with closing(KafkaAdminClient(**kafka)) as admin:
            admin.create_topics([NewTopic(KEYS, 1, 1)])
        store = TopicKeyStore(kafka, KEK)
        store.window(MAY)
    with pytest.raises(KeyStoreError, match="is the broker up"):
        store.window(DAY)
    store.forget_destroyed()  # the timer of a worker goes on
    assert store.window(MAY) is not None
    store._tail.close()

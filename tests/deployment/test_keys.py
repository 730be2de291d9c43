"""Keys in a topic on Apache Kafka, which compacts: one key for all, and the bytes of a destroyed one leave the disk."""

import base64
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from pipeline.core.windows import Window, window_named, windows_between
from pipeline.stream import keytopic
from pipeline.stream.keytopic import TopicKeyStore
from pipeline.stream.topics import KEYS, TOPICS
from tests.deployment.files import within

pytestmark = [pytest.mark.e2e, pytest.mark.kafka]

OLD, NEW = bytes(32), bytes(range(32))
DAYS = list(windows_between("day", 20_000, 20_020))
DAY, MONTH = window_named("day-2026-05-05"), window_named("month-2026-05-01")


def mark_of(store: TopicKeyStore, window: Window) -> bytes | None:
    """What tells one key from another."""
    key = store.window(window)
    return key and key.pseudonym("somebody")


@pytest.mark.usefixtures("topics")
def test_workers_that_ask_at_once_get_one_key(kafka: str) -> None:
    stores = [TopicKeyStore({"bootstrap_servers": kafka}, OLD) for _ in range(4)]
    with ThreadPoolExecutor(len(stores)) as pool:
        given = list(pool.map(lambda store: [mark_of(store, window) for window in DAYS], stores))
    assert given[1:] == given[:-1]
    assert len(set(given[0])) == len(DAYS)
    stores[0].destroy(DAYS[0])
    assert within(10, lambda: stores[1].forget_destroyed() is None and stores[1].window(DAYS[0]) is None)
    for store in stores:
        store.close()


def test_the_bytes_of_a_destroyed_key_leave_the_disk_and_the_others_stay(
    jars: str, kafka: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the settings that the topic is made with, but for the times, which are seconds here."""
    [declared] = [topic for topic in TOPICS if topic.name == KEYS]
    seconds = {"segment.ms": "1000", "max.compaction.lag.ms": "5000", "file.delete.delay.ms": "1000"}
    with closing(KafkaAdminClient(bootstrap_servers=kafka)) as admin:
        admin.create_topics([NewTopic("keys.quick", 1, 1, topic_configs={**declared.config, **seconds})])
    monkeypatch.setattr(keytopic, "LOOK_SECONDS", 0.5)
    base = tmp_path_factory.getbasetemp()

    def on_disk(wrapped: bytes) -> bool:
        text = base64.b64encode(wrapped)
        return any(text in path.read_bytes() for path in base.glob("kafka*/**/keys.quick-0/*") if path.is_file())

    def opened(*keks: bytes) -> TopicKeyStore:
        return TopicKeyStore({"bootstrap_servers": kafka}, *keks, topic="keys.quick")

    def erased(store: TopicKeyStore) -> bool:
        store.forget_destroyed()  # as a worker's timer does
        return {each.id: each.erased for each in store.states()}[DAY.name] is True

    with closing(opened(OLD)) as store:
        route, born, month = store.route(), store.born(), mark_of(store, MONTH)
        store.window(DAY)
        wrapped = {name: record.wrapped for name, (_, record) in store._tail.log.live().items()}
        assert all(map(on_disk, wrapped.values()))
        store.destroy(DAY)
        assert not erased(store)
        assert within(120, lambda: erased(store))
        assert within(20, lambda: not on_disk(wrapped[DAY.name]))
        assert on_disk(wrapped[MONTH.name])
    with closing(opened(NEW, OLD)) as store:  # that reads what compaction has left
        assert store.window(DAY) is None
        assert store.rotate() == 2
    with closing(opened(NEW)) as store:
        assert (store.route(), store.born(), mark_of(store, MONTH)) == (route, born, month)
        assert store.window(DAY) is None

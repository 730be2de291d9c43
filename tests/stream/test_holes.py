"""Those who follow the embedded broker's log, which shows records before the ones ahead of them, miss nothing."""

import threading
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pytest
from kafka import KafkaProducer

from pipeline.core.outcomes import Reason, Rejection
from pipeline.declarations import Declarations
from pipeline.stream.rejections import encode_rejections
from pipeline.stream.topics import REJECTIONS
from pipeline.watching import Watcher

WRITERS = 4
EACH = 1_500


def write(kafka: Mapping[str, Any], writer: int) -> None:
    with closing(KafkaProducer(**kafka, linger_ms=0)) as producer:
        for number in range(EACH):
            rejection = Rejection(Reason.LATE, writer, number, 0)
            producer.send(REJECTIONS, partition=0, value=encode_rejections([rejection])).get(30)


def test_a_watcher_takes_in_every_record_of_writers_at_once(kafka: dict[str, Any], exact: Declarations) -> None:
    writers = [threading.Thread(target=write, args=(kafka, number)) for number in range(WRITERS)]
    with closing(Watcher(kafka, exact.plan, 1)) as watcher:
        for each in writers:
            each.start()
        while any(each.is_alive() for each in writers):
            watcher.poll(0.05)
        while watcher.poll(0.5) or not watcher.caught_up():
            pass
        assert watcher.watch.rejected() == {"late": WRITERS * EACH}


def test_a_hole_is_read_again_from_where_it_begins(
    kafka: dict[str, Any], exact: Declarations, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(KafkaProducer(**kafka)) as producer:
        for number in range(6):
            value = encode_rejections([Rejection(Reason.LATE, 0, number, 0)])
            producer.send(REJECTIONS, partition=0, value=value).get(30)
    with closing(Watcher(kafka, exact.plan, 1)) as watcher:
        poll, hidden = watcher._consumer.poll, [2, 3]

        def without(**arguments: Any) -> Any:
            """The broker's answer, but for what it does not show the first time."""
            polled = poll(**arguments)
            shown = {tp: [r for r in records if r.offset not in hidden] for tp, records in polled.items()}
            hidden.clear()
            return shown

        monkeypatch.setattr(watcher._consumer, "poll", without)
        while watcher.poll(0.5) or not watcher.caught_up():
            pass
        assert sorted(each.offset for each in watcher.watch.rejections) == list(range(6))

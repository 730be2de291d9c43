"""bytewax: fold_window over tumbling windows of a day, keyed by cell."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import msgspec
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import cluster_main

from tests.bench.common import Clock, Pseudonyms, Row

clock, pseudonyms = Clock(), Pseudonyms()
decode = msgspec.json.Decoder().decode
rows: list[Row] = []

State = list[Any]  # pseudonyms, events


def parse(message: Any) -> tuple[str, tuple[datetime, bytes]]:
    clock.begin()
    event = decode(message.value)
    at, data = event["time"], event["data"]
    who = pseudonyms.of(at[:10], event["subject"])
    cell = f"{data['feature']}|{data['platform']}|{data['app_version']}"
    return cell, (datetime.fromisoformat(at), who)


def fold(state: State, item: tuple[datetime, bytes]) -> State:
    state[0].add(item[1])
    state[1] += 1
    return state


def merge(one: State, other: State) -> State:
    return [one[0] | other[0], one[1] + other[1]]


class Sink(DynamicSink[Any]):
    def build(self, *_: Any) -> Any:
        class Partition(StatelessSinkPartition[Any]):
            def write_batch(self, items: list[Any]) -> None:
                for cell, (window, (who, events)) in items:
                    day = (FIRST + timedelta(days=window)).date().isoformat()
                    rows.append((day, *cell.split("|"), len(who), events))

        return Partition()


FIRST = datetime(2026, 5, 1, tzinfo=UTC)
flow = Dataflow("bench")
source = KafkaSource([clock.broker], [clock.topic], tail=False, batch_size=5000)
parsed = op.map("parse", op.input("in", flow, source), parse)
folded = win.fold_window(
    "count",
    parsed,
    win.EventClock(lambda item: item[0], wait_for_system_duration=timedelta(days=400)),
    win.TumblingWindower(length=timedelta(days=1), align_to=FIRST),
    lambda: [set(), 0],
    fold,
    merge,
)
op.output("out", folded.down, Sink())
cluster_main(flow, [], 0)
clock.end(rows)
os._exit(0)

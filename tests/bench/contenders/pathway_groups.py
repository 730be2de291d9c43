"""pathway: two groupings, of pseudonyms within cells and of cells."""

import os
from typing import Any

import msgspec
import pathway as pw

from tests.bench.common import Clock, Pseudonyms, Row

clock, pseudonyms = Clock(), Pseudonyms()
decode = msgspec.json.Decoder().decode
answer: dict[Any, Row] = {}


@pw.udf(deterministic=True)
def parse(value: bytes) -> tuple[str, str, str, str, bytes]:
    clock.begin()
    event = decode(value)
    day, data = event["time"][:10], event["data"]
    return day, data["feature"], data["platform"], data["app_version"], pseudonyms.of(day, event["subject"])


def changed(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
    if is_addition:
        answer[key] = (row["day"], row["feature"], row["platform"], row["version"], row["users"], row["events"])


def done(time: int) -> None:
    if sum(row[5] for row in answer.values()) == clock.events:
        clock.end(answer.values())
        os._exit(0)


settings = {"bootstrap.servers": clock.broker, "group.id": "bench-pathway", "auto.offset.reset": "earliest"}
raw = pw.io.kafka.read(settings, topic=clock.topic, format="raw", autocommit_duration_ms=500)
parsed = raw.select(parts=parse(raw.data))
columns = parsed.select(
    day=parsed.parts[0], feature=parsed.parts[1], platform=parsed.parts[2], version=parsed.parts[3], who=parsed.parts[4]
)
pairs = columns.groupby(pw.this.day, pw.this.feature, pw.this.platform, pw.this.version, pw.this.who).reduce(
    pw.this.day, pw.this.feature, pw.this.platform, pw.this.version, events=pw.reducers.count()
)
cells = pairs.groupby(pw.this.day, pw.this.feature, pw.this.platform, pw.this.version).reduce(
    pw.this.day,
    pw.this.feature,
    pw.this.platform,
    pw.this.version,
    users=pw.reducers.count(),
    events=pw.reducers.sum(pw.this.events),
)
pw.io.subscribe(cells, on_change=changed, on_time_end=done)
pw.run(monitoring_level=pw.MonitoringLevel.NONE)

"""What docs/emitting.md shows is what works."""

import json
import re
from pathlib import Path

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.formats.json import JSONFormat

from .conftest import arrived, create_topic

PAGE = Path(__file__).parents[2].joinpath("docs", "emitting.md").read_text()
FORMS = re.findall(r"```text\n(.*?)\n\n(.*?)\n```", PAGE, re.DOTALL)
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_first_program_runs_and_its_events_arrive(monkeypatch: pytest.MonkeyPatch, broker: str) -> None:
    create_topic(broker, "usage.events")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker)
    exec(PROGRAMS[0], {})  # noqa: S102  # the page's own program
    features = sorted(event["data"]["feature"] for event in arrived(broker, "usage.events", 3))
    assert features == ["basket.opened", "call.ended", "call.started"]


def test_the_settings_of_the_second_program_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", "")
    exec("import os\nfrom pipeline.emitter import UsageEmitter\n" + PROGRAMS[1], {})  # noqa: S102  # likewise


@pytest.mark.parametrize(("head", "value"), FORMS, ids=["structured", "batch", "ndjson", "binary"])
def test_every_form_is_read_by_a_foreign_client(head: str, value: str) -> None:
    headers = {name: text.encode() for name, text in re.findall(r"(\S+): (.+)", head)}
    events = [value]
    if headers["content-type"] == b"application/cloudevents-batch+json":
        events = [json.dumps(event) for event in json.loads(value)]
    if headers["content-type"] == b"application/x-ndjson":
        events = value.splitlines()
    if len(events) > 1:
        headers = {"content-type": b"application/cloudevents+json"}
    for text in events:
        event = from_kafka(KafkaMessage(headers=headers, key=None, value=text.encode()), JSONFormat())
        assert event.get_type() == "usage.feature.used.v1"
        assert event.get_source() == "shop-ios"
        assert event.get_time().utcoffset() is not None
        assert event.get_data()["feature"].startswith("call.")

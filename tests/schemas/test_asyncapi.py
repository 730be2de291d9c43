"""The AsyncAPI document says what the topics, the types and the code are."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from pipeline.asyncapi import OPERATIONS, asyncapi
from pipeline.core.fields import Registry
from pipeline.core.release import encode_release
from pipeline.core.tallies import Closed
from pipeline.declarations import read_toml
from pipeline.settings import SCHEMAS, Settings
from pipeline.stream.rejections import encode_rejections
from pipeline.stream.tallying import encode_tally
from pipeline.stream.topics import EVENTS, REJECTIONS, RELEASES, TOPICS
from pipeline.testing import declarations, event, record, run

ROOT = Path(__file__).parents[2]
FILE = ROOT / "schemas" / "asyncapi.yaml"
DOCUMENT = yaml.safe_load(FILE.read_text())
CHECK = Path(__file__).with_name("asyncapi")

# What the code makes of a few events, with noise and thresholds and without.
EVENTS_SENT = [record(event(subject=f"u-{n}"), event(subject=None), b"{}") for n in range(3)]
RUNS = [run(declarations(policy=policy), EVENTS_SENT) for policy in (None, SCHEMAS / "exact.toml")]


def sent(message: str) -> list[bytes]:
    """The values of the records that a run leaves in the message's topic."""
    return {
        "contribution": [value for each in RUNS for log in each.log for value in log],
        "tally": [encode_tally(Closed(partition=0, partitions=4, closed=20_574))]
        + [encode_tally(tally) for each in RUNS for tally in each.tallies],
        "release": [encode_release(release) for each in RUNS for release in each.releases],
        "rejections": [encode_rejections(each.rejections) for each in RUNS],
    }[message]


def channels() -> dict[str, dict[str, Any]]:
    return {channel["address"]: channel for channel in DOCUMENT["channels"].values()}


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_channel_says_what_the_topic_is_made_with(topic: Any) -> None:
    binding = channels()[topic.name]["bindings"]["kafka"]
    assert (binding["topic"], binding["partitions"]) == (topic.name, topic.partitions)
    as_kafka = {
        name: ",".join(value) if isinstance(value, list) else str(value)
        for name, value in binding["topicConfiguration"].items()
    }
    assert as_kafka == dict(topic.config)


def test_there_is_a_channel_for_each_topic_and_no_other() -> None:
    assert list(channels()) == [topic.name for topic in TOPICS]


def test_only_ingest_reads_identifiers_and_everyone_reads_releases() -> None:
    assert channels()[EVENTS]["x-readers"] == ["ingest"]
    assert channels()[RELEASES]["x-readers"][-1] == "anyone in the company"
    assert channels()[REJECTIONS]["x-readers"] == ["operator"]


def test_every_topic_has_someone_who_writes_it_and_someone_who_reads_it() -> None:
    for action in ("send", "receive"):
        assert {each.topic for each in OPERATIONS if each.action == action} == {topic.name for topic in TOPICS}


@pytest.mark.parametrize("message", ["contribution", "tally", "release", "rejections"])
def test_what_the_code_sends_fits_the_schema_of_its_message(message: str) -> None:
    content_type = DOCUMENT["components"]["messages"][message]["contentType"]
    decode = msgspec.msgpack.decode if content_type.endswith("msgpack") else msgspec.json.decode
    payloads = [msgspec.to_builtins(decode(value)) for value in sent(message)]  # bytes as base64, as in the schema
    assert len(payloads) > 1
    for payload in payloads:
        assert errors(message, payload) == []
        assert errors(message, payload | {"type": "other", "cells": 1, "rows": 1}) != []


def test_a_rejection_says_where_and_why_and_nothing_else() -> None:
    assert errors("rejections", {"topic": EVENTS, "rows": [["late", 3, 17, 0]]}) == []
    for row in (["late", 3, 17, 0, "shop-web"], ["because", 3, 17, 0], ["late", "u-17", 17, 0]):
        assert errors("rejections", {"topic": EVENTS, "rows": [row]}) != []


def test_the_document_changes_with_the_types() -> None:
    registry = read_toml(Settings().fields, Registry)
    fewer = msgspec.structs.replace(registry, fields={"feature": registry.fields["feature"]})
    assert asyncapi(registry)["components"]["schemas"] != asyncapi(fewer)["components"]["schemas"]


@pytest.fixture(scope="session")
def parser() -> Path:
    """The directory of AsyncAPI's own parser: pinned, kept under ``var/`` and installed when its lock file changes."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm: AsyncAPI's parser was not asked (install Node.js 18 or later)")
    directory = ROOT / "var" / "asyncapi-parser"
    lock = (CHECK / "package-lock.json").read_bytes()
    done = directory / "installed"
    if not done.exists() or done.read_bytes() != lock:
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(CHECK / name, directory)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        installed = subprocess.run(command, cwd=directory, capture_output=True, timeout=240, check=False)
        if installed.returncode and "CI" not in os.environ:
            pytest.skip("npm could not install AsyncAPI's parser (is there a network?): it was not asked")
        assert installed.returncode == 0, installed.stderr.decode()[-2000:]
        done.write_bytes(lock)
    return directory


def test_asyncapis_own_parser_finds_nothing_wrong_and_would_find_a_mistake(parser: Path, tmp_path: Path) -> None:
    broken = tmp_path / "asyncapi.yaml"
    broken.write_text(FILE.read_text().replace("action: receive", "action: take", 1))
    command = ["node", str(CHECK / "check.mjs"), str(parser), str(FILE), str(broken)]
    said = subprocess.run(command, capture_output=True, timeout=60, check=True)
    ours, mistaken = json.loads(said.stdout)
    assert [each for each in ours if each["severity"] <= 1] == []
    assert any(each["severity"] == 0 and each["path"].endswith("action") for each in mistaken)


def errors(message: str, payload: Any) -> list[str]:
    schema = {"$ref": f"#/components/messages/{message}/payload", "components": DOCUMENT["components"]}
    return [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(payload)]

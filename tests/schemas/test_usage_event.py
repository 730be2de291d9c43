"""The published schema of the event says what the decoder does."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipeline.core.decoding import Decoder
from pipeline.core.events import STRUCTURED, Record
from pipeline.core.fields import Registry
from pipeline.core.outcomes import Reason
from pipeline.declarations import read_toml
from pipeline.schema_files import rendered, write_schemas
from pipeline.settings import Settings

SCHEMAS = Path(__file__).parents[2] / "schemas"
CASES = yaml.safe_load(Path(__file__).with_name("events.yaml").read_text())
SCHEMA = json.loads((SCHEMAS / "usage-event.schema.json").read_text())
FORMATS = jsonschema.FormatChecker(["date-time"])


def event_of(case: dict[str, Any]) -> dict[str, Any]:
    changes = {name: value for name, value in case.items() if name not in ("name", "outcome")}
    return {name: value for name, value in (CASES["base"] | changes).items() if value is not None}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    assert "date-time" in FORMATS.checkers, "pip install rfc3339-validator: times would not be checked"
    return jsonschema.Draft202012Validator(SCHEMA, format_checker=FORMATS)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(read_toml(Settings().fields, Registry))


@pytest.mark.parametrize("name", rendered())
def test_the_published_files_are_those_that_the_code_defines(name: str) -> None:
    assert (SCHEMAS / name).read_text() == rendered()[name], "run `make schemas` and look at what changed"


def test_a_file_that_is_out_of_date_is_written_and_one_that_is_not_is_left_alone(tmp_path: Path) -> None:
    assert {path.name for path in write_schemas(tmp_path)} == set(rendered())
    assert write_schemas(tmp_path) == []
    (tmp_path / "asyncapi.yaml").write_text("something else")
    assert write_schemas(tmp_path) == [tmp_path / "asyncapi.yaml"]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["name"])
def test_schema_and_decoder_agree(
    case: dict[str, Any], validator: jsonschema.Draft202012Validator, decoder: Decoder
) -> None:
    event = event_of(case)
    record = Record(0, 0.0, (("content-type", STRUCTURED.encode()),), json.dumps(event).encode())
    [decoded] = decoder.decode(record)
    outcome = decoded.event if isinstance(decoded.event, Reason) else "accepted"
    assert outcome == case["outcome"]
    assert validator.is_valid(event) == (outcome == "accepted")


def test_every_registered_field_is_in_the_schema_and_no_other() -> None:
    registry = read_toml(Settings().fields, Registry)
    data = SCHEMA["$defs"]["UsageData"]
    assert data["properties"].keys() == registry.fields.keys()
    assert data["required"] == [name for name, field in registry.fields.items() if field.required]
    purposes = [part["description"] for each in data["properties"].values() for part in each.get("anyOf", [each])[:1]]
    assert purposes == [field.purpose for field in registry.fields.values()]

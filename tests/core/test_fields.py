"""The field registry: values become few, or are refused."""

import string
from datetime import date
from typing import Any

import msgspec
import pytest

from pipeline.core.fields import OTHER, Field, Registry, generalise
from pipeline.core.outcomes import Reason
from pipeline.testing import declarations

REGISTRY = declarations().registry


def build(kind: str, **changes: Any) -> Field:
    described = {"purpose": "p", "sensitivity": "s", "generalisation": "g", "owner": "o", "until": date(2030, 1, 1)}
    return msgspec.convert({"kind": kind, **described, **changes}, Field)


@pytest.mark.parametrize("value", ["ios", "android", "other", "unknown"])
def test_a_declared_value_stays(value: str) -> None:
    assert generalise(REGISTRY.fields["platform"], value) == value


@pytest.mark.parametrize("value", ["iOS", "toaster", "", " ios", "someone@example.com", "0612345678"])
def test_a_value_that_is_not_declared_becomes_other(value: str) -> None:
    assert generalise(REGISTRY.fields["platform"], value) == OTHER


def test_an_absent_value_becomes_its_stand_in_or_stays_absent_or_is_refused() -> None:
    assert generalise(build("version", missing="unknown"), None) == "unknown"
    assert generalise(build("version"), None) is None
    assert generalise(build("name", required=True), None) is Reason.MISSING_FIELD


def test_an_amount_becomes_the_bucket_whose_lower_edge_it_reaches() -> None:
    amount = build("amount", edges=[10, 20, 30], labels=["a", "b", "c"])
    assert [generalise(amount, n) for n in (10, 19, 20, 29, 30, 10**30)] == ["a", "a", "b", "b", "c", "c"]
    assert generalise(amount, 9) is Reason.INVALID_FIELD


def test_a_name_is_one_of_few_characters() -> None:
    name = REGISTRY.fields["feature"]
    allowed = string.ascii_lowercase + string.digits + "_.-"
    for character in map(chr, range(0x250)):
        fine = generalise(name, f"x{character}y") == f"x{character}y"
        assert fine == (character in allowed)
        assert (generalise(name, f"{character}x") == f"{character}x") == (character in string.ascii_lowercase)


@pytest.mark.parametrize("separator", ["", " ", ".", "-", "_", "/"])
@pytest.mark.parametrize("prefix", ["", "x", "tel-", "a.b_"])
def test_six_digits_in_a_row_look_personal_however_they_are_punctuated(prefix: str, separator: str) -> None:
    name = REGISTRY.fields["feature"]
    assert generalise(name, prefix + separator.join("123456")) is Reason.PERSONAL_DATA
    assert generalise(name, prefix + separator.join("12345")) is not Reason.PERSONAL_DATA


@pytest.mark.parametrize("separator", ["--", "..", "_-", "-.-"])
def test_doubled_separators_hide_no_number(separator: str) -> None:
    assert generalise(REGISTRY.fields["feature"], "tel-" + separator.join("0612345678")) is Reason.PERSONAL_DATA


def test_a_field_is_taken_until_its_last_day() -> None:
    registry = Registry(
        version="1", types=("t.v1",), fields={"a": build("name"), "b": build("name", until="2026-05-01")}
    )
    assert list(registry.active(date(2026, 5, 1)).fields) == ["a", "b"]
    assert list(registry.active(date(2026, 5, 2)).fields) == ["a"]


@pytest.mark.parametrize("kind", ["name", "version"])
def test_a_field_whose_values_come_from_events_is_open(kind: str) -> None:
    assert build(kind).open
    assert build(kind).declared == ()


def test_catalogues_and_amounts_declare_their_values() -> None:
    assert build("catalogue", values=["a", "other"]).declared == ("a", "other")
    assert build("amount", edges=[0, 1], labels=["none", "some"]).declared == ("none", "some")
    assert not build("catalogue", values=["a", "other"]).open


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("catalogue", {"values": ["a"]}),
        ("catalogue", {"values": ["a", "other"], "missing": "unknown"}),
        ("amount", {"edges": [0, 1], "labels": ["a"]}),
        ("amount", {"edges": [1, 0], "labels": ["a", "b"]}),
        ("amount", {"edges": [0, 0], "labels": ["a", "b"]}),
        # Nothing would be declared, and every event with the field refused.
        ("amount", {"edges": [], "labels": []}),
        # The stand-in would be no declared cell, and what is counted there would never be released.
        ("amount", {"edges": [0], "labels": ["all"], "missing": "unknown"}),
        # A cell that is declared twice would be drawn twice and paid for once.
        ("amount", {"edges": [0, 1], "labels": ["a", "a"]}),
        ("catalogue", {"values": ["a", "a", "other"]}),
        ("something", {}),
    ],
)
def test_an_unsound_field_is_refused(kind: str, changes: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        build(kind, **changes)


@pytest.mark.parametrize("name", ["purpose", "sensitivity", "generalisation", "owner", "until"])
def test_a_field_says_what_it_is_for_and_until_when(name: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=name):
        build("name", **{name: None})


# Shows a defect: accepted, and the worker stops with a TypeError that names neither the file nor the key.
@pytest.mark.parametrize(("types", "name"), [((), "a"), (("t.v1",), "a-b"), (("t.v1",), "__init__")])
def test_an_unsound_registry_is_refused(types: tuple[str, ...], name: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # any wording
        Registry(version="1", types=types, fields={name: build("name")})


def test_the_shipped_fields_are_those_of_the_interface() -> None:
    assert list(REGISTRY.fields) == ["feature", "platform", "app_version", "country", "duration_ms", "plan"]
    assert [name for name, field in REGISTRY.fields.items() if field.required] == ["feature"]
    assert [name for name, field in REGISTRY.fields.items() if field.open] == ["feature", "app_version"]

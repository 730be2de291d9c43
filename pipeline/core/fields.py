"""The field registry: what an event may carry, and how each value is generalised before anything else sees it.

A generalisation maps what the application sent to one of few values, or names the reason why it cannot. Nothing
that is not registered gets this far: the decoder knows the registered fields only.
"""

import re
from bisect import bisect_right
from datetime import date
from typing import Annotated, Any, Literal

import msgspec

from pipeline.core.outcomes import Reason

FieldKind = Literal["name", "catalogue", "version", "amount"]

OTHER = "other"
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*\Z")
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,47}\Z")
_VERSION = re.compile(r"v?(\d{1,4})(?:\.(\d{1,4})(?:[.+-].{0,40})?|[+-].{0,40})?\Z", re.ASCII | re.DOTALL)
_IBAN = re.compile(r"(?<![a-z])[a-z]{2}\d{2}[a-z0-9 ._-]{11,}", re.IGNORECASE)
_PERSONAL_DIGITS = 6  # accounts, telephone numbers and citizen numbers have more, however they are punctuated


class Field(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One registered field, as ``schemas/fields.toml`` declares it.

    ``values`` of a catalogue; ``edges`` (lower, ascending) and ``labels`` of an amount. ``missing``: the value that
    stands for an absent one. ``until``: the last day on which the field is taken.
    """

    kind: FieldKind
    purpose: str
    sensitivity: str
    generalisation: str
    owner: str
    until: date
    required: bool = False
    missing: str | None = None
    values: tuple[str, ...] = ()
    edges: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "catalogue" and OTHER not in self.values:
            raise ValueError("a catalogue declares the value 'other'")
        if self.kind == "amount" and not (
            self.edges and len(self.edges) == len(self.labels) and list(self.edges) == sorted(set(self.edges))
        ):
            raise ValueError("an amount has ascending edges and a label for each")
        if len(set(self.declared)) < len(self.declared):
            raise ValueError("a value is declared once")
        if self.declared and self.missing is not None and self.missing not in self.declared:
            raise ValueError("the value for 'missing' is one of the declared ones")

    @property
    def open(self) -> bool:
        """Whether the values come from events rather than from the registry."""
        return self.kind in ("name", "version")

    @property
    def declared(self) -> tuple[str, ...]:
        """Every value that can occur, in natural order; empty for an open field."""
        return self.labels if self.kind == "amount" else self.values

    @property
    def wire_type(self) -> Any:
        """The type of the field's JSON value, for the decoder and for the JSON Schema."""
        if self.kind == "amount":
            return Annotated[int, msgspec.Meta(description=self.purpose, ge=0)]
        return Annotated[str, msgspec.Meta(description=self.purpose, min_length=1, max_length=256)]


class Registry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of ``schemas/fields.toml``."""

    version: str
    types: tuple[str, ...]
    fields: dict[str, Field]

    def __post_init__(self) -> None:
        if not self.types or not all(_IDENTIFIER.match(name) for name in self.fields):
            raise ValueError("a registry has types, and fields named in lower case letters, digits and _")

    def active(self, today: date) -> "Registry":
        """The registry without the fields whose end date has passed: they are dropped like unregistered ones."""
        return msgspec.structs.replace(self, fields={n: f for n, f in self.fields.items() if today <= f.until})


def generalise(field: Field, value: str | int | None) -> str | Reason | None:
    """The value that is counted; ``None`` for an absent one without a stand-in; a reason where it cannot be counted."""
    if value is None:
        return Reason.MISSING_FIELD if field.required else field.missing
    if isinstance(value, int):
        place = bisect_right(field.edges, value) - 1
        return field.labels[place] if place >= 0 else Reason.INVALID_FIELD
    if field.kind == "catalogue":
        return value if value in field.values else OTHER
    if field.kind == "version":
        match = _VERSION.match(value)
        return f"{int(match[1])}.{int(match[2] or 0)}" if match else OTHER
    if "@" in value or sum(map(str.isdigit, value)) >= _PERSONAL_DIGITS or _IBAN.search(value):
        return Reason.PERSONAL_DATA
    return value if _NAME.match(value) else Reason.INVALID_FIELD

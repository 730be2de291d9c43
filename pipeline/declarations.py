"""Reads the declarations of ``schemas/``, and says in plain words what is wrong with one."""

import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

import msgspec

from pipeline.core.budget import Accountant
from pipeline.core.fields import Registry
from pipeline.core.policy import Policy
from pipeline.core.statistics import Plan, Statistics
from pipeline.settings import Settings, SettingsError

T = TypeVar("T")


@dataclass(frozen=True)
class Declarations:
    """Everything that was declared, resolved and paid for."""

    registry: Registry
    plan: Plan
    policy: Policy
    accountant: Accountant


def read_toml(path: Path, kind: type[T]) -> T:
    """A TOML file as the given type. Raises :class:`SettingsError`, which names the file and the key."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), kind)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({type(error).__name__})") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None


def read_declarations(settings: Settings, today: date) -> Declarations:
    """The declarations in force. Raises :class:`SettingsError` or ``OverBudget``: nothing runs under what is not
    sound.
    """
    registry = read_toml(settings.fields, Registry).active(today)
    policy = read_toml(settings.policy, Policy)
    statistics = read_toml(settings.statistics, Statistics)
    try:
        plan = Plan(statistics, registry)
    except ValueError as error:
        raise SettingsError(f"{settings.statistics}: {error}") from None
    return Declarations(registry, plan, policy, Accountant(policy, plan))

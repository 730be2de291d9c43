"""The deployment files, read as an engine reads them."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"


class Instruction(NamedTuple):
    """An instruction of a Dockerfile: ``FROM``, and what stands behind it."""

    name: str
    text: str


def compose(file: Path = COMPOSE_FILE, **variables: str) -> dict[str, Any]:
    """A compose file with its variables filled in."""

    def value(match: re.Match[str]) -> str:
        return variables.get(match[1], match[2])

    model: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{(\w+):-([^}]*)\}", value, file.read_text()))
    return model


def ours(model: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The services that are built here, by name."""
    return {name: service for name, service in model["services"].items() if "build" in service}


def mounts(service: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """Where what is mounted: target → source, and whether it can be written."""
    found = {}
    for volume in service.get("volumes", []):
        source, target, *mode = volume.split(":")
        found[target] = (source, mode != ["ro"])
    return found


def stages() -> dict[str, list[Instruction]]:
    """The stages of the Dockerfile by name, each with what it inherits from the stages before it."""
    found: dict[str, list[Instruction]] = {}
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE))
    for line in filter(None, map(str.strip, text.splitlines())):
        name, rest = line.split(maxsplit=1)
        if name == "FROM":
            image, _, stage = rest.split()
            current = found[stage] = list(found.get(image, []))
            if current:
                continue
        current.append(Instruction(name, " ".join(rest.split())))
    return found


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold within that time."""
    deadline = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return held

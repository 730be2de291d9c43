"""The generated files of ``schemas/``: the event's JSON Schema and the AsyncAPI document of the topics.

Both are views of the code, and a test holds them equal: whoever changes what applications send, or what a topic
holds, changes the file that people read.
"""

import inspect
import json
from pathlib import Path
from typing import Any

from pipeline.asyncapi import asyncapi
from pipeline.core.events import json_schema
from pipeline.core.fields import Registry
from pipeline.declarations import read_toml
from pipeline.settings import Settings

HEADER = "# Written by `make schemas` from the code: change that, not this.\n"


def rendered() -> dict[str, str]:
    """Every generated file by its name in ``schemas/``, from the registry that ships with the package."""
    registry = read_toml(Settings().fields, Registry)
    return {
        "usage-event.schema.json": json.dumps(tidy(json_schema(registry)), indent=2, ensure_ascii=False) + "\n",
        "asyncapi.yaml": HEADER + _yaml(tidy(asyncapi(registry))),
    }


def write_schemas(directory: Path) -> list[Path]:
    """Writes the files that are not up to date; gives their paths."""
    changed = []
    for name, text in rendered().items():
        path = directory / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            changed.append(path)
    return changed


def tidy(document: Any) -> Any:
    """The same document with docstrings as running text: how a source file is wrapped changes nothing."""
    if isinstance(document, list):
        return [tidy(part) for part in document]
    if not isinstance(document, dict):
        return document
    return {
        name: _unwrapped(part) if name == "description" and isinstance(part, str) else tidy(part)
        for name, part in document.items()
    }


def _unwrapped(text: str) -> str:
    paragraphs = inspect.cleandoc(text).replace("``", "`").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _yaml(document: Any) -> str:
    import yaml  # a development dependency: only who changes an interface writes the files

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # PyYAML's interface
            return True

    def text(dumper: Any, value: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=">" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return str(yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110))

"""A8: no randomness but OpenDP's on the way to a release, by reading the source.

From what draws, commits and folds releases, every module of ours that is imported, wherever in a module the import
stands, is walked: no other source of randomness may be named in it, no code made from text, and OpenDP in one module
only.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pipeline
from pipeline.audit.findings import Finding, Report, at_most
from pipeline.audit.uniques import SINCE, UNTIL
from pipeline.audit.worlds import line, records
from pipeline.noise import OpenDPNoise
from pipeline.testing import declarations
from pipeline.testing import run as count

ROOT = Path(pipeline.__file__).parent
STARTS = (
    "pipeline.noise",
    "pipeline.core.releasing",
    "pipeline.stream.releasing",
    "pipeline.stream.releaselog",
    "pipeline.warehouse.projector",
)
NOISE = "pipeline.noise"
# Imported on the way to a release, they wrap keys and checkpoints: `secrets` alone, for keys and nonces.
KEYS = frozenset({"pipeline.stream.checkpoints", "pipeline.stream.keywrapping"})
MODULES = frozenset({"random", "secrets", "uuid", "scipy", "numpy.random", "tempfile"})
NAMES = frozenset(
    {"urandom", "getrandom", "SystemRandom", "default_rng", "RandomState", "random", "__import__", "eval", "exec"}
)
SQL = ("random(", "setseed(", "gen_random_uuid(", "uuid(", "tablesample", "using sample")


def run(_: int, __: int, report: Report) -> Iterator[Finding]:
    """The closure of :data:`STARTS`; and a release is looked at. It has one size and no seed."""
    found: list[str] = []
    modules = closure(STARTS)
    for number, (name, path) in enumerate(sorted(modules.items())):
        found += offences(name, path.read_text(encoding="utf-8"))
        report(number + 1, len(modules))
    for path in sorted(ROOT.glob("warehouse/**/*.sql")):
        found += [f"{path.name}: {each}" for each in SQL if each in path.read_text(encoding="utf-8").lower()]
    tried = "modules that lead to a release; other sources of randomness named in them"
    if found:
        tried += f" ({'; '.join(found[:5])})"
    yield at_most("A8 randomness: source", tried, len(modules), len(found), 0)
    lines = [line(f"u-{i}", "2026-05-05T10:00:00Z", i, feature="search", app_version="1.0") for i in range(300)]
    releases = count(declarations(), records(lines), noise=OpenDPNoise(), since=SINCE, until=UNTIL).releases
    numbers = [value for r in releases for column in (*r.values, r.total or []) for value in column]
    tried = "released numbers that are no integers"
    yield at_most("A8 randomness: integers", tried, len(numbers), sum(type(value) is not int for value in numbers), 0)


def closure(starts: tuple[str, ...]) -> dict[str, Path]:
    """Our modules that these import, in however many steps, and where they are."""
    found: dict[str, Path] = {}
    waiting = list(starts)
    while waiting:
        name = waiting.pop()
        path = _path(name)
        if name in found or path is None:
            continue
        found[name] = path
        waiting += sorted(imported(ast.parse(path.read_text(encoding="utf-8"))))
    return found


def imported(tree: ast.AST) -> set[str]:
    """Modules, and what is taken from them, in full."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def offences(name: str, source: str) -> Iterator[str]:
    """What in a module's source is, or could be, randomness."""
    tree = ast.parse(source)
    for module in imported(tree):
        if name in KEYS and module.partition(".")[0] == "secrets":
            continue
        if module in MODULES or module.startswith(("numpy.random.", "random.", "secrets.")):
            yield f"{name} imports {module}"
        if module.split(".")[0] == "opendp" and name != NOISE:
            yield f"{name} imports {module}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in NAMES:
            yield f"{name} names .{node.attr}"
        if isinstance(node, ast.Name) and node.id in NAMES:
            yield f"{name} names {node.id}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (f"{name} has {each} in a text" for each in SQL if each in node.value.lower())


def _path(name: str) -> Path | None:
    if name.partition(".")[0] != "pipeline":
        return None
    place = ROOT.joinpath(*name.split(".")[1:])
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None

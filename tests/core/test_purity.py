"""What a module may know is in its imports: read from the source, whatever the import contracts say."""

import ast
from pathlib import Path

import pytest

PIPELINE = Path(__file__).parents[2] / "pipeline"
CORE = sorted((PIPELINE / "core").glob("**/*.py"))
RELEASE_PATH = [
    *CORE,
    PIPELINE / "noise.py",
    PIPELINE / "stream" / "releasing.py",
    PIPELINE / "stream" / "releaselog.py",
]


def name_of(path: Path) -> str:
    return str(path.relative_to(PIPELINE))


def imported(tree: ast.AST) -> set[str]:
    """Modules, and what is taken from them, in full."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return found


def mentions(tree: ast.AST) -> set[str]:
    """Attributes in full, as far as they are names: ``np.random.default_rng``."""
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("path", RELEASE_PATH, ids=name_of)
def test_the_release_path_has_no_randomness_but_its_noise(path: Path) -> None:
    tree = ast.parse(path.read_text())
    modules = imported(tree)
    assert not {m for m in modules if m.split(".")[0] in ("random", "secrets", "uuid", "scipy")}
    assert not {m for m in modules if m.startswith("numpy.random")}
    for mention in mentions(tree):
        assert ".random" not in f".{mention}"
        assert "urandom" not in mention
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {"__import__", "importlib", "eval", "exec"}


def test_noise_comes_from_one_module_and_from_opendp() -> None:
    using = {
        name_of(p)
        for p in PIPELINE.glob("**/*.py")
        if any(m.startswith("opendp") for m in imported(ast.parse(p.read_text())))
    }
    assert using == {"noise.py"}


def test_no_query_draws_at_random() -> None:
    for path in PIPELINE.glob("**/*.sql"):
        assert "random(" not in path.read_text().lower(), path.name


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_knows_no_clock_no_files_and_no_kafka(path: Path) -> None:
    tree = ast.parse(path.read_text())
    allowed = {
        "bisect", "collections", "cryptography", "dataclasses", "datetime", "enum", "functools", "hashlib", "itertools",
        "math", "msgspec", "numpy", "operator", "pipeline", "re", "statistics", "struct", "typing", "zoneinfo",
    }  # fmt: skip
    modules = imported(tree)
    assert {m.split(".")[0] for m in modules} <= allowed
    assert {m for m in modules if m.startswith("pipeline") and not m.startswith("pipeline.core")} == set()
    for mention in mentions(tree):
        assert mention.rpartition(".")[2] not in ("now", "utcnow", "today"), mention
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"open", "print", "input"}

"""Whoever is armed dies at the edge, by SIGKILL, and says where; and the edges are where the pipeline has them."""

import signal
import subprocess
import sys
from inspect import iscoroutinefunction
from pathlib import Path

import pytest

from tests.deployment.files import ROOT
from tests.faults.edges import EDGES, Edge, owner_of

SCRIPT = """
import asyncio, sys
from pathlib import Path
from pipeline.stream import ingesting, tallying
from tests.faults.edges import arm

arm({"after fold, before tallies are sent": 3, "after rows are written, before commit": 2}, Path(sys.argv[1]))
print("begun", flush=True)
"""
FOLDS = "for _ in range(int(sys.argv[2])): tallying.rejection_records([]); print('folded', flush=True)"
WRITES = """
class Nothing(ingesting.IngestHop):
    def __init__(self): self._words = {}
    def _segments(self, records): return []
    async def tell(self, partition): print("told", flush=True)

for _ in range(int(sys.argv[2])): asyncio.run(Nothing().handle(ingesting.Batch("", 0, 0, [])))
"""


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge.name)
def test_every_edge_is_there(edge: Edge) -> None:
    for function in edge.functions:
        owner, name = owner_of(function)
        assert callable(getattr(owner, name))


def test_the_hops_are_waited_for() -> None:
    for edge in EDGES:
        for owner, name in map(owner_of, edge.functions):
            assert iscoroutinefunction(getattr(owner, name)) == (name == "handle")


@pytest.mark.parametrize(
    ("does", "times", "done", "mark"),
    [
        (FOLDS, 2, ["folded"] * 2, None),
        (FOLDS, 4, ["folded"] * 2, "after fold, before tallies are sent"),  # before the third
        (WRITES, 1, ["told"], None),
        (WRITES, 3, ["told"] * 2, "after rows are written, before commit"),  # after the second
    ],
)
def test_a_process_dies_at_its_edge_and_nowhere_else(
    does: str, times: int, done: list[str], mark: str | None, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", SCRIPT + does, str(tmp_path / "mark"), str(times)]
    process = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == (0 if mark is None else -signal.SIGKILL), process.stderr
    assert process.stdout.splitlines() == ["begun", *done]
    assert (tmp_path / "mark").exists() == (mark is not None)
    if mark is not None:
        assert (tmp_path / "mark").read_text() == mark

"""The notebook runs from its first cell to its last on a small replay, and is kept with its charts."""

import os
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.replay import replay
from pipeline.settings import Settings
from pipeline.simulation import simulate
from pipeline.simulation.writing import write_lines

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "usage.ipynb"
CHARTS = 10
FIRST, DAYS = date(2026, 6, 1), 35  # a whole month and a part of the next

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def statistics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pipeline publishes of five weeks of two thousand users."""
    directory = tmp_path_factory.mktemp("statistics")
    file = directory / "events.ndjson"
    with file.open("wb") as out:
        out.writelines(write_lines(simulate(1, 2_000, FIRST, DAYS)))
    span = {"since": FIRST.isoformat(), "until": (FIRST + timedelta(days=DAYS)).isoformat()}
    summary = replay([file], directory, Settings(**span), workers=1)
    assert summary.balanced
    return directory


def run(notebook: Any, data: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADCOUNT_DATA", str(data))
        nbclient.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": NOTEBOOK.parent}}).execute()


def outputs(notebook: Any) -> Iterator[Any]:
    for cell in notebook.cells:
        yield from cell.get("outputs", ())


def charts(notebook: Any) -> int:
    return sum("image/png" in output.get("data", ()) for output in outputs(notebook))


def test_every_cell_runs_and_every_chart_is_drawn(statistics: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        cell.pop("outputs", None)
    run(notebook, statistics)
    assert charts(notebook) == CHARTS
    assert [output for output in outputs(notebook) if output.output_type == "stream"] == []  # no warnings either


def test_without_statistics_it_says_how_to_get_some(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="run `make demo`"):
        run(notebook, tmp_path)


def test_it_is_kept_with_its_charts_and_is_small() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert charts(notebook) == CHARTS
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert NOTEBOOK.stat().st_size < 1_500_000


def test_it_tells_nothing_of_the_machine_on_which_it_ran() -> None:
    text = NOTEBOOK.read_text()
    assert str(Path.home()) + os.sep not in text
    assert str(NOTEBOOK.parents[1]) not in text
    assert "ipykernel_" not in text

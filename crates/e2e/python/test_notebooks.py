"""Every notebook runs from top to bottom in a real kernel, and is kept without outputs."""

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_four():
    assert [path.name[0] for path in NOTEBOOKS] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, runs, monkeypatch):
    for name, value in {"ARTIFACTS": runs.artifacts, "RUN": "smoke", "RUN_A": "smoke", "RUN_B": "tau-0.3"}.items():
        monkeypatch.setenv(f"AGCNN_{name}", str(value))
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(runs.folder)}}).execute()
    pictures = [out for cell in notebook.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert len(pictures) >= 1, "a notebook without a figure"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_kept_without_outputs(path):
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, cell.id


@pytest.mark.parametrize("path", ["notebooks/requirements.txt", "crates/e2e/python/requirements.txt"])
def test_every_package_is_pinned(path):
    lines = [line for line in (ROOT / path).read_text().splitlines() if not line.startswith("#")]
    assert lines and all("==" in line for line in lines)

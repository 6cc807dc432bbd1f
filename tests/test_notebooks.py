"""The notebooks run from top to bottom, and show what they promise."""

import ast
import os
import re
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install nbclient ipykernel ipywidgets")
pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install nbclient ipykernel ipywidgets")
pytest.importorskip("ipywidgets", reason="ipywidgets is not installed: pip install nbclient ipykernel ipywidgets")
nbformat = pytest.importorskip("nbformat")

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def shortened(notebook, total_timesteps):
    """Its first cell with code sets the length of the training."""
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert "TOTAL_TIMESTEPS = 8_000" in cell.source
    cell.source = cell.source.replace("TOTAL_TIMESTEPS = 8_000", f"TOTAL_TIMESTEPS = {total_timesteps}")
    return notebook


def test_quickstart(tmp_path, monkeypatch):
    """Progress bar, learning curve, a line with the mean return, and a film; nothing is written where it is run."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = shortened(nbformat.read(ROOT / "examples" / "quickstart.ipynb", as_version=4), 600)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/png", "image/gif"} <= kinds
    texts = [output["text"] for output in outputs if output.output_type == "stream"]
    assert any(text.startswith("mean return -") for text in texts)
    assert re.search(r"\d+/600 ", str(notebook.metadata["widgets"])), "a progress bar of 600 steps"
    assert not list(tmp_path.iterdir())


def test_quickstart_is_kept_without_outputs():
    """So that a change of it can be read; each cell is Python but for the line that IPython knows."""
    for cell in nbformat.read(ROOT / "examples" / "quickstart.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            ast.parse(cell.source.replace("%matplotlib inline\n", ""))

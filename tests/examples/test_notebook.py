"""The notebook runs from its first cell to its last, and shows what it says."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install -e '.[test]'")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install -e '.[test]'")
pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install -e '.[test]'")

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


def test_the_notebook_runs_and_shows_pictures(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code"), "store it without outputs"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    data = [output["data"] for output in outputs if output.output_type == "execute_result"]
    pictures = [base64.b64decode(each["image/png"]) for each in data if "image/png" in each]
    shown = [np.asarray(Image.open(io.BytesIO(picture))) for picture in pictures]
    assert len(shown) == 2 and all(picture.shape[0] > 240 and picture.shape[1] == 320 for picture in shown)
    text = "".join(output.get("text", "") for output in outputs)
    (agree,) = (float(line.partition("%")[0]) for line in text.splitlines() if "label that was drawn" in line)
    assert agree > 60 and Image.open(tmp_path / "overlay.png").width == 320
    assert any("house" in each.get("text/plain", "") and "plant" in each["text/plain"] for each in data)

"""Label PNGs as their readers decode them: WebDataset by the line of docs/exports.md, 8 and 16 bits."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from classed_runs import classed_run, label_maps
from export_readers import exported
from PIL import Image

DOCS = Path(__file__).parents[3] / "docs/exports.md"


@pytest.mark.parametrize("classes", [5, 300])
def test_the_documented_line_keeps_integers(folder: Path, classes: int) -> None:
    import webdataset

    output = exported(classed_run(folder, classes), "png")
    code = re.search(r"```python\n(import io.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    assert code is not None
    names = {"urls": [str(path) for path in (output / "train").glob("*.tar")], "webdataset": webdataset}
    exec(code[1], names)  # of our own page
    found = {sample["__key__"]: sample["seg.png"] for sample in names["data"]}
    wanted = label_maps(folder / "run")
    assert found.keys() == wanted.keys() and max(plane.max() for plane in found.values()) > 255 * (classes > 254)
    for key, plane in found.items():
        assert plane.dtype.kind in "iu"
        np.testing.assert_array_equal(plane, wanted[key])


@pytest.mark.parametrize("classes", [5, 300])
@pytest.mark.parametrize("base", [0, 1])
def test_plain_folders_hold_the_numbers_that_categories_json_names(folder: Path, classes: int, base: int) -> None:
    output = exported(classed_run(folder, classes), "png-folders", "--label-base", str(base))
    wanted = label_maps(folder / "run")
    for key, plane in wanted.items():
        found = np.asarray(Image.open(io.BytesIO((output / f"labels/train/{key}.png").read_bytes())))
        ignored = plane == np.iinfo(plane.dtype).max
        np.testing.assert_array_equal(found, np.where(ignored, plane, plane - 1 + base))

"""Official trees → shards → the reader's rows: images byte for byte, class indices as the protocol wants them."""

import io
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded
from PIL import Image

from scclip.jobs.cli.main import main
from scclip.pipeline.inputs.chunks import ChunkLimits
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.readers.unit import read_unit

pytestmark = pytest.mark.usefixtures("local_ray")


def ade_tree(root: Path, count: int) -> dict[str, bytes]:
    images = {}
    for number in range(1, count + 1):
        name = f"ADE_val_{number:08d}"
        images[name] = encoded(number, (20, 30), "JPEG")
        image, truth = root / f"images/validation/{name}.jpg", root / f"annotations/validation/{name}.png"
        for path in (image, truth):
            path.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(images[name])
        Image.fromarray(np.full((20, 30), number, np.uint8)).save(truth)
    return images


def test_shards_hold_the_images_and_the_protocols_indices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = ade_tree(tmp_path / "ADEChallengeData2016", 7)
    words = ["shard", "ade20k", str(tmp_path), str(tmp_path / "shards"), "--images", "3"]
    assert main(words) == 0
    assert "7 images in 3 shards (7 written now)" in capsys.readouterr().out
    found = {}
    for unit in plan_units([str(tmp_path / "shards")], truth="seg.png"):
        for chunk in read_unit(unit, ChunkLimits(), truth="seg.png"):
            for row in chunk.images.to_pylist():
                found[row["key"]] = row["data"]
                indices = np.asarray(Image.open(io.BytesIO(row["truth"])))
                assert (indices == int(row["key"][-8:]) - 1).all()
    assert found == images
    (tmp_path / "shards" / "ade20k-val-000001.tar").unlink()
    assert main(words) == 0
    assert "(3 written now)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["ade21k", "x", "y"], "ade20k"),
        (["folders", "x", "y"], "--truth"),
        (["ade20k", "/nowhere", "y"], "/nowhere"),
        (["ade20k", "x", "y", "--images", "0"], "--images"),
    ],
)
def test_wrong_input(words: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shard", *words]) == 2
    assert named in capsys.readouterr().err

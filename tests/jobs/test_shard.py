"""Official trees → shards → the reader's rows: images byte for byte, class indices as the protocol wants them."""

import io
from pathlib import Path

import numpy as np
import pytest
from odd_inputs import SQUARE, coco_file, write_bytes
from pictures import encoded
from PIL import Image
from processes import outcome

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
    code, heavy, _, said = outcome(words)
    assert (code, {"ray", "torch"} & {*heavy}) == (0, set()) and "(0 written now)" in said


def test_what_cannot_be_used_is_skipped_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bytes(tmp_path / "val/a.jpg", encoded(1, (40, 60), "JPEG"))
    write_bytes(tmp_path / "val/b.jpg", b"<html>")
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    shape = {"image_id": 1, "category_id": 44, "segmentation": [SQUARE]}
    odd = [{**shape, "id": 2, "segmentation": [[]]}, {**shape, "id": 3, "image_id": "9"}]
    truth = coco_file(tmp_path / "val.json", images, [{**shape, "id": 1}, *odd])
    words = ["shard", "coco", str(tmp_path / "val"), "--truth", str(truth)]
    assert main([*words, str(tmp_path / "shards")]) == 0
    captured = capsys.readouterr()
    kinds = (
        "annotations of no image: 1 (id 3)",
        "annotations without a shape: 1 (id 2)",
        "ground truth: 1 (b: no image)",
    )
    assert "1 image in 1 shard (1 written now)" in captured.out
    (line,) = [line for line in captured.err.splitlines() if line.startswith("scclip shard: ")]
    assert all(kind in line for kind in kinds)
    write_bytes(tmp_path / "val/a.jpg", b"")
    assert main([*words, str(tmp_path / "none")]) == 1
    assert "no image could be used; skipped: " in capsys.readouterr().err


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

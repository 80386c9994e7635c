"""The front door for Python and `scclip label`: equal labels on the demo's 64 scenes and on odd files, bit for bit."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from PIL import Image

from scclip import SegmentedImage, Segmenter
from scclip.jobs.cli.main import main
from scclip.jobs.demo import scene_files, write_shards
from scclip.pipeline.inputs.readers.tar import tar_bytes

SCENES = 64
ORIENTATION = 0x0112
Files = dict[str, bytes]


def odd_files() -> Files:
    """One scene as a turned JPEG, as grey, as deep grey, in CMYK, with alpha."""
    picture, tag = Image.open(io.BytesIO(scene_files(3)["png"])), Image.Exif()
    tag[ORIENTATION] = 6
    deep = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    forms = {"turned.jpg": (picture, "JPEG", {"exif": tag}), "grey.png": (picture.convert("L"), "PNG", {})}
    forms |= {"deep.png": (deep, "PNG", {}), "print.tif": (picture.convert("CMYK"), "TIFF", {})}
    forms["alpha.webp"] = picture.convert("RGBA"), "WEBP", {"lossless": True}
    files = {}
    for name, (image, kind, options) in forms.items():
        image.save(buffer := io.BytesIO(), kind, **options)
        files[name] = buffer.getvalue()
    return files


def members(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                yield member.name, tar.extractfile(member).read()  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("front")
    write_shards(str(root), SCENES)
    (root / "shards" / "odd.tar").write_bytes(tar_bytes(odd_files().items()))
    return root


@pytest.fixture(scope="module")
def run(local_ray: None, inputs: Path) -> Path:
    """What the command makes of them."""
    flags = ["--vocabulary", "demo", "--masks", "png"]
    assert main(["label", str(inputs / "shards"), str(inputs / "labels"), *flags]) == 0
    return inputs / "labels"


@pytest.fixture(scope="module")
def results(inputs: Path) -> dict[str, SegmentedImage]:
    """What the front door makes of the same files, by key."""
    skipped = ("seg.png", "json")
    files = {name: data for name, data in members(inputs / "shards") if not name.endswith(skipped)}
    labeled = Segmenter.from_pretrained("demo", vocabulary="demo")(list(files.values()))
    return {name.partition(".")[0]: result for name, result in zip(files, labeled, strict=True)}


def test_label_maps_are_equal(run: Path, results: dict[str, SegmentedImage]) -> None:
    masks = {name.partition(".")[0]: np.asarray(Image.open(io.BytesIO(data))) for name, data in members(run / "masks")}
    assert masks.keys() == results.keys() and len(masks) == SCENES + len(odd_files())
    different = [key for key, mask in masks.items() if not np.array_equal(mask, results[key].labels)]
    assert not different
    assert results["turned"].labels.shape == results["grey"].labels.T.shape != results["grey"].labels.shape


def test_segments_and_coco_are_equal_but_for_ids(run: Path, results: dict[str, SegmentedImage]) -> None:
    keys = {row["image_id"]: row["key"] for row in ds.dataset(run / "images").to_table().to_pylist()}
    rows = [row for row in ds.dataset(run / "segments").to_table().to_pylist()]
    ours = {(key, each.category_id): vars(each) for key, result in results.items() for each in result.segments}
    assert len(rows) == len(ours)
    for row in rows:
        mine = ours[keys[row["image_id"]], row["category_id"]]
        assert {**mine, "image_id": 0} == {**row, "image_id": 0, "name": mine["name"]}
    for path in (run / "coco").glob("*.json"):
        for entry in json.loads(path.read_text())["annotations"]:
            mine = results[keys[entry["image_id"]]].to_coco()["annotations"]
            (same,) = (each for each in mine if each["category_id"] == entry["category_id"])  # type: ignore[attr-defined]
            assert {**same, "id": 0, "image_id": 0} == {**entry, "id": 0, "image_id": 0}

"""Four ways to equal labels, bit for bit, on the demo's scenes and on odd files.

The command, a submitted job, the front door for Python, and the Ray Data operator.
"""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from PIL import Image
from processes import contents
from rayhead import head

from scclip import SegmentedImage, Segmenter
from scclip.jobs.cli.main import main
from scclip.jobs.demo import scene_files, write_shards
from scclip.pipeline.inputs.readers.tar import tar_bytes
from scclip.ray import LabelerConfig, label_dataset

SCENES = [12, pytest.param(64, marks=pytest.mark.slow)]
FLAGS = ["--vocabulary", "demo", "--masks", "png"]
ORIENTATION = 0x0112
Files = dict[str, bytes]
Rows = dict[str, dict[str, Any]]


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


@pytest.fixture(scope="module", params=SCENES)
def scenes(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, scenes: int) -> Path:
    root = tmp_path_factory.mktemp("front")
    write_shards(str(root), scenes)
    (root / "shards" / "odd.tar").write_bytes(tar_bytes(odd_files().items()))
    return root


@pytest.fixture(scope="module")
def pictures(inputs: Path) -> Files:
    """The encoded pictures by key."""
    skipped = ("seg.png", "json")
    files = {name: data for name, data in members(inputs / "shards") if not name.endswith(skipped)}
    return {name.partition(".")[0]: data for name, data in files.items()}


@pytest.fixture(scope="module")
def run(local_ray: None, inputs: Path) -> Path:
    """What the command makes of them."""
    assert main(["label", str(inputs / "shards"), str(inputs / "labels"), *FLAGS]) == 0
    return inputs / "labels"


@pytest.fixture(scope="module")
def submitted(inputs: Path) -> Path:
    """What a job makes of them that is submitted to the job server of a head of its own."""
    with head(cpus=2) as url:
        words = ["label", str(inputs / "shards"), str(inputs / "submitted"), *FLAGS]
        assert main(["submit", "--address", url, "--", *words]) == 0
    return inputs / "submitted"


@pytest.fixture(scope="module")
def results(pictures: Files) -> dict[str, SegmentedImage]:
    """What the front door makes of the same files, by key."""
    labeled = Segmenter.from_pretrained("demo", vocabulary="demo")(list(pictures.values()))
    return dict(zip(pictures, labeled, strict=True))


@pytest.fixture(scope="module")
def rows(local_ray: None, pictures: Files) -> Rows:
    """What the operator makes of the same files, by key."""
    import ray

    table = pa.table({"key": list(pictures), "image": list(pictures.values())})
    labeled = label_dataset(ray.data.from_arrow(table), LabelerConfig(vocabulary="demo")).take_all()
    return {row["key"]: row for row in labeled}


def test_label_maps_are_equal(run: Path, results: dict[str, SegmentedImage], rows: Rows, scenes: int) -> None:
    masks = {name.partition(".")[0]: np.asarray(Image.open(io.BytesIO(data))) for name, data in members(run / "masks")}
    assert masks.keys() == results.keys() and len(masks) == scenes + len(odd_files())
    different = [key for key, mask in masks.items() if not np.array_equal(mask, results[key].labels)]
    assert not different
    assert results.keys() == rows.keys()
    planes = {key: np.asarray(Image.open(io.BytesIO(row["mask"]))) for key, row in rows.items()}
    assert not [key for key, plane in planes.items() if not np.array_equal(plane, results[key].labels)]
    assert results["turned"].labels.shape == results["grey"].labels.T.shape != results["grey"].labels.shape


@pytest.mark.slow
def test_a_submitted_job_writes_the_same_files(run: Path, submitted: Path) -> None:
    files = contents(run)
    assert contents(submitted) == files and {name.partition("/")[0] for name in files} >= {"masks", "segments", "coco"}


def test_segments_and_coco_are_equal_but_for_ids(run: Path, results: dict[str, SegmentedImage], rows: Rows) -> None:
    keys = {row["image_id"]: row["key"] for row in ds.dataset(run / "images").to_table().to_pylist()}
    segments = ds.dataset(run / "segments").to_table().to_pylist()
    ours = {(key, each.category_id): vars(each) for key, result in results.items() for each in result.segments}
    assert len(segments) == len(ours) == sum(len(row["segments"]) for row in rows.values())
    for row in segments:
        mine = ours[keys[row["image_id"]], row["category_id"]]
        assert {**mine, "image_id": 0} == {**row, "image_id": 0, "name": mine["name"]}
    for key, labeled in rows.items():
        for row in labeled["segments"]:
            row["bbox"] = list(row["bbox"])
            assert {**ours[key, row["category_id"]], "image_id": 0} == {**row, "image_id": 0}
    for path in (run / "coco").glob("*.json"):
        for entry in json.loads(path.read_text())["annotations"]:
            mine = results[keys[entry["image_id"]]].to_coco()["annotations"]
            (same,) = (each for each in mine if each["category_id"] == entry["category_id"])  # type: ignore[attr-defined]
            assert {**same, "id": 0, "image_id": 0} == {**entry, "id": 0, "image_id": 0}

"""COCO files as ground truth, against pycocotools' own rendering and against planes drawn by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import encoded
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from scclip.pipeline.benchmarks.coco import coco_samples
from scclip.pipeline.benchmarks.downloads import Sample
from scclip.pipeline.benchmarks.sharding import members
from scclip.pipeline.inputs.resolve import InputError

SIZE = (40, 60)
CATEGORIES = [{"id": 44, "name": "bottle"}, {"id": 3, "name": "car"}, {"id": 90, "name": "brush"}]  # not in order


def truth(sample: Sample, tmp_path: Path) -> np.ndarray:
    path = tmp_path / "truth.png"
    path.write_bytes(members(sample)[f"{sample.key}.seg.png"])
    return np.asarray(Image.open(path))


def write(tmp_path: Path, name: str, annotations: list[dict[str, Any]], count: int = 2) -> tuple[str, str]:
    folder = tmp_path / "val2017"
    folder.mkdir(exist_ok=True)
    images = [
        {"id": 7 + n, "file_name": f"{7 + n:012d}.jpg", "height": SIZE[0], "width": SIZE[1]} for n in range(count)
    ]
    for image in images:
        (folder / str(image["file_name"])).write_bytes(encoded(1, SIZE, "JPEG"))
    file = tmp_path / name
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES}))
    return str(folder), str(file)


def instances() -> list[dict[str, Any]]:
    crowd = np.zeros(SIZE, np.uint8)
    crowd[30:, 40:] = 1
    packed = coco_mask.encode(np.asfortranarray(crowd))
    packed["counts"] = packed["counts"].decode()
    runs = {"size": list(SIZE), "counts": [0, 40, 40 * 60 - 40]}  # the first column
    shapes: list[tuple[int, Any, int]] = [
        (3, [[10, 5, 50, 5, 50, 35, 10, 35]], 1200),
        (44, [[20, 10, 30, 10, 30, 20, 20, 20], [40, 10, 45, 10, 45, 20, 40, 20]], 150),
        (90, packed, 200),
        (90, runs, 40),
    ]
    return [
        {"id": n, "image_id": 7, "category_id": category, "segmentation": shape, "area": area, "iscrowd": 0}
        for n, (category, shape, area) in enumerate(shapes, start=1)
    ]


@pytest.mark.parametrize("background", [False, True])
def test_instances_are_painted_with_the_smaller_above(background: bool, tmp_path: Path) -> None:
    folder, file = write(tmp_path, "instances.json", instances())
    samples, classes = coco_samples(folder, file, background=background)
    assert classes == ["car", "bottle", "brush"] and [sample.key for sample in samples] == [
        "000000000007",
        "000000000008",
    ]
    document = COCO(file)
    expected = np.full(SIZE, 0 if background else 255, np.uint8)
    for annotation in sorted(document.anns.values(), key=lambda entry: -entry["area"]):
        value = [3, 44, 90].index(annotation["category_id"]) + background
        expected[document.annToMask(annotation).astype(bool)] = value
    np.testing.assert_array_equal(truth(samples[0], tmp_path), expected)
    assert (truth(samples[1], tmp_path) == (0 if background else 255)).all()


@pytest.mark.parametrize("background", [False, True])
def test_panoptic_colours_are_looked_up(background: bool, tmp_path: Path) -> None:
    ids = np.zeros(SIZE, np.int64)
    ids[:10], ids[20:, 30:] = 3226956, 300
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
    (tmp_path / "panoptic_val2017").mkdir()
    Image.fromarray(colours).save(tmp_path / "panoptic_val2017/000000000007.png")
    infos = [{"id": 3226956, "category_id": 44}, {"id": 300, "category_id": 90}]
    annotations = [{"image_id": 7, "file_name": "000000000007.png", "segments_info": infos}]
    folder, file = write(tmp_path, "panoptic_val2017.json", annotations, count=1)
    (sample,), _ = coco_samples(folder, file, background=background)
    expected = np.full(SIZE, 0 if background else 255, np.uint8)
    expected[:10], expected[20:, 30:] = 1 + background, 2 + background
    np.testing.assert_array_equal(truth(sample, tmp_path), expected)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "is not JSON"),
        ("[]", "has no images"),
        ('{"images": [{}], "annotations": [], "categories": [{}]}', "has no annotations"),
        ('{"images": [{"id": 1, "file_name": "x.jpg"}], "annotations": [{"image_id": 1, "id": 1, "category_id": 5, '
         '"segmentation": []}], "categories": [{"id": 1, "name": "car"}]}', "an unknown 5"),
    ],
)  # fmt: skip
def test_other_files_are_refused_in_one_line(content: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(content)
    with pytest.raises(InputError, match=named) as caught:
        coco_samples(str(tmp_path), str(file), background=False)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_images_are_named(tmp_path: Path) -> None:
    folder, file = write(tmp_path, "instances.json", instances())
    (tmp_path / "val2017/000000000008.jpg").unlink()
    with pytest.raises(InputError, match=r"expected the image of 000000000008 in .*000000000008\.jpg"):
        coco_samples(folder, file, background=False)
    with pytest.raises(InputError, match="no such file"):
        coco_samples(folder, str(tmp_path / "none.json"), background=False)

"""Segmentations as files have them: whatever is no shape costs itself, is counted, and named by its annotation's id."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_inputs import SQUARE, coco_file, write_bytes
from pictures import encoded
from pycocotools import mask as coco_mask

from scclip.pipeline.annotations.png import png, read_plane
from scclip.pipeline.annotations.rle import decode, unpack_counts
from scclip.pipeline.benchmarks.coco import coco_samples
from scclip.pipeline.benchmarks.downloads import Sample
from scclip.pipeline.benchmarks.shapes import Shape, encode, paint
from scclip.pipeline.benchmarks.sharding import UNUSABLE, members, write_shard
from scclip.pipeline.benchmarks.skipped import Skipped
from scclip.pipeline.inputs.resolve import InputError

HEIGHT, WIDTH = SIZE = (40, 60)
PIXELS = HEIGHT * WIDTH
SHAPELESS = {
    "missing": None,
    "empty": [],
    "empty polygon": [[]],
    "two points": [[3, 3, 20, 20]],
    "several of two points": [[3, 3, 20, 20], [5, 5, 9, 9]],
    "flat list": SQUARE,
    "pairs": [[[10, 5], [20, 5], [20, 15]]],
    "null": [[10, 5, 20, None, 20, 15]],
    "not a number": [[10, 5, 20, math.nan, 20, 15]],
    "infinite": [[10, 5, 20, math.inf, 20, 15]],
    "far away": [[10, 5, 20, 1e9, 20, 15]],
    "beyond floats": [[10, 5, 20, 10**400, 20, 15]],
    "text among numbers": [[10, 5, "20", 5, 20, 15]],
    "text": "10 5 20 5 20 15",
    "number": 7,
    "no counts": {"size": list(SIZE)},
}
UNFIT = {
    "another size": {"size": [60, 40], "counts": [0, PIXELS]},
    "no size": {"counts": [0, PIXELS]},
    "too short": {"size": list(SIZE), "counts": [5, 20, 7]},
    "too long": {"size": list(SIZE), "counts": [0, PIXELS, 1]},
    "beyond 64 bits": {"size": list(SIZE), "counts": [2**64, 1]},
    "none": {"size": list(SIZE), "counts": []},
    "negative": {"size": list(SIZE), "counts": [PIXELS + 9, -9]},
    "null among them": {"size": list(SIZE), "counts": [9, None, PIXELS - 9]},
    "parts of pixels": {"size": list(SIZE), "counts": [0.5, PIXELS - 0.5]},
    "no run lengths": {"size": list(SIZE), "counts": None},
    "compressed, too short": {"size": list(SIZE), "counts": "52203"},
    "compressed, empty": {"size": list(SIZE), "counts": ""},
    "compressed, cut": {"size": list(SIZE), "counts": "PPPo"},
    "compressed, endless": {"size": list(SIZE), "counts": "o" * 99 + "0"},
    "compressed, other letters": {"size": list(SIZE), "counts": "5 2\u00e9"},
}


def painted(*segmentations: Any) -> tuple[np.ndarray, Skipped]:
    """The plane of these shapes, of values from 1 and ids from 9001, and what was skipped."""
    skipped = Skipped()
    shapes = [Shape(n, each, 9000 + n) for n, each in enumerate(segmentations, start=1)]
    return paint(shapes, *SIZE, skipped), skipped


@pytest.mark.parametrize("name", [*SHAPELESS, *UNFIT])
def test_what_is_no_shape_costs_itself_and_is_named(name: str) -> None:
    odd = {**SHAPELESS, **UNFIT}[name]
    plane, skipped = painted([SQUARE], odd)
    np.testing.assert_array_equal(plane, painted([SQUARE])[0])
    kind = "without a shape" if name in SHAPELESS else "that do not fit their image"
    assert len(skipped.kinds) == 1 and kind in skipped.line() and "1 (id 9002)" in skipped.line()


@pytest.mark.parametrize("parts", [[SQUARE, [3, 3, 4, 4]], [[3, 3, 4, 4], SQUARE], [[], SQUARE, None]])
def test_a_part_that_is_no_polygon_costs_itself(parts: list[Any]) -> None:
    plane, skipped = painted(parts)
    np.testing.assert_array_equal(plane, painted([SQUARE])[0])
    assert skipped.kinds == {"parts of annotations that are no polygon": (1, "id 9001")}


def test_shapes_that_reach_out_of_the_image_are_cut_as_pycocotools_does() -> None:
    outside = [-30.0, -5.5, 90.0, 3.0, 70.0, 200.0]
    plane, skipped = painted([outside], [[*SQUARE, 7]])
    for value, polygon in ((1, outside), (2, SQUARE)):
        mask = coco_mask.decode(coco_mask.frPyObjects([polygon], *SIZE))[:, :, 0].astype(bool)
        assert (plane[mask] >= value).all() and (plane[~mask] != value).all()
    assert not skipped.kinds and skipped.line() == ""


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 90), max_size=30), st.integers(1, 50), st.text(max_size=12))
def test_run_lengths_read_as_pycocotools_writes_them(runs: list[int], height: int, text: str) -> None:
    flat = np.repeat(np.arange(len(runs)) % 2, runs)
    mask = np.append(flat, np.zeros(-flat.size % height or height, int)).reshape(-1, height).T
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    counts = unpack_counts(rle["counts"].decode())
    np.testing.assert_array_equal(np.repeat(np.arange(len(counts)) % 2, counts), mask.T.ravel())
    for given_counts in (counts, rle["counts"].decode()):
        shape = Shape(1, {"size": list(mask.shape), "counts": given_counts}, 1)
        found = encode(shape, *mask.shape, Skipped())
        assert found is not None
        np.testing.assert_array_equal(decode(found), mask)
    encode(Shape(1, {"size": [height, 9], "counts": text}, 1), height, 9, Skipped())  # nothing ends the process


def tree(folder: Path, *annotations: dict[str, Any], image: str = "a.jpg") -> tuple[str, str]:
    """A folder with two pictures, and a COCO file that names the second as `image`."""
    for name in ("a", "sub/b", "sub/c"):
        write_bytes(folder / f"val/{name}.jpg", encoded(1, SIZE, "JPEG"))
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": image}]
    return str(folder / "val"), str(coco_file(folder / "val.json", images, annotations))


def entry(number: int, **values: Any) -> dict[str, Any]:
    return {"id": number, "image_id": 7, "category_id": 44, "segmentation": [SQUARE], **values}


def test_annotations_of_no_image_and_no_category_are_counted(tmp_path: Path) -> None:
    odd = [entry(2, image_id="99"), entry(3, image_id=None), entry(4, category_id=5), entry(5, image_id=[7])]
    folder, file = tree(tmp_path, entry(1), *odd)
    skipped = Skipped()
    samples, _ = coco_samples(folder, file, background=False, skipped=skipped)
    assert [[shape.identity for shape in sample.shapes or ()] for sample in samples] == [[1], []]
    assert skipped.line() == (
        "skipped: annotations of no image: 3 (id 2); annotations of no category: 1 (id 4 has an unknown 5)"
    )
    folder, file = tree(tmp_path, *odd[:2])
    with pytest.raises(InputError, match=r"no annotation can be used.*no image: 2 \(id 2\)"):
        coco_samples(folder, file, background=False)
    boxes = [{**entry(6), "bbox": [1, 2, 3, 4], "segmentation": []}, entry(7, segmentation=None)]
    folder, file = tree(tmp_path, *boxes)
    with pytest.raises(InputError, match=r"no annotation can be used.*without a shape: 2 \(id 6\)"):
        coco_samples(folder, file, background=True)


def test_entries_that_are_none_are_named_or_counted(tmp_path: Path) -> None:
    folder, file = tree(tmp_path, entry(1))
    document = json.loads(Path(file).read_text())
    document["annotations"] += [None, "text", []]
    Path(file).write_text(json.dumps(document))
    skipped = Skipped()
    coco_samples(folder, file, background=False, skipped=skipped)
    assert skipped.kinds == {"annotations of no image": (3, "id 2")}
    for name, value in (("images", {"file_name": "a.jpg"}), ("images", {"id": 1}), ("categories", {"name": "x"})):
        Path(file).write_text(json.dumps({**document, name: [*document[name], value, None]}))
        with pytest.raises(InputError, match=f"number 3 of its {name} has no id or no file_name"):
            coco_samples(folder, file, background=False)


def test_ids_that_are_text_link_as_text(tmp_path: Path) -> None:
    folder, file = tree(tmp_path, entry(1, image_id=" img_8"), entry(2, category_id="cat"))
    document = json.loads(Path(file).read_text())
    document["images"][1]["id"] = "img_8"
    document["categories"].append({"id": "cat"})
    Path(file).write_text(json.dumps(document))
    samples, classes = coco_samples(folder, file, background=False)
    assert classes == ["car", "bottle", "cat"]
    assert [[shape.value for shape in sample.shapes or ()] for sample in samples] == [[3], [2]]


@pytest.mark.parametrize(
    ("name", "key"),
    [("./sub/b.jpg", "sub/b"), ("sub//c.jpg", "sub/c"), ("sub/./c.jpg", "sub/c"), ("sub\\b.jpg", "sub/b")],
)
def test_images_are_found_whatever_their_names_look_like(name: str, key: str, tmp_path: Path) -> None:
    folder, file = tree(tmp_path, entry(1), image=name)
    samples, _ = coco_samples(folder, file, background=False)
    assert [sample.key for sample in samples] == ["a", key]


def test_a_sample_that_cannot_be_used_costs_itself(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.jpg", encoded(1, SIZE, "JPEG"))
    write_bytes(tmp_path / "broken.jpg", b"<html>")
    write_bytes(tmp_path / "a.png", encoded(2, SIZE, "PNG"))
    image, truth = str(tmp_path / "a.jpg"), str(tmp_path / "a.png")
    good = Sample("good", image, truth, None, shapes=(Shape(1, [SQUARE], 1), Shape(1, None, 2)))
    colours, broken = (
        Sample("colours", image, truth, None),
        Sample("b", str(tmp_path / "broken.jpg"), truth, None),
    )
    shard = write_shard(str(tmp_path / "x.tar"), [good, colours, broken])
    colossal = bytearray(encoded(1, SIZE, "PNG"))
    colossal[16:24] = (60_000).to_bytes(4, "big") * 2  # what its header says, without pixels to match
    write_bytes(tmp_path / "colossal.png", bytes(colossal))
    colossus = Sample("colossus", str(tmp_path / "colossal.png"), "", None, shapes=good.shapes)
    assert "pixels" in write_shard(str(tmp_path / "y.tar"), [colossus]).skipped.line()
    assert shard.samples == 1 and (tmp_path / "x.tar").exists()
    assert shard.skipped.count(UNUSABLE) == 2 and "colours: ground truth must be one plane" in shard.skipped.line()
    assert shard.skipped.count("annotations without a shape") == 1
    assert write_shard(str(tmp_path / "y.tar"), [broken]).samples == 0 and not (tmp_path / "y.tar").exists()
    with pytest.raises(FileNotFoundError):
        write_shard(str(tmp_path / "y.tar"), [Sample("c", str(tmp_path / "none.jpg"), truth, None)])


def test_panoptic_segments_that_cannot_be_used_cost_themselves(tmp_path: Path) -> None:
    segments = [{"id": "300", "category_id": "44"}, {"id": 301, "category_id": 5}, {"category_id": 44}, None]
    annotation = {"id": 1, "image_id": "7", "file_name": "a.png", "segments_info": segments}
    folder, file = tree(tmp_path, annotation, {"id": 2, "image_id": 8, "segments_info": None})
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[:10, :, :2], colours[10:20, :, :2] = (300 % 256, 300 // 256), (301 % 256, 301 // 256)
    for name in ("a", "sub/b"):
        write_bytes(tmp_path / f"val/{name}.png", png(colours))
    document = json.loads(Path(file).read_text())
    document["images"][1]["file_name"] = "sub/b.jpg"
    Path(file).write_text(json.dumps(document))
    skipped = Skipped()
    first, second = coco_samples(folder, file, background=False, skipped=skipped)[0]
    plane = read_plane(members(first)["a.seg.png"])
    assert (plane[:10] == 1).all() and (plane[10:] == 255).all()
    assert (read_plane(members(second)["sub/b.seg.png"]) == 255).all()
    assert skipped.count("segments of no category") == 2 and "(id 301 has an unknown 5)" in skipped.line()

"""coco.py against pycocotools (strings, areas, boxes, documents) and scipy.ndimage (components)."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as pycocotools_mask
from pycocotools.coco import COCO
from scipy import ndimage

from scclip.categories import Categories, ignore_value
from scclip.pipeline.annotations import coco, rle
from scclip.pipeline.annotations.schemas import (
    IMAGES_SCHEMA,
    SEGMENTS_SCHEMA,
    ImageRecord,
    SegmentRecord,
    Status,
    table_of,
)


def blobby(height: int, width: int, classes: int, *, seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    """Smooth regions: the argmax of smoothed noise on a 16-pixel grid, as patch logits upsample. Categories 1..N."""
    rng = np.random.default_rng(seed)
    grid = (max(1, height // 16), max(1, width // 16))
    fields = ndimage.gaussian_filter(rng.normal(size=(classes, *grid)), (0, 1, 1))
    zoom = (1, height / grid[0], width / grid[1])
    return (np.argmax(ndimage.zoom(fields, zoom, order=1), axis=0) + 1).astype(dtype)


def label_maps() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    single = np.zeros((37, 41), np.uint8)
    single[36, 40] = 7
    corners = np.full((5, 6), 255, np.uint8)
    corners[0, 0] = corners[-1, -1] = 9
    holes = blobby(200, 150, 12)
    holes[rng.random(holes.shape) < 0.05] = 255
    holes[:30] = 0
    return {
        "noise": rng.integers(0, 21, (97, 61)).astype(np.uint8),
        "two values": rng.integers(1, 3, (64, 64)).astype(np.uint8),
        "blobby": blobby(240, 320, 20),
        "holes": holes,
        "rows": np.repeat(np.arange(50, dtype=np.uint8)[:, None] % 3, 33, axis=1),
        "columns": np.repeat(np.arange(50, dtype=np.uint8)[None] % 3, 33, axis=0),
        "checkerboard": (np.indices((31, 30)).sum(axis=0) % 2 + 1).astype(np.uint8),
        "single pixel": single,
        "corners": corners,
        "one class": np.full((48, 64), 5, np.uint8),
        "background": np.zeros((8, 9), np.uint8),
        "ignored": np.full((8, 9), 255, np.uint8),
        "1 × 1": np.ones((1, 1), np.uint8),
        "tall": (np.arange(30000) // 777 % 4).astype(np.uint8)[:, None],
        "wide": (np.arange(30000) // 777 % 4).astype(np.uint8)[None],
        "uint16": rng.choice(np.array([0, 1, 255, 256, 4095, 65535], np.uint16), (77, 53)),
        "not contiguous": blobby(60, 80, 5)[::-2, ::3],
    }


def assert_equals_oracles(labels: np.ndarray, segments: dict[int, rle.Segment], skip: set[int]) -> None:
    assert list(segments) == sorted({int(label) for label in np.unique(labels)} - skip)
    for category, segment in segments.items():
        mask = np.asfortranarray(labels == category)
        oracle = pycocotools_mask.encode(mask)
        assert segment.rle["counts"] == oracle["counts"].decode(), category
        assert segment.rle["size"] == list(oracle["size"])
        assert segment.area == int(pycocotools_mask.area(oracle))
        assert list(segment.bbox) == pycocotools_mask.toBbox(oracle).tolist()
        assert segment.components == ndimage.label(mask)[1]
        assert type(segment.area) is int and all(type(side) is int for side in segment.bbox)


@pytest.mark.parametrize("name", label_maps())
def test_segments_equal_pycocotools_and_ndimage(name):
    labels = label_maps()[name]
    assert_equals_oracles(labels, rle.encode_label_map(labels), {0, ignore_value(labels.dtype)})
    assert_equals_oracles(labels, rle.encode_label_map(labels, skip=()), set())


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 24), st.integers(1, 24), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_segments_of_any_small_map(height, width, values, seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 1, 2, 254, 255, 17], np.uint8)[:values], (height, width))
    assert_equals_oracles(labels, rle.encode_label_map(labels), {0, 255})


def test_large_map_with_counts_of_six_characters():
    labels = np.zeros((3000, 4000), np.uint8)
    labels[1500:1502, 1] = labels[7, 3000:] = 1
    labels[2999, 3999] = 2
    assert_equals_oracles(labels, rle.encode_label_map(labels), {0, 255})
    assert max(np.diff(np.flatnonzero(labels.ravel("F")))) > 2**23


def test_masks_are_disjoint_and_cover_the_image():
    labels = label_maps()["holes"]
    masks = [rle.decode(segment.rle) for segment in rle.encode_label_map(labels).values()]
    assert np.array_equal(np.sum(masks, axis=0), (labels != 0) & (labels != 255))


@pytest.mark.parametrize("labels", [np.zeros((2, 2), np.float32), np.zeros((0, 3), np.uint8), np.zeros(4, np.uint8)])
def test_other_arrays_are_refused(labels):
    with pytest.raises(ValueError, match="label map"):
        rle.encode_label_map(labels)


def test_ids():
    assert coco.image_id(1, 0) == 2**20
    assert coco.annotation_id(coco.image_id(3, 5), 7) == ((3 * 2**20 + 5) << 12) + 7
    assert coco.annotation_id(coco.image_id(2**21 - 1, 2**20 - 1), 4095) == 2**53 - 1
    for unit, index in ((0, 0), (2**21, 0), (1, -1), (1, 2**20)):
        with pytest.raises(ValueError, match="not in"):
            coco.image_id(unit, index)
    for image, category in ((-1, 1), (2**41, 1), (5, 0), (5, 4096)):
        with pytest.raises(ValueError, match="not in"):
            coco.annotation_id(image, category)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("000000142238", 142238),
        ("0", 0),
        (str(2**41 - 1), 2**41 - 1),
        (str(2**41), None),
        ("9" * 10_000, None),
        ("0" * 10_000 + "8", 8),
        *((key, None) for key in ("", "-1", "+1", "1.0", " 1", "1_0", "0x1", "²", "٣", "a/1")),
    ],
)
def test_key_image_id(key, expected):
    assert coco.key_image_id(key) == expected


def test_categories():
    assert coco.categories(
        Categories({0: "background", 1: "car", 2: "road", 3: "x"}, {1: True, 2: False, 3: None})
    ) == [
        {"id": 1, "name": "car", "supercategory": "thing", "isthing": 1},
        {"id": 2, "name": "road", "supercategory": "stuff", "isthing": 0},
        {"id": 3, "name": "x", "supercategory": "unknown"},
    ]
    with pytest.raises(ValueError, match=r"\[1, 3\]"):
        Categories({1: "a", 3: "b"})


def test_document_loads_in_pycocotools(tmp_path: Path):
    labels = label_maps()["holes"]
    image = ImageRecord(image_id=coco.image_id(2, 1), key="é", file_name="é.jpg", index=1, height=200, width=150)
    failed = ImageRecord(image_id=coco.image_id(2, 2), key="b", file_name="b.jpg", index=2, status=Status.UNREADABLE)
    rows = [
        SegmentRecord(
            image_id=image.image_id,
            category_id=category,
            area=segment.area,
            area_fraction=0.5,
            bbox=[float(side) for side in segment.bbox],
            mean_confidence=0.5,
            p10_confidence=0.5,
            margin=0.5,
            components=segment.components,
            rle=segment.rle,
        )
        for category, segment in rle.encode_label_map(labels).items()
    ]
    names = Categories({category: f"class {category}" for category in range(13)})
    tables = table_of([image, failed], IMAGES_SCHEMA), table_of(rows, SEGMENTS_SCHEMA)
    document = coco.document(*tables, categories=coco.categories(names), info={"description": "test"})
    path = tmp_path / "document.json"
    path.write_bytes(coco.dump(document))
    assert json.loads(path.read_bytes()) == document
    loaded = COCO(str(path))
    assert loaded.getImgIds() == [image.image_id] and loaded.getCatIds() == list(range(1, 13))
    assert loaded.loadImgs(image.image_id)[0]["file_name"] == "é.jpg"
    painted = np.zeros_like(labels)
    for annotation in loaded.loadAnns(loaded.getAnnIds()):
        assert annotation["id"] == image.image_id * 4096 + annotation["category_id"]
        assert (type(annotation["area"]), annotation["iscrowd"]) == (float, 0)
        painted += loaded.annToMask(annotation) * np.uint8(annotation["category_id"])
    assert np.array_equal(painted, np.where(labels == 255, 0, labels))

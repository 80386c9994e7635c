"""A labeled picture gives the same labels in every form: masks, segments, COCO, supervision, overlay."""

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as pycocotools_mask
from scipy import ndimage

from scclip.categories import Categories
from scclip.errors import UserError
from scclip.pipeline.predict.result import SegmentedImage
from scclip.pipeline.review.drawing import colour
from scclip.segmentation.types import Segmentation


def segmented(background: bool = True, dtype: Any = np.uint8) -> SegmentedImage:
    """Three classes of which two are there, background and ignored pixels."""
    random = np.random.default_rng(5)
    labels = np.kron(random.integers(0, 3, (6, 8)), np.ones((5, 5))).astype(dtype)
    labels[:4, :9] = np.iinfo(dtype).max
    if not background:
        labels[labels == 0] = np.iinfo(dtype).max
    sure = random.integers(0, 256, labels.shape).astype(np.uint8)
    planes = Segmentation(labels, labels, sure, np.full_like(labels, 3), sure, 0.5, 0, 1)
    rgb = random.integers(0, 256, (*labels.shape, 3)).astype(np.uint8)
    classes = Categories.of([("car", True), ("road", False), ("sky", None)], background=background)
    return SegmentedImage(rgb, planes, classes, "photo.jpg")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("background", [True, False])
def test_masks_and_segments_are_the_label_map(background: bool, dtype: Any) -> None:
    result = segmented(background, dtype)
    assert list(result.masks) == [each.name for each in result.segments] == ["car", "road"]
    for category, segment in enumerate(result.segments, start=1):
        mask = result.labels == category
        np.testing.assert_array_equal(result.masks[segment.name], mask)
        np.testing.assert_array_equal(segment.mask, mask)
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert segment.bbox == box and segment.area == mask.sum() and segment.runner_up == 3
        assert segment.components == ndimage.label(mask)[1]
        assert segment.mean_confidence == pytest.approx(result.confidence[mask].mean(), abs=1e-6)
    assert "car" in repr(result) and "40 × 30" in repr(result)


def test_the_coco_document_is_what_pycocotools_reads() -> None:
    from pycocotools.coco import COCO

    result, data = segmented(), COCO()
    data.dataset = json.loads(json.dumps(result.to_coco(image_id=7)))
    data.createIndex()
    assert data.imgs[7] == {"id": 7, "file_name": "photo.jpg", "height": 30, "width": 40}
    assert {key: entry["name"] for key, entry in data.cats.items()} == {1: "car", 2: "road", 3: "sky"}
    labels = np.zeros((30, 40), np.uint8)
    for annotation in data.loadAnns(data.getAnnIds(imgIds=[7])):
        labels[data.annToMask(annotation) == 1] = annotation["category_id"]
        assert annotation["area"] == pycocotools_mask.area(annotation["segmentation"])
    np.testing.assert_array_equal(labels, np.where(result.labels == 255, 0, result.labels))


def test_supervision_has_the_same_masks_and_names() -> None:
    pytest.importorskip("supervision", reason="supervision is not installed")
    result = segmented()
    detections = result.to_supervision()
    assert detections.mask is not None and detections.class_id is not None
    assert detections.data["class_name"].tolist() == ["car", "road"] and detections.class_id.tolist() == [1, 2]
    for mask, category, (left, top, right, bottom) in zip(
        detections.mask, detections.class_id, detections.xyxy, strict=True
    ):
        np.testing.assert_array_equal(mask, result.labels == category)
        assert mask[int(top) : int(bottom), int(left) : int(right)].sum() == mask.sum()
    import supervision

    drawn = supervision.MaskAnnotator().annotate(result.image.copy(), detections)
    assert (drawn != result.image).any()
    empty = segmented()
    empty.labels[:] = 0
    assert len(empty.to_supervision()) == 0


def test_without_supervision_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(UserError, match="pip install supervision"):
        segmented().to_supervision()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_overlay_colours_classes_and_leaves_the_rest(dtype: Any) -> None:
    result = segmented(dtype=dtype)
    drawn, opaque = np.asarray(result.overlay(0.6)), np.asarray(result.overlay(1))
    rest = (result.labels == 0) | (result.labels == np.iinfo(dtype).max)
    np.testing.assert_array_equal(drawn[rest], result.image[rest])
    for category in (1, 2):
        pixels = result.labels == category
        np.testing.assert_array_equal(opaque[pixels], np.broadcast_to(colour(category), (pixels.sum(), 3)))
        wanted = 0.4 * result.image[pixels] + 0.6 * np.array(colour(category))
        assert np.abs(drawn[pixels] - wanted).max() <= 0.51
    assert result.overlay(0).tobytes() == result.image.tobytes()
    with pytest.raises(UserError, match="between 0 and 1"):
        result.overlay(60)


def test_the_legend_names_every_class_in_its_colour_and_the_notebook_shows_it() -> None:
    result = segmented()
    legend = np.asarray(result.overlay(legend=True))[30:]
    for category in (1, 2):
        assert (legend == colour(category)).all(axis=-1).sum() > 100
    assert not (legend == colour(3)).all(axis=-1).any()
    shown = Image.open(io.BytesIO(result._repr_png_()))
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(result.overlay(legend=True)))

"""Polygons along pixel edges against pycocotools, the shoelace formula and OpenCV."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy import ndimage

from scclip.pipeline.annotations.polygons import outline


def components(seed: int) -> list[np.ndarray]:
    """The 4-connected components of a random mask, coarse or fine, with holes and diagonal touches."""
    random = np.random.default_rng(seed)
    mask = random.random(tuple(random.integers(1, 40, 2))) < random.random()
    if seed % 3 == 0:
        mask = np.kron(mask, np.ones((3, 4), bool))
    numbered, count = ndimage.label(mask)
    return [numbered == number for number in range(1, count + 1)]


def shoelace(ring: np.ndarray) -> float:
    x, y = ring.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


@pytest.mark.parametrize("seed", range(30))
def test_a_polygon_is_its_mask_to_the_pixel(seed: int) -> None:
    """pycocotools gives back every pixel, holes included, and the ring's signed area is the number of pixels."""
    for mask in components(seed):
        ring = outline(mask)
        rles = coco_mask.frPyObjects([ring.ravel().tolist()], *mask.shape)
        np.testing.assert_array_equal(coco_mask.decode(coco_mask.merge(rles)).astype(bool), mask)
        assert shoelace(ring) == mask.sum()
        assert ring.min() >= 0 and (ring.max(axis=0) <= mask.shape[::-1]).all()


def test_holes_within_holes_of_one_component() -> None:
    """A comb of frames joined by a bar: several holes at one height, holes that see other holes on their left."""
    mask = np.ones((15, 31), bool)
    for left in (1, 8, 15, 22):
        mask[2:13, left : left + 6] = False
        mask[4:11, left + 2 : left + 4] = True
        mask[7, left : left + 3] = True
        mask[6:8, left + 3] = False
    parts, count = ndimage.label(mask)
    for number in range(1, count + 1):
        part = parts == number
        rles = coco_mask.frPyObjects([outline(part).ravel().tolist()], *part.shape)
        np.testing.assert_array_equal(coco_mask.decode(coco_mask.merge(rles)).astype(bool), part)


@pytest.mark.parametrize("seed", range(0, 30, 3))
def test_opencv_draws_no_pixel_less_and_only_the_border_more(seed: int) -> None:
    """cv2.fillPoly (Ultralytics') takes vertices as pixel centres: it adds the right and lower border and the seams."""
    for mask in components(seed):
        canvas = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.uint8)
        cv2.fillPoly(canvas, [outline(mask).astype(np.int32)], 1)
        padded = np.pad(mask, ((0, 1), (0, 1)))
        assert not (padded & (canvas == 0)).any()
        grown = padded.copy()
        for down, right in ((0, 1), (1, 0), (1, 1)):
            grown |= np.roll(padded, (down, right), (0, 1))
        assert not ((canvas == 1) & ~grown & ~np.pad(ndimage.binary_fill_holes(mask), ((0, 1), (0, 1)))).any()


def test_what_is_no_component_is_refused() -> None:
    with pytest.raises(ValueError, match="no pixel"):
        outline(np.zeros((3, 3), bool))
    with pytest.raises(ValueError, match="several"):
        outline(np.eye(2, dtype=bool))

"""Shapes of COCO annotations: checked, painted one above the other.

    plane = paint(sample.shapes, height, width, skipped)      # (H, W), 0 where no shape is

pycocotools must see nothing unchecked: a null among coordinates ends the process, and run lengths that do not fill the
image make it read memory of others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from scclip.categories import Labels, label_dtype
from scclip.pipeline.annotations.rle import decode, unpack_counts
from scclip.pipeline.annotations.schemas import RLE
from scclip.pipeline.benchmarks.skipped import Skipped

SHAPELESS = "annotations without a shape"  # a kind of what is skipped
FARTHEST = 10  # a polygon's points in image sides: pycocotools takes memory for each pixel of its outline


@dataclass(frozen=True)
class Shape:
    """One annotation of a COCO instances file."""

    value: int
    """Index of its category, from 1."""
    segmentation: Any
    """Polygons or run lengths, or whatever the file has in their place."""
    identity: int | str | None
    """The annotation's id, for messages."""


def paint(shapes: Sequence[Shape], height: int, width: int, skipped: Skipped) -> Labels:
    """Paints shapes, each with its value, on zeros (H, W). The smaller lies above, of equal ones the later."""
    encoded = [(shape.value, encode(shape, height, width, skipped)) for shape in shapes]
    masks = [(value, rle) for value, rle in encoded if rle is not None]
    plane = np.zeros((height, width), label_dtype(max((value for value, _ in masks), default=0)))
    for value, rle in sorted(masks, key=lambda mask: int(coco_mask.area(mask[1])), reverse=True):
        plane[decode(rle)] = value
    return plane


def encode(shape: Shape, height: int, width: int, skipped: Skipped) -> RLE | None:
    """The compressed run lengths of a shape in an image of this size; None, and one more in `skipped`, for no shape."""
    segmentation, name = shape.segmentation, f"id {shape.identity}"
    if isinstance(segmentation, dict) and "counts" in segmentation:
        counts = read_counts(segmentation["counts"])
        if segmentation.get("size") != [height, width] or sum(counts) != height * width:
            skipped.add("annotations with run lengths that do not fit their image", name)
            return None
        return coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    parts = segmentation if isinstance(segmentation, list) else []
    polygons = [part for part in parts if is_polygon(part, FARTHEST * max(height, width))]
    if not polygons:
        skipped.add(SHAPELESS, name)
        return None
    if len(polygons) < len(parts):
        skipped.add("parts of annotations that are no polygon", name)
    return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))


def read_counts(counts: object) -> list[int]:
    """Run lengths from 0, plain or compressed; an empty list where these are none."""
    try:
        values = unpack_counts(counts) if isinstance(counts, str) else counts
    except ValueError:
        return []
    if not isinstance(values, list) or not all(_is_number(v) and v >= 0 and v % 1 == 0 for v in values):
        return []
    return [int(value) for value in values]


def is_polygon(part: object, farthest: float) -> bool:
    """Whether this is a list [x, y, …] of three points or more, each within `farthest` of the origin."""
    return isinstance(part, list) and len(part) >= 6 and all(_is_number(v) and abs(v) <= farthest for v in part)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))

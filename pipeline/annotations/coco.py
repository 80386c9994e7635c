"""Label map ↔ COCO: run-length encoding, boxes, components, ids, categories and documents.

Every category of a label map is encoded in one pass over its column-major runs; the strings are byte-equal to
`pycocotools.mask.encode` of each category's mask. Background (0) and ignored pixels are no COCO segments: they are
fractions in `images/`, and together with the segments they cover the image.

Use: `segments = encode_label_map(labels); decode(segments[3].rle)`
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from scclip.categories import Categories
from scclip.pipeline.annotations.schemas import Status

UNIT_BITS, INDEX_BITS, CATEGORY_BITS = 21, 20, 12
IMAGE_ID_LIMIT = 1 << (UNIT_BITS + INDEX_BITS)  # 2^41, so that every annotation id stays below 2^53, exact in JSON


def image_id(unit: int, index: int) -> int:
    """unit·2^20 + index, for units from 1 and indices from 0. Raises ValueError outside 2^21 units of 2^20 images."""
    if not 1 <= unit < 1 << UNIT_BITS:
        raise ValueError(f"unit {unit} is not in 1..{(1 << UNIT_BITS) - 1}: split the input over several runs")
    if not 0 <= index < 1 << INDEX_BITS:
        raise ValueError(f"index {index} in unit {unit} is not in 0..{(1 << INDEX_BITS) - 1}: split the shard")
    return (unit << INDEX_BITS) + index


def key_image_id(key: str) -> int | None:
    """The image id that a key of decimal digits stands for (000000142238 → 142238); None for any other key."""
    digits = key.lstrip("0") or key[-1:]
    if not (key.isascii() and key.isdecimal()) or len(digits) > len(str(IMAGE_ID_LIMIT)):
        return None
    return int(digits) if int(digits) < IMAGE_ID_LIMIT else None


def annotation_id(image_id: int, category_id: int) -> int:
    """image_id·2^12 + category_id. Raises ValueError outside 2^41 image ids from 0 and 4095 categories from 1."""
    if not 0 <= image_id < IMAGE_ID_LIMIT:
        raise ValueError(f"image id {image_id} is not in 0..{IMAGE_ID_LIMIT - 1}: use --image-ids plan")
    if not 1 <= category_id < 1 << CATEGORY_BITS:
        raise ValueError(f"category id {category_id} is not in 1..{(1 << CATEGORY_BITS) - 1}: shorten the vocabulary")
    return (image_id << CATEGORY_BITS) + category_id


def categories(vocabulary: Categories) -> list[dict[str, Any]]:
    """COCO's categories, ids 1..N; a background, 0, is left out.

    `supercategory` is "thing", "stuff" or, where the vocabulary does not say, "unknown"; there is no `isthing` then.
    """
    return [
        _category(category, vocabulary[category], vocabulary.things.get(category)) for category in vocabulary.classes
    ]


def _category(category: int, name: str, thing: bool | None) -> dict[str, Any]:
    entry = {"id": category, "name": name}
    if thing is None:
        return {**entry, "supercategory": "unknown"}
    return {**entry, "supercategory": "thing" if thing else "stuff", "isthing": int(thing)}


def image_entry(row: Mapping[str, Any]) -> dict[str, Any]:
    """COCO's image of one row of `images/` (statistics.IMAGES_SCHEMA)."""
    return {"id": row["image_id"], "file_name": row["file_name"], "height": row["height"], "width": row["width"]}


def annotation_entry(row: Mapping[str, Any]) -> dict[str, Any]:
    """COCO's annotation of one row of `segments/` (statistics.SEGMENTS_SCHEMA); `score` is the mean confidence."""
    return {
        "id": annotation_id(row["image_id"], row["category_id"]),
        "image_id": row["image_id"],
        "category_id": row["category_id"],
        "segmentation": {"size": list(row["rle"]["size"]), "counts": row["rle"]["counts"]},
        "area": float(row["area"]),
        "bbox": [float(side) for side in row["bbox"]],
        "iscrowd": 0,
        "score": row["mean_confidence"],
    }


def document(
    images: Iterable[Mapping[str, Any]],
    segments: Iterable[Mapping[str, Any]],
    *,
    categories: list[dict[str, Any]],
    info: Mapping[str, Any],
) -> dict[str, Any]:
    """COCO document of a unit's rows of `images/` (those with status "ok") and of `segments/`, in their order.

    `info` is taken as it is: vocabulary and model of the run, no dates, so that equal runs give equal bytes.
    """
    return {
        "info": dict(info),
        "licenses": [],
        "categories": categories,
        "images": [image_entry(row) for row in images if row["status"] == Status.OK],
        "annotations": [annotation_entry(row) for row in segments],
    }


def dump(document: Mapping[str, Any]) -> bytes:
    """Compact JSON. ASCII only, because pycocotools opens documents in the locale's encoding."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")

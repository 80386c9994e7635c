"""COCO: ids of images and annotations, categories and documents.

Background (0) and ignored pixels are no COCO segments: they are fractions in `images/`, and together with the segments
they cover the image.

Use: `dump(document(images, segments, categories=categories(names), info={}))`
"""

import json
from collections.abc import Mapping

import pyarrow as pa

from scclip.categories import Categories
from scclip.pipeline.annotations.schemas import ImageRecord, SegmentRecord, labeled_rows, records_of

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


Entry = dict[str, object]  # a JSON object of a COCO document


def categories(vocabulary: Categories) -> list[Entry]:
    """COCO's categories, ids 1..N; a background, 0, is left out.

    `supercategory` is "thing", "stuff" or, where the vocabulary does not say, "unknown"; there is no `isthing` then.
    """
    return [_category(number, vocabulary[number], vocabulary.things.get(number)) for number in vocabulary.classes]


def _category(category: int, name: str, thing: bool | None) -> Entry:
    if thing is None:
        return {"id": category, "name": name, "supercategory": "unknown"}
    return {"id": category, "name": name, "supercategory": "thing" if thing else "stuff", "isthing": int(thing)}


def image_entry(image: ImageRecord) -> Entry:
    """COCO's image of a row of `images/`."""
    return {"id": image.image_id, "file_name": image.file_name, "height": image.height, "width": image.width}


def annotation_entry(segment: SegmentRecord) -> Entry:
    """COCO's annotation of a row of `segments/`."""
    return {
        "id": annotation_id(segment.image_id, segment.category_id),
        "image_id": segment.image_id,
        "category_id": segment.category_id,
        "segmentation": {"size": list(segment.rle["size"]), "counts": segment.rle["counts"]},
        "area": float(segment.area),
        "bbox": [float(side) for side in segment.bbox],
        "iscrowd": 0,
        "score": segment.mean_confidence,
    }


def document(images: pa.Table, segments: pa.Table, *, categories: list[Entry], info: Mapping[str, object]) -> Entry:
    """COCO document of a unit's tables: of its labeled images (IMAGES_SCHEMA) and its segments (SEGMENTS_SCHEMA).

    `info` is taken as it is: vocabulary and model of the run, no dates, so that equal runs give equal bytes.
    """
    return {
        "info": dict(info),
        "licenses": [],
        "categories": categories,
        "images": [image_entry(image) for image in records_of(labeled_rows(images), ImageRecord)],
        "annotations": [annotation_entry(segment) for segment in records_of(segments, SegmentRecord)],
    }


def dump(document: Mapping[str, object]) -> bytes:
    """Compact JSON. ASCII only, because pycocotools opens documents in the locale's encoding."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")

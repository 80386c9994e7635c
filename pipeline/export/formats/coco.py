"""COCO instances of an export: one image entry and its annotations; and the merged document, as a stream.

    entry, annotations = coco_entries(image, target, rules, "rle")
    create_stream(url, lambda: merged(head, {"images": pieces, "annotations": more}))

One annotation per class and image; with components one per component of a thing. Ids are image_id·2^12 + the category,
with components + a number from 1 in the image.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from pycocotools import mask as pycocotools_mask

from scclip.pipeline.annotations import coco
from scclip.pipeline.annotations.polygons import outline
from scclip.pipeline.annotations.schemas import ImageRecord, SegmentRecord
from scclip.pipeline.export.source import Exported, is_untouched
from scclip.pipeline.export.transform import Instance, Rules, Target, instances

FORMS = ("rle", "uncompressed", "polygons")
MOST = (1 << coco.CATEGORY_BITS) - 1  # annotations an image's ids leave room for


def coco_entries(
    image: Exported, target: Target, rules: Rules, form: str, file_name: str
) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
    """The image's entry, its annotations, and how many segments the ids had no room for (the smallest)."""
    entry = coco.image_entry(ImageRecord(**image.row)) | {"file_name": file_name}
    if is_untouched(target, rules) and form == "rle":
        return entry, [coco.annotation_entry(SegmentRecord(**row)) for row in image.segments], 0
    found = list(instances(image.labels(target, rules), target, components=rules.components))
    if len(found) > MOST:
        kept = sorted(range(len(found)), key=lambda place: -found[place].area)[:MOST]
        found, lost = [found[place] for place in sorted(kept)], len(found) - MOST
    else:
        lost = 0
    annotations = [
        annotation(image, instance, instance.category if not rules.components else number, target, form)
        for number, instance in enumerate(found, start=1)
    ]
    return entry, annotations, lost


def annotation(image: Exported, instance: Instance, number: int, target: Target, form: str) -> dict[str, Any]:
    """COCO's annotation of one segment."""
    return {
        "id": coco.annotation_id(image.row["image_id"], number),
        "image_id": image.row["image_id"],
        "category_id": instance.category,
        "segmentation": segmentation(instance, image.shape, form),
        "area": float(instance.area),
        "bbox": instance.bbox,
        "iscrowd": 0,
        "score": score(image, instance, target),
    }


def score(image: Exported, instance: Instance, target: Target) -> float:
    """Mean confidence of the segment's pixels where it was saved, else of the image's classes that it stems from."""
    if image.confidence is not None:
        return float(image.confidence[instance.rows, instance.columns][instance.mask].mean() / 255)
    rows = [row for row in image.segments if target.becomes[row["category_id"]] == instance.category]
    area = sum(row["area"] for row in rows)
    return float(sum(row["mean_confidence"] * row["area"] for row in rows) / area) if area else 0.0


def segmentation(instance: Instance, shape: tuple[int, int], form: str) -> Any:
    """The mask as compressed RLE, as uncompressed RLE, or as polygons, one per 4-connected component."""
    if form == "polygons":
        return [placed_outline(part).ravel().tolist() for part in instance.parts()]
    mask = instance.whole(shape)
    if form == "uncompressed":
        return {"size": list(shape), "counts": run_lengths(mask)}
    rle = pycocotools_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(shape), "counts": rle["counts"].decode()}


def placed_outline(part: Instance) -> np.ndarray:
    """The polygon (V, 2) of x, y of one component, in the image's pixels."""
    return outline(part.mask) + np.array([part.columns.start, part.rows.start])


def run_lengths(mask: np.ndarray) -> list[int]:
    """Column-major run lengths of a mask (H, W), zeros first."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    starts = np.flatnonzero(np.diff(flat.astype(np.int8)))
    return np.diff(np.concatenate([[0], starts, [mask.size]])).tolist()


def dump(entries: Iterable[Mapping[str, Any]]) -> bytes:
    """JSON objects with commas between them: a fragment of a list."""
    return b",".join(coco.dump(entry) for entry in entries)


def merged(head: Mapping[str, Any], lists: Mapping[str, Callable[[], Iterator[bytes]]]) -> Iterator[bytes]:
    """A JSON object of `head` and of lists that come in fragments, without ever holding one whole."""
    yield json.dumps(head, separators=(",", ":"), ensure_ascii=True)[:-1].encode()
    for name, fragments in lists.items():
        yield f',"{name}":['.encode()
        between = b""
        for fragment in fragments():
            if fragment:
                yield between + fragment
                between = b","
        yield b"]"
    yield b"}"

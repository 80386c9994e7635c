"""COCO panoptic of an export: a PNG whose colours are segment ids, and its entry in the JSON.

    entry, annotation, png = panoptic_entries(image, target, rules)

As panopticapi reads it: id = R + 256·G + 65536·B, 0 is unlabeled (background and ignored pixels); ids are unique in
their image; a segment's pixels are exactly those of its colour. A thing's 4-connected components are segments of
their own; a class that the vocabulary does not call a thing is one segment.
"""

from typing import Any

import numpy as np

from scclip.pipeline.annotations import coco
from scclip.pipeline.annotations.png import png
from scclip.pipeline.annotations.schemas import ImageRecord
from scclip.pipeline.export.source import Exported
from scclip.pipeline.export.transform import Rules, Target, instances


def panoptic_entries(
    image: Exported, target: Target, rules: Rules, file_name: str
) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The image's entry, its annotation with all segments, and the PNG (H, W, 3)."""
    ids = np.zeros(image.shape, np.uint32)
    segments = []
    for number, instance in enumerate(instances(image.labels(target, rules), target, components=True), start=1):
        ids[instance.rows, instance.columns][instance.mask] = number
        segments.append(
            {
                "id": number,
                "category_id": instance.category,
                "area": instance.area,
                "bbox": [int(side) for side in instance.bbox],
                "iscrowd": 0,
            }
        )
    entry = coco.image_entry(ImageRecord(**image.row)) | {"file_name": file_name}
    annotation = {
        "image_id": image.row["image_id"],
        "file_name": f"{image.stem}.png",
        "segments_info": segments,
    }
    return entry, annotation, png(colours(ids))


def colours(ids: np.ndarray) -> np.ndarray:
    """Segment ids (H, W) below 2^24 → uint8 (H, W, 3)."""
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=2).astype(np.uint8)


def panoptic_categories(target: Target) -> list[dict[str, Any]]:
    """COCO's categories with the `isthing` that panoptic readers demand; unsaid counts as stuff."""
    return [entry | {"isthing": int(entry.get("isthing", 0))} for entry in target.categories]

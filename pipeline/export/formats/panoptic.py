"""COCO panoptic: a PNG per image whose colours are segment ids, and one JSON per split that describes the segments.

    annotations/panoptic_train.json, annotations/panoptic_train/KEY.png, images/train/KEY.jpg

As panopticapi reads it: id = R + 256·G + 65536·B, 0 is unlabeled (background and ignored pixels); ids are unique in
their image; a segment's pixels are exactly those of its colour. A thing's 4-connected components are segments of
their own; a class that the vocabulary does not call a thing is one segment.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from scclip.pipeline.annotations.png import png
from scclip.pipeline.export.documents import DocumentExporter, ImageEntries, JsonObject
from scclip.pipeline.export.job import ExportJob
from scclip.pipeline.export.source import ExportImage
from scclip.pipeline.export.transform import instances
from scclip.pipeline.storage.files import join


class PanopticExporter(DocumentExporter):
    """Writes COCO panoptic."""

    name = "panoptic"
    named_by_key = True

    def __init__(self, job: ExportJob) -> None:
        super().__init__(replace(job, rules=replace(job.rules, components=True)))

    def categories(self) -> list[JsonObject]:
        """COCO's categories with the `isthing` that panoptic readers demand; unsaid counts as stuff."""
        return [{**entry, "isthing": entry.get("isthing", 0)} for entry in super().categories()]

    def entries(self, image: ExportImage) -> ImageEntries:
        """The image's annotation with all its segments, and its PNG."""
        ids, segments = np.zeros(image.shape, np.uint32), list[JsonObject]()
        for number, instance in enumerate(instances(image.labels(self.job), self.job.target, components=True), start=1):
            ids[instance.rows, instance.columns][instance.mask] = number
            category = self.numbering.number(instance.category)
            described = {"id": number, "category_id": category, "area": instance.area}
            segments.append(described | {"bbox": [int(side) for side in instance.bbox], "iscrowd": 0})
        name = f"{image.name}.png"
        annotation = {"image_id": image.image_id, "file_name": name, "segments_info": segments}
        files = {join(self.document(image.split), name): png(colours(ids))}
        return ImageEntries(annotations=[annotation], segments=len(segments), files=files)


def colours(ids: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """Segment ids (H, W) below 2^24 → uint8 (H, W, 3)."""
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=2).astype(np.uint8)

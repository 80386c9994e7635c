"""COCO panoptic: a PNG per image whose colours are segment ids, and one JSON per split that describes the segments.

    annotations/panoptic_train.json, annotations/panoptic_train/KEY.png, images/train/KEY.jpg

As panopticapi reads it: id = R + 256·G + 65536·B, 0 is unlabeled (background and ignored pixels); ids are unique in
their image; a segment's pixels are exactly those of its colour. A thing's 4-connected components are segments of
their own; a class that the vocabulary does not call a thing is one segment.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from scclip.pipeline.annotations import coco
from scclip.pipeline.annotations.png import png
from scclip.pipeline.export.documents import ImageEntries, JsonObject, image_entry, write_documents, write_fragments
from scclip.pipeline.export.job import ExportJob
from scclip.pipeline.export.source import LabeledImage
from scclip.pipeline.export.transform import instances
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.storage.files import join


class PanopticExporter:
    """Writes COCO panoptic."""

    named_by_key = True

    def __init__(self, job: ExportJob) -> None:
        self.job = replace(job, rules=replace(job.rules, components=True))

    def write(self, images: Iterator[LabeledImage], unit: int) -> Counter[str]:
        return write_fragments(self.job, unit, map(self.entries, images))

    def finish(self, units: Sequence[Unit]) -> None:
        categories = coco.categories(self.job.target.categories)  # readers demand `isthing`: unsaid counts as stuff
        categories = [entry | {"isthing": int(entry.get("isthing", 0))} for entry in categories]
        write_documents(self.job, units, "panoptic", categories)

    def entries(self, image: LabeledImage) -> ImageEntries:
        """The image, its annotation with all segments, its PNG and its picture."""
        job, segments = self.job, list[JsonObject]()
        ids = np.zeros((image.height, image.width), np.uint32)
        for number, instance in enumerate(instances(image.labels(job.target, job.rules), job.target, True), start=1):
            ids[instance.rows, instance.columns][instance.mask] = number
            described = {"id": number, "category_id": instance.category, "area": instance.area}
            segments.append(described | {"bbox": [int(side) for side in instance.bbox], "iscrowd": 0})
        name, folder = f"{image.stem}.png", job.document("panoptic", image.split).removesuffix(".json")
        return ImageEntries(
            split=image.split,
            image=image_entry(image),
            annotations=[{"image_id": image.image_id, "file_name": name, "segments_info": segments}],
            segments=len(segments),
            files=job.picture(image) | {join(folder, name): png(colours(ids))},
        )


def colours(ids: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """Segment ids (H, W) below 2^24 → uint8 (H, W, 3)."""
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=2).astype(np.uint8)

"""COCO instances: one JSON of all segments per split, beside the pictures.

    annotations/instances_train.json, annotations/instances_val.json, images/train/KEY.jpg

One annotation per class and image; with components one per component of a thing. Ids are image_id·2^12 + the category,
with components + a number from 1 in the image.
"""

import numpy as np
import numpy.typing as npt
from pycocotools import mask as pycocotools_mask

from scclip.pipeline.annotations import coco
from scclip.pipeline.annotations.polygons import outline
from scclip.pipeline.export.documents import DocumentExporter, ImageEntries, JsonObject
from scclip.pipeline.export.job import ExportJob
from scclip.pipeline.export.source import ExportImage
from scclip.pipeline.export.transform import Instance, Target, instances

MAX_ANNOTATIONS = (1 << coco.CATEGORY_BITS) - 1  # of one image: so many ids it has


class CocoExporter(DocumentExporter):
    """Writes COCO instances; of too many segments in an image the smallest are left out."""

    name = "instances"

    def __init__(self, job: ExportJob) -> None:
        super().__init__(job)
        self.named_by_key = job.pictures  # nothing else is named by keys

    def entries(self, image: ExportImage) -> ImageEntries:
        """The annotations of the image."""
        job = self.job
        if job.segmentation == "rle" and job.rules.identity and job.target.identity and self.numbering.first == 1:
            return ImageEntries(
                annotations=list(map(coco.annotation_entry, image.segments)), segments=len(image.segments)
            )
        segments = list(instances(image.labels(job), job.target, job.rules.components))
        largest = sorted(range(len(segments)), key=lambda index: -segments[index].area)[:MAX_ANNOTATIONS]
        kept = [segments[index] for index in sorted(largest)]
        annotations = [self.annotation(image, segment, number) for number, segment in enumerate(kept, start=1)]
        return ImageEntries(annotations=annotations, segments=len(kept), lost=len(segments) - len(kept))

    def annotation(self, image: ExportImage, instance: Instance, number: int) -> JsonObject:
        """COCO's annotation of one segment, the `number`-th of its image."""
        return {
            "id": coco.annotation_id(image.image_id, number if self.job.rules.components else instance.category),
            "image_id": image.image_id,
            "category_id": self.numbering.number(instance.category),
            "segmentation": segmentation(instance, image.shape, self.job.segmentation),
            "area": float(instance.area),
            "bbox": instance.bbox,
            "iscrowd": 0,
            "score": score(image, instance, self.job.target),
        }


def score(image: ExportImage, instance: Instance, target: Target) -> float:
    """Mean confidence of the segment's pixels where it was saved, else of the run's segments that became its class."""
    if image.confidence is not None:
        return float(image.confidence[instance.rows, instance.columns][instance.mask].mean() / 255)
    sources = [each for each in image.segments if target.becomes[each.category_id] == instance.category]
    area = sum(each.area for each in sources)
    return float(sum(each.mean_confidence * each.area for each in sources) / area) if area else 0.0


def segmentation(instance: Instance, shape: tuple[int, int], form: str) -> object:
    """The mask in an image of `shape` as compressed RLE, as uncompressed RLE, or as polygons (one per component)."""
    if form == "polygons":
        return [polygon(component).ravel().tolist() for component in instance.parts()]
    mask = instance.whole(shape)
    if form == "uncompressed":
        return {"size": list(shape), "counts": run_lengths(mask)}
    rle = pycocotools_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(shape), "counts": rle["counts"].decode()}


def polygon(component: Instance) -> npt.NDArray[np.float64]:
    """The outline (V, 2) of x, y of one 4-connected component, in pixels of the image."""
    return outline(component.mask) + np.array([component.columns.start, component.rows.start])


def run_lengths(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Column-major run lengths of a mask (H, W), zeros first."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    starts = np.flatnonzero(np.diff(flat.astype(np.int8)))
    return np.diff(np.concatenate([[0], starts, [mask.size]])).tolist()

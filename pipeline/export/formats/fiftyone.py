"""FiftyOne's folders, a dataset for each split: the pictures, and COCO's JSON of their segments.

    train/data/KEY.jpg, train/labels.json, val/data/KEY.jpg, val/labels.json

`fiftyone.Dataset.from_dir(OUTPUT/train, fiftyone.types.COCODetectionDataset, label_types="segmentations")` reads it.
"""

from scclip.pipeline.export.formats.coco import CocoExporter
from scclip.pipeline.export.source import ExportImage
from scclip.pipeline.storage.files import join


class FiftyOneExporter(CocoExporter):
    """Writes COCO instances where FiftyOne looks for them."""

    def document(self, split: str) -> str:
        return join(self.job.output, split, "labels")

    def picture_url(self, image: ExportImage) -> str:
        return join(self.job.output, image.split, "data", image.picture_name)

"""The formats of an export: which there are, and what each of them has to do.

    exporter = make_exporter(job)               # that of job.format
    counts = exporter.write(images, unit=1)     # one unit, by any process
    exporter.finish(units)                      # once, when all units are written

A new format is a class in a new module of `formats/`, and one entry here. This module imports none of them, so that
the command line can name the formats without loading them.
"""

import pkgutil
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from scclip.pipeline.export.names import NameRules
from scclip.pipeline.storage.files import join

if TYPE_CHECKING:
    from scclip.pipeline.annotations.numbering import Numbering
    from scclip.pipeline.export.job import ExportJob
    from scclip.pipeline.export.source import ExportImage
    from scclip.pipeline.inputs.units import Unit

EXPORTERS = {  # name on the command line → module in formats/ and class
    "coco": "coco:CocoExporter",
    "coco-panoptic": "panoptic:PanopticExporter",
    "png": "webdataset:WebDatasetExporter",
    "png-folders": "png_folders:PngFoldersExporter",
    "yolo": "yolo:YoloExporter",
    "parquet": "parquet:ParquetExporter",
    "fiftyone": "fiftyone:FiftyOneExporter",
    "label-studio": "label_studio:LabelStudioExporter",
}


class Exporter(ABC):
    """Writes one format; made from the job that it works for."""

    named_by_key = False
    """Whether files are named by the images' keys, so that it has to be known which names would repeat."""
    unique_ids = False
    """Whether its documents tell images by their ids, so that no id may come twice."""
    name_rules = NameRules()
    """What the readers of the format demand of the names of files."""

    def __init__(self, job: "ExportJob") -> None:
        self.job = job

    @property
    def numbering(self) -> "Numbering":
        """What the numbers in its files mean, for categories.json: those of label maps unless the format says more."""
        from scclip.pipeline.annotations.numbering import Numbering

        return Numbering.of_maps(self.job.target.categories, self.job.base)

    def picture_url(self, image: "ExportImage") -> str:
        """Where the copy of an image's picture goes."""
        return join(self.job.output, "images", image.split, image.picture_name)

    @abstractmethod
    def write(self, images: Iterator["ExportImage"], unit: int) -> Counter[str]:
        """Writes all files of one unit. ExportError where one exists already with other content.

        Args:
            images: The unit's images in the input's order; each is made when it is asked for.
            unit: The unit's number.

        Returns:
            What it counted: `segments`, and `lost` for segments that the format has no room for.
        """

    def finish(self, units: Sequence["Unit"]) -> None:  # noqa: B027  # of the formats that have such files
        """Writes the files that cover the whole export, once all units are written; here none."""


def make_exporter(job: "ExportJob") -> Exporter:
    """The exporter of the job's format."""
    exporter: Exporter = pkgutil.resolve_name(f"scclip.pipeline.export.formats.{EXPORTERS[job.format]}")(job)
    return exporter

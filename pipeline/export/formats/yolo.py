"""Ultralytics' segmentation labels: a line `class x1 y1 x2 y2 …` per segment, coordinates over width and height.

    data.yaml, labels/train/KEY.txt; with pictures images/train/KEY.jpg and train.txt, CVAT's list of them

data.yaml says no `path`: then Ultralytics looks beside it, wherever it lies. A split without an image is not named in
it, because Ultralytics refuses a folder that is not there. A GIF is copied as a PNG of its first frame, because
Ultralytics reads none.

A line is one polygon: each 4-connected component is a line, of stuff too, because a line holds one ring. Classes
count from 0, so class = category − 1. A hole is joined to its outer ring by a seam (annotations/polygons.py).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property, partial

import yaml

from scclip.pipeline.annotations.numbering import Numbering
from scclip.pipeline.export.exporter import Exporter
from scclip.pipeline.export.files import file_writer, read_fragment, scratch_writers, write_new, write_stream
from scclip.pipeline.export.formats.coco import polygon
from scclip.pipeline.export.names import NameRules
from scclip.pipeline.export.source import ExportImage
from scclip.pipeline.export.transform import instances
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.storage.files import join

EXTENSIONS = frozenset(["bmp", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"])  # of Ultralytics' IMG_FORMATS


class YoloExporter(Exporter):
    """Writes Ultralytics' text files; an image without segments gets an empty one."""

    named_by_key = True
    # Ultralytics finds no other pictures, and replaces the last folder `images` of a path by `labels`
    name_rules = NameRules(extensions=EXTENSIONS, folders=frozenset(["images"]))

    @cached_property
    def numbering(self) -> Numbering:
        """Ultralytics counts classes from 0."""
        return Numbering.of_classes(self.job.target.categories, base=0)

    def write(self, images: Iterator[ExportImage], unit: int) -> Counter[str]:
        counts = Counter[str]()
        lists = scratch_writers(partial(self.fragment, unit), nullcontext)
        with file_writer(self) as write_files, lists as listed:
            for image in images:
                listed(image.split).write(f"./images/{image.split}/{image.picture_name}\n".encode())
                lines = list(self.lines(image))
                url = join(self.job.output, "labels", image.split, f"{image.name}.txt")
                write_files(image, {url: "".join(lines).encode()})
                counts["polygons"] += len(lines)  # of every part of a segment one
        return counts

    def fragment(self, unit: int, split: str) -> str:
        """A unit's list of the pictures of a split."""
        return self.job.fragment(unit, f"{split}.txt")

    def finish(self, units: Sequence[Unit]) -> None:
        filled = [split for split in self.job.splits if any(self.listed(units, split))] or ["train"]
        for split in filled if self.job.pictures else ():
            write_stream(join(self.job.output, f"{split}.txt"), partial(self.listed, units, split))
        content = {
            "train": f"images/{filled[0]}",
            "val": f"images/{filled[-1]}",
            "names": self.numbering.meanings,
        }
        data = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_new(join(self.job.output, "data.yaml"), data.encode())

    def listed(self, units: Sequence[Unit], split: str) -> Iterator[bytes]:
        """The list of a split, unit by unit."""
        return (read_fragment(self.fragment(unit.number, split)) for unit in units)

    def lines(self, image: ExportImage) -> Iterator[str]:
        """The lines of an image's label file."""
        labels = image.labels(self.job)
        for instance in instances(labels, self.job.target, components=False):
            for component in instance.parts():
                if component.area >= self.job.rules.min_area:
                    ring = polygon(component) / image.shape[::-1]
                    coordinates = " ".join(f"{value:.6g}" for value in ring.ravel().tolist())
                    yield f"{self.numbering.number(component.category)} {coordinates}\n"

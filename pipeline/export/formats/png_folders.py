"""Plain folders: a label PNG per image under the same name as its picture.

    images/train/KEY.jpg, labels/train/KEY.png

mmsegmentation, FiftyOne, Detectron2 and transformers read them. What the numbers in a label PNG mean is in
categories.json; 255 (65535 in 16 bits) is ignored. A GIF, AVIF or HEIC is copied as PNG, because OpenCV, which most of
them read with, need not know it.
"""

from collections import Counter
from collections.abc import Iterator

from scclip.pipeline.annotations.png import png
from scclip.pipeline.export.exporter import Exporter
from scclip.pipeline.export.files import file_writer
from scclip.pipeline.export.names import NameRules
from scclip.pipeline.export.source import ExportImage
from scclip.pipeline.storage.files import join

EXTENSIONS = frozenset(["bmp", "jpeg", "jpg", "png", "tif", "tiff", "webp"])


class PngFoldersExporter(Exporter):
    """Writes label PNGs."""

    named_by_key = True
    name_rules = NameRules(extensions=EXTENSIONS)

    def write(self, images: Iterator[ExportImage], unit: int) -> Counter[str]:
        with file_writer(self) as write_files:
            for image in images:
                url = join(self.job.output, "labels", image.split, f"{image.name}.png")
                write_files(image, {url: png(self.numbering.numbers(image.labels(self.job)))})
        return Counter()

"""WebDataset: one tar per unit and split, with a label PNG per image, in the input's order.

    train/0000001.tar     # KEY.jpg, KEY.seg.png, KEY.json; without pictures KEY.seg.png alone

A label PNG holds category indices; 255 (65535 in 16 bits) is ignored.
"""

import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from typing import IO

from scclip.pipeline.annotations.png import png
from scclip.pipeline.export.exporter import Exporter
from scclip.pipeline.export.files import scratch_writers
from scclip.pipeline.export.source import ExportImage
from scclip.pipeline.inputs.readers.tar import add_file
from scclip.pipeline.storage.files import join

# what a trainer may want to know of an image beside its picture and labels
METADATA = "key", "image_id", "file_name", "width", "height", "coverage", "mean_confidence", "entropy", "categories"


class WebDatasetExporter(Exporter):
    """Writes tars; keys are taken literally."""

    def write(self, images: Iterator[ExportImage], unit: int) -> Counter[str]:
        with scratch_writers(lambda split: join(self.job.output, split, f"{unit:07d}.tar"), open_tar) as tar:
            for image in images:
                files = {"seg.png": png(image.labels(self.job))}
                if image.data is not None:
                    known = json.dumps({name: getattr(image, name) for name in METADATA}, sort_keys=True)
                    files = {image.extension: image.data, **files, "json": known.encode()}
                for suffix, data in files.items():
                    add_file(tar(image.split), f"{image.key}.{suffix}", data)
        return Counter()


def open_tar(file: IO[bytes]) -> tarfile.TarFile:
    """A new tar in an open file."""
    return tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)

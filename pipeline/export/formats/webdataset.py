"""WebDataset: one tar per unit and split, with a label PNG per image, in the input's order.

    train/0000001.tar     # NAME.jpg, NAME.seg.png, NAME.json; without pictures NAME.seg.png alone

NAME is the key, changed where WebDataset would not read it back (run/names.py); then NAME.json, with the key, is there
without pictures as well.

What the numbers in a label PNG mean is in categories.json; 255 (65535 in 16 bits) is ignored. NAME.json lists those
that are in the label PNG as `categories`.
"""

import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from typing import IO

import numpy as np

from scclip.categories import Labels
from scclip.pipeline.annotations.png import png
from scclip.pipeline.export.exporter import Exporter
from scclip.pipeline.export.files import scratch_writers
from scclip.pipeline.export.source import ExportImage
from scclip.pipeline.inputs.readers.tar import add_file
from scclip.pipeline.storage.files import join

# what a trainer may want to know of an image beside its picture and labels
METADATA = "key", "image_id", "file_name", "width", "height", "coverage", "mean_confidence", "entropy"


class WebDatasetExporter(Exporter):
    """Writes tars."""

    def write(self, images: Iterator[ExportImage], unit: int) -> Counter[str]:
        with scratch_writers(lambda split: join(self.job.output, split, f"{unit:07d}.tar"), open_tar) as tar:
            for image in images:
                numbers = self.numbering.numbers(image.labels(self.job))
                files = {"seg.png": png(numbers)}
                if image.data is not None:
                    files = {image.extension: image.data, **files}
                if image.data is not None or image.tar_name != image.key:
                    known = {name: getattr(image, name) for name in METADATA} | {"categories": self.present(numbers)}
                    files["json"] = json.dumps(known, sort_keys=True).encode()
                for suffix, data in files.items():
                    add_file(tar(image.split), f"{image.tar_name}.{suffix}", data)
        return Counter()

    def present(self, numbers: Labels) -> list[int]:
        """The numbers of the classes in a map (H, W), ascending."""
        found = np.flatnonzero(np.bincount(numbers.ravel())).tolist()
        return [number for number in found if number >= self.numbering.first and number in self.numbering.meanings]


def open_tar(file: IO[bytes]) -> tarfile.TarFile:
    """A new tar in an open file."""
    return tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)

"""The readers, one for every kind of input. A new kind is one new file in this folder and one entry in READERS.

>>> READERS[unit.kind].count(unit)
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

from scclip.pipeline.inputs.chunks import EncodedImage, ResumePoint
from scclip.pipeline.inputs.readers.image_files import ImageFilesReader
from scclip.pipeline.inputs.readers.parquet import ParquetReader
from scclip.pipeline.inputs.readers.webdataset import WebDatasetReader
from scclip.pipeline.inputs.units import IMAGE_FILES, Unit


class Reader(Protocol):
    """Plans, counts and reads the units of one kind of input."""

    endings: tuple[str, ...]
    """Endings of the names of its shards, in lower case with the dot; empty where the name does not say the kind."""
    counts_by_reading: bool
    """True where `count` reads the shard, which takes long; False where the plan says how many images there are."""

    def plan(self, draft: Unit) -> list[Unit]:
        """Splits one shard, or one group of image files, into units.

        Args:
            draft: the shard as a unit without number.

        Returns:
            Units without number, of at most MAX_IMAGES images each where the reader can know; [draft] for one unit.

        Raises:
            ValueError: the shard holds no images. The message says what was found and what was expected.
            OSError: the storage fails.
        """
        ...

    def count(self, unit: Unit, limit: int | None = None) -> int:
        """Number of images that `read` gives from the start, failed ones included; it may stop counting at `limit`."""
        ...

    def read(self, unit: Unit, start: ResumePoint, truth: str | None) -> Iterator[EncodedImage]:
        """Reads the images in order, always the same ones.

        Args:
            unit: the unit; its `image_limit` is the caller's.
            start: where to begin; images before `start.index` are left out.
            truth: extension or column of the ground truth that goes into the images' `truth`; None: read none.

        Returns:
            Images with their index in the unit. What cannot be read is an image with a status and a reason.

        Raises:
            StorageError: the storage fails for good, or the shard is shorter than planned.
        """
        ...

    def fraction(self, unit: Unit, point: ResumePoint) -> float:
        """Roughly how much of the unit lies before `point`, 0 to 1."""
        ...


READERS: Mapping[str, Reader] = {
    "tar": WebDatasetReader(),
    "parquet": ParquetReader(),
    IMAGE_FILES: ImageFilesReader(),
}


def shard_kind(name: str) -> str | None:
    """Kind of a shard by the name of its file; None for a name that is no shard's."""
    return next((kind for kind, reader in READERS.items() if name.lower().endswith(reader.endings)), None)

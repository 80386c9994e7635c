"""A run and its images as reviews name them: those that are shown, and those that failed.

>>> images = image_refs(files.table("images", unit, columns_of(ImageRef)))
"""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from scclip.categories import Categories
from scclip.pipeline.annotations.schemas import Status, records_of
from scclip.pipeline.inputs.decoding import DecodeConfig
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.manifest import RunManifest
from scclip.pipeline.run.origin import outside, own_plan


@dataclass(frozen=True)
class ReviewedRun:
    """A run whose images are shown."""

    files: RunFiles
    manifest: RunManifest
    """run.json."""
    units: Sequence[Unit]
    """Those whose images may be shown, in any order."""
    trusted: bool = False
    """Whether the plan is followed to any file that it names."""

    @functools.cached_property
    def own(self) -> bool:
        """Whether the plan is this user's own, or trusted."""
        return self.trusted or own_plan(self.files)

    def may_read(self, unit: Unit) -> bool:
        """Whether the unit's input may be read for pictures."""
        return self.own or not outside(self.files, [unit])

    @property
    def names(self) -> Categories:
        """Category index → name."""
        return self.manifest.categories

    @property
    def decode(self) -> DecodeConfig:
        """How its images were decoded."""
        return DecodeConfig(exif=self.manifest.options.exif)


@dataclass(frozen=True, order=True, kw_only=True)
class ImageRef:
    """Where a labeled image is in a run and in its input."""

    unit: int
    index: int
    """In its unit."""
    key: str
    image_id: int
    width: int
    """Pixels after the orientation is applied, as `height`."""
    height: int


@dataclass(frozen=True, kw_only=True)
class FailedImage:
    """An image that was read and has no labels or no figures."""

    file_name: str
    status: str
    error: str | None


def columns_of(record: type) -> list[str]:
    """The columns of images/ that a record of a review is read from: its fields."""
    return [field.name for field in dataclasses.fields(record)]


def image_refs(images: pa.Table) -> list[ImageRef]:
    """The rows of a table that has the columns of ImageRef."""
    return records_of(images.select(columns_of(ImageRef)), ImageRef)


def failed_images(images: pa.Table, limit: int) -> list[FailedImage]:
    """The first `limit` failed images of a table that has the columns of FailedImage."""
    failed = images.filter(pc.not_equal(images["status"], Status.OK)).slice(0, limit)
    return records_of(failed.select(columns_of(FailedImage)), FailedImage)

"""Images of a run as reviews name them: those that are shown, and those that failed.

>>> images = image_refs(files.table("images", unit, IMAGE_REF_COLUMNS))
"""

import dataclasses
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from scclip.pipeline.annotations.schemas import Status


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


IMAGE_REF_COLUMNS = [field.name for field in dataclasses.fields(ImageRef)]
FAILED_IMAGE_COLUMNS = [field.name for field in dataclasses.fields(FailedImage)]


def image_refs(images: pa.Table) -> list[ImageRef]:
    """The rows of a table with IMAGE_REF_COLUMNS."""
    return [ImageRef(**values) for values in images.select(IMAGE_REF_COLUMNS).to_pylist()]


def failed_images(images: pa.Table, limit: int) -> list[FailedImage]:
    """The first `limit` failed images of a table with FAILED_IMAGE_COLUMNS."""
    failed = images.filter(pc.not_equal(images["status"], Status.OK)).slice(0, limit)
    return [FailedImage(**values) for values in failed.select(FAILED_IMAGE_COLUMNS).to_pylist()]

"""A unit of input: a shard, a range of a table's rows, or a group of image files.

>>> units = plan_from_table(plan_to_table(units))      # as the run's plan/ keeps them
>>> difference(units[0])                               # None, or (Status.CHANGED, "s3://bucket/a.tar has changed: …")
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import pyarrow as pa

from scclip.pipeline.annotations.schemas import Status, schema_of
from scclip.pipeline.storage.files import info
from scclip.pipeline.storage.retries import redact

IMAGE_FILES = "files"  # the kind of a group of image files; every other kind reads one shard
MAX_IMAGES = 2**20  # of a unit: an image id keeps 20 bits for the index


@dataclass(frozen=True)
class PlannedFile:
    """One image file of a plan."""

    url: Annotated[str, pa.string()]
    size: Annotated[int, pa.int64()]
    """Bytes; -1 where a COCO JSON names a file that does not exist."""
    version: Annotated[str, pa.string()]
    key: Annotated[str, pa.string()]
    """Path below the input folder without extension; the decimal id for COCO."""
    file_name: Annotated[str, pa.string()]
    """Path below the input folder; COCO's own file_name."""


def _columns(record: type) -> list[pa.Field]:
    """The fields of a plan's record as columns that may be null, as all plans on disk have them."""
    return [field.with_nullable(True) for field in schema_of(record)]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One unit of input: a shard, a range of a table's rows, or a group of image files."""

    number: Annotated[int, pa.int32()] = 0
    """From 1, never reused; the unit's outputs are named after it. 0: not in a plan yet."""
    kind: Annotated[str, pa.string()]
    """Name of its reader in readers.registry.READERS."""
    url: Annotated[str, pa.string()]
    """The shard; for image files the folder of the first one."""
    size: Annotated[int, pa.int64()]
    """Bytes of the shard (of all files)."""
    version: Annotated[str, pa.string()]
    """ETag or modification time when it was planned."""
    row_start: Annotated[int, pa.int64()] = 0
    """First row of the range, for shards that are split by rows."""
    row_stop: Annotated[int, pa.int64()] = 0
    """Row after the last one; -1: the shard could not be opened when it was planned."""
    files: Annotated[tuple[PlannedFile, ...], pa.list_(pa.struct(_columns(PlannedFile)))] = ()
    """The image files; empty for a shard."""
    image_limit: Annotated[int | None, pa.int64()] = None
    """Read only so many images (--limit)."""
    image_column: Annotated[str | None, pa.string()] = None
    """The column of a table that holds the images (--image-column); None: one of the usual names."""

    @property
    def urls(self) -> tuple[str, ...]:
        """The files that it reads."""
        return tuple(file.url for file in self.files) or (self.url,)


PLAN_SCHEMA = pa.schema(_columns(Unit))


def plan_to_table(units: Sequence[Unit]) -> pa.Table:
    """The units as a table of PLAN_SCHEMA, one row each, without loss."""
    return pa.Table.from_pylist([dataclasses.asdict(unit) for unit in units], schema=PLAN_SCHEMA)


def plan_from_table(table: pa.Table) -> list[Unit]:
    """The units of a table that `plan_to_table` made."""
    rows = table.select(PLAN_SCHEMA.names).to_pylist()
    return [Unit(**{**row, "files": tuple(PlannedFile(**file) for file in row["files"])}) for row in rows]


def difference(planned: Unit | PlannedFile) -> tuple[Status, str] | None:
    """(status, reason) where a shard or file is not what was planned, None where it is."""
    url = redact(planned.url)
    if planned.size < 0:
        return Status.MISSING, f"{url} did not exist when the run was planned"
    was = f"planned with {planned.size:,} bytes, version {planned.version!r}"
    try:
        now = info(planned.url)
    except FileNotFoundError:
        return Status.MISSING, f"{url} is gone; {was}"
    if (now.size, now.version) == (planned.size, planned.version):
        return None
    return Status.CHANGED, f"{url} has changed: {was}; found {now.size:,} bytes, version {now.version!r}"

"""A unit of input: a shard, a range of a table's rows, or a group of image files.

>>> units = plan_from_table(plan_to_table(units))      # as the run's plan/ keeps them
>>> difference(units[0])                               # None, or (Status.CHANGED, "s3://bucket/a.tar has changed: …")
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.storage.files import info
from scclip.pipeline.storage.retries import redact

IMAGE_FILES = "files"  # the kind of a group of image files; every other kind reads one shard
MAX_IMAGES = 2**20  # of a unit: an image id keeps 20 bits for the index


@dataclass(frozen=True)
class PlannedFile:
    """One image file of a plan."""

    url: str
    size: int
    """Bytes; -1 where a COCO JSON names a file that does not exist."""
    version: str
    key: str
    """Path below the input folder without extension; the decimal id for COCO."""
    file_name: str
    """Path below the input folder; COCO's own file_name."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One unit of input: a shard, a range of a table's rows, or a group of image files."""

    number: int = 0
    """From 1, never reused; the unit's outputs are named after it. 0: not in a plan yet."""
    kind: str
    """Name of its reader in readers.registry.READERS."""
    url: str
    """The shard; for image files the folder of the first one."""
    size: int
    """Bytes of the shard (of all files)."""
    version: str
    """ETag or modification time when it was planned."""
    row_start: int = 0
    """First row of the range, for shards that are split by rows."""
    row_stop: int = 0
    """Row after the last one; -1: the shard could not be opened when it was planned."""
    files: tuple[PlannedFile, ...] = ()
    """The image files; empty for a shard."""
    image_limit: int | None = None
    """Read only so many images (--limit)."""

    @property
    def urls(self) -> tuple[str, ...]:
        """The files that it reads."""
        return tuple(file.url for file in self.files) or (self.url,)


_FILE = pa.struct(
    [
        ("url", pa.string()),
        ("size", pa.int64()),
        ("version", pa.string()),
        ("key", pa.string()),
        ("file_name", pa.string()),
    ]
)

PLAN_SCHEMA = pa.schema(
    [
        ("number", pa.int32()),
        ("kind", pa.string()),
        ("url", pa.string()),
        ("size", pa.int64()),
        ("version", pa.string()),
        ("row_start", pa.int64()),
        ("row_stop", pa.int64()),
        ("files", pa.list_(_FILE)),
        ("image_limit", pa.int64()),
    ]
)


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

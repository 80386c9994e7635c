"""A unit of input: a shard, a range of a table's rows, or a group of image files.

>>> units = plan_from_table(plan_to_table(units))      # as the run's plan/ keeps them
>>> difference(units[0])                               # None, or (Status.CHANGED, "s3://bucket/a.tar has changed: …")
"""

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
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
    """Bytes; -1 where a COCO JSON or a list names a file that does not exist."""
    version: Annotated[str, pa.string()]
    """ETag or modification time when it was planned; for a size of -1 why it cannot be read ("": it did not exist)."""
    key: Annotated[str, pa.string()]
    """Path below the input folder without extension; the decimal id for COCO."""
    file_name: Annotated[str, pa.string()]
    """Path below the input folder; COCO's own file_name."""
    target: Annotated[str, pa.string()] = ""
    """The file that is read, where `url` is a link to it."""


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
    target: Annotated[str, pa.string()] = ""
    """The shard that is read, where `url` is a link to it."""

    @property
    def sources(self) -> "tuple[PlannedFile, ...] | tuple[Unit]":
        """What holds its images: the image files, or the unit itself for a shard."""
        return self.files or (self,)


PLAN_SCHEMA = pa.schema(_columns(Unit))
_PATHS = ("url", "target")  # columns that hold names of files, which need not be UTF-8


def plan_to_table(units: Sequence[Unit]) -> pa.Table:
    """The units as a table of PLAN_SCHEMA, one row each, without loss: names of files that are no UTF-8 as they are."""
    rows = [dataclasses.asdict(unit) for unit in units]
    try:
        return pa.Table.from_pylist(rows, schema=PLAN_SCHEMA)
    except UnicodeEncodeError:
        for record in (record for row in rows for record in (row, *row["files"])):
            record.update({name: os.fsencode(record[name]) for name in _PATHS})
        return _viewed(pa.Table.from_pylist(rows, schema=_as_bytes(PLAN_SCHEMA)), PLAN_SCHEMA)


def plan_from_table(table: pa.Table) -> list[Unit]:
    """The units of a table that `plan_to_table` made; what an older table lacks has its default."""
    table = table.select([name for name in PLAN_SCHEMA.names if name in table.column_names])
    try:
        rows = table.to_pylist() if sys.getfilesystemencoding() == "utf-8" else None
    except UnicodeDecodeError:
        rows = None
    if rows is None:
        rows = _viewed(table, _as_bytes(table.schema)).to_pylist()
        for record in (record for row in rows for record in (row, *row["files"])):
            record.update({name: os.fsdecode(record[name]) for name in _PATHS if name in record})
    return [Unit(**{**row, "files": tuple(PlannedFile(**file) for file in row["files"])}) for row in rows]


def _as_bytes(schema: pa.Schema) -> pa.Schema:
    """The schema of a plan with bytes in place of text for names of files."""

    def changed(field: pa.Field) -> pa.Field:
        if pa.types.is_list(field.type):
            return field.with_type(pa.list_(pa.struct([changed(inner) for inner in field.type.value_type])))
        return field.with_type(pa.binary()) if field.name in _PATHS else field

    return pa.schema([changed(field) for field in schema])


def _viewed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The same buffers under another schema."""
    batches = (
        [each.view(field.type) for each, field in zip(batch, schema, strict=True)] for batch in table.to_batches()
    )
    return pa.Table.from_batches([pa.record_batch(arrays, schema=schema) for arrays in batches], schema)


def sample_urls(units: Sequence[Unit]) -> list[str]:
    """One file of the first unit, as nodes of a cluster are asked whether they can read it; [] where it has none."""
    return [source.url for unit in units[:1] for source in unit.sources if source.size >= 0][:1]


def renamed(unit: Unit, name: Callable[[str], str]) -> Unit:
    """The unit with another name for each of its files, by their URLs."""
    if not any("://" in source.url for source in unit.sources):
        return unit
    files = tuple(dataclasses.replace(file, url=name(file.url)) for file in unit.files)
    return dataclasses.replace(unit, url=name(unit.url), files=files)


def difference(planned: Unit | PlannedFile) -> tuple[Status, str] | None:
    """(status, reason) where a shard or file is not what was planned, None where it is."""
    url = redact(planned.url)
    if planned.size < 0:
        return Status.MISSING, planned.version or f"{url} did not exist when the run was planned"
    was = f"planned with {planned.size:,} bytes, version {planned.version!r}"
    try:
        now = info(planned.url)
    except FileNotFoundError:
        return Status.MISSING, f"{url} is gone; {was}"
    if (now.size, now.version) == (planned.size, planned.version):
        return None
    return Status.CHANGED, f"{url} has changed: {was}; found {now.size:,} bytes, version {now.version!r}"

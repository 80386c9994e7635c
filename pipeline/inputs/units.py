"""A unit of input: a shard, a range of a Parquet file's rows, or a group of image files."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa


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
    """One unit of input: a tar, a range of a Parquet file's rows, or a group of image files."""

    number: int
    """From 1, never reused; the unit's outputs are named after it."""
    kind: str
    """"tar", "parquet" or "files"."""
    url: str
    """The shard; for files the folder of the first one."""
    size: int
    """Bytes of the shard (of all files)."""
    version: str
    """ETag or modification time when it was planned."""
    row_start: int = 0
    """First row of a Parquet file's range."""
    row_stop: int = 0
    """Row after the last one; -1: the file could not be opened when it was planned."""
    files: tuple[PlannedFile, ...] = ()
    """The image files of a unit of files."""
    image_limit: int | None = None
    """Read only so many images (--limit)."""


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
    """The units as a table, one row each; lossless."""
    return pa.Table.from_pylist([dataclasses.asdict(unit) for unit in units], schema=PLAN_SCHEMA)


def plan_from_table(table: pa.Table) -> list[Unit]:
    """The units of a table written by `plan_to_table`."""
    rows = table.select(PLAN_SCHEMA.names).to_pylist()
    return [Unit(**{**row, "files": tuple(PlannedFile(**file) for file in row["files"])}) for row in rows]

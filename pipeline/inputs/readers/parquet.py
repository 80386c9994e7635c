"""Parquet files with an image column: one image for each row, whatever the other columns hold.

Where a row group cannot be read whole, each of its columns is read for itself: one that is broken costs its own values
and no others.

>>> for image in ParquetReader().read(unit, ResumePoint(), truth="mask"): ...
"""

import dataclasses
import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scclip.pipeline.annotations.schemas import ImageError, Status
from scclip.pipeline.inputs.chunks import EncodedImage, ResumePoint
from scclip.pipeline.inputs.readers.cells import column_values
from scclip.pipeline.inputs.readers.table_rows import TableColumns, row_ranges
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.storage.files import is_local, open_stream
from scclip.pipeline.storage.retries import StorageError

BLOCK = 2**16  # bytes per request: columns that are not read lie between those that are
BATCH = 64  # rows that are Python objects at a time, where their bytes allow it
BATCH_BYTES = 2**27  # of all columns in a batch: one page may hold a value that stands in every row
LONGEST_LIST = 2**17  # values of a row: more are no metadata
_STORAGE = (StorageError, FileNotFoundError, PermissionError)  # the store's fault, or the user's, but not the data's
_DATA = (pa.ArrowException, OSError, ValueError)  # Arrow reports a broken page as a bare OSError


class ParquetReader:
    """Reads Parquet by row groups; a file that cannot be opened is one image `bad_shard`, a broken page one a row."""

    endings: tuple[str, ...] = (".parquet", ".pq")
    counts_by_reading = False

    def plan(self, draft: Unit) -> list[Unit]:
        try:
            with open_stream(draft.url, size=draft.size, block=BLOCK) as file:
                metadata = _ParquetFile(file).metadata
                schema = metadata.schema.to_arrow_schema()
        except _DATA as error:
            gone = isinstance(error, FileNotFoundError) or (isinstance(error, PermissionError) and is_local(draft.url))
            if isinstance(error, _STORAGE) and not gone:
                raise
            return [dataclasses.replace(draft, row_stop=-1)]  # reading it says why
        TableColumns.of(schema, draft.image_column, None)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        ranges = row_ranges((group.num_rows, group.total_byte_size) for group in groups)
        return [dataclasses.replace(draft, row_start=start, row_stop=stop) for start, stop in ranges]

    def count(self, unit: Unit, limit: int | None = None) -> int:
        return unit.row_stop - unit.row_start if unit.row_stop >= 0 else 1

    def read(self, unit: Unit, start: ResumePoint, truth: str | None) -> Iterator[EncodedImage]:
        first, begin = unit.row_start + start.index, 0
        stop = unit.row_stop if unit.row_stop >= 0 else sys.maxsize  # it can be read by now
        with open_stream(unit.url, size=unit.size, block=BLOCK) as file:
            try:
                table = _ParquetFile(file)
                columns = TableColumns.of(table.schema_arrow, unit.image_column, truth)
            except _STORAGE:
                raise
            except _DATA as error:
                yield EncodedImage.failed_shard(unit.url, 0, f"not a Parquet file of images: {_line(error)}")
                return
            for group in range(table.num_row_groups):
                end = begin + table.metadata.row_group(group).num_rows
                if begin < stop and end > first:
                    for image in _group_images(table, group, range(begin, end), columns):
                        if first <= image.index < stop:
                            image.index -= unit.row_start
                            yield image
                begin = end

    def fraction(self, unit: Unit, point: ResumePoint) -> float:
        return min(1.0, point.index / max(1, unit.row_stop - unit.row_start))


class _ParquetFile(pq.ParquetFile):
    """A ParquetFile that opens with any names of columns: Arrow maps them to positions, which needs UTF-8."""

    def _build_nested_paths(self) -> dict[str, list[int]]:
        return defaultdict(list)


def _group_images(table: _ParquetFile, group: int, rows: range, columns: TableColumns) -> Iterator[EncodedImage]:
    """The images of one row group, one for each of its rows, which are numbered in the file."""
    columns = _readable(table, group, columns)
    row, stored = rows.start, sorted(columns.places)
    slots = [stored.index(place) for place in columns.places]
    try:
        for batch in _batches(table, group, stored):
            values = [column_values(batch.column(slot)) for slot in slots]
            yield from columns.images(row, values)
            row += len(batch)
    except _STORAGE:
        raise
    except _DATA:
        pass
    if row < rows.stop:
        pictures, *others = (
            itertools.islice(_cells(table, group, rows, place), row - rows.start, len(rows)) for place in columns.places
        )
        known = [(None if isinstance(cell, ImageError) else cell for cell in cells) for cells in others]
        yield from columns.images(row, [pictures, *known])


def _readable(table: _ParquetFile, group: int, columns: TableColumns) -> TableColumns:
    """The columns without those whose rows hold more values than metadata may."""
    most = LONGEST_LIST * max(1, table.metadata.row_group(group).num_rows)
    chunks = {place: _chunks(table, group, [place]) for place in columns.others}
    kept = {
        place: name
        for place, name in columns.others.items()
        if all(chunk.num_values <= most for chunk in chunks[place])
    }
    return columns if len(kept) == len(columns.others) else dataclasses.replace(columns, others=kept)


def _rows_at_once(table: _ParquetFile, group: int, places: Sequence[int]) -> int:
    """How many rows of these columns are read together: as many as BATCH_BYTES hold, at least one.

    A dictionary's value is stored once and may stand in every row, so that a row can be as large as its column.
    """
    rows = max(1, table.metadata.row_group(group).num_rows)
    weights = [
        max(chunk.total_uncompressed_size, 8 * chunk.num_values) / (1 if chunk.has_dictionary_page else rows / 4)
        for chunk in _chunks(table, group, places)
    ]
    return int(min(BATCH, max(1, BATCH_BYTES / max(1, sum(weights)))))


def _chunks(table: _ParquetFile, group: int, places: Sequence[int]) -> list[pq.ColumnChunkMetaData]:
    """What the footer says of the parts of these columns in a row group."""
    return [table.metadata.row_group(group).column(leaf) for leaf in _leaf_numbers(table, places)]


def _leaf_numbers(table: _ParquetFile, places: Sequence[int]) -> list[int]:
    """The columns that Parquet keeps for these."""
    ends = [0, *itertools.accumulate(_leaves(field.type) for field in table.schema_arrow)]
    return [leaf for place in places for leaf in range(ends[place], ends[place + 1])]


def _cells(table: _ParquetFile, group: int, rows: range, place: int) -> Iterator[Any]:
    """The values of one column in these rows; from the first that cannot be read on, an ImageError that says why."""
    row, reason = rows.start, "the column ends before them"
    try:
        for batch in _batches(table, group, [place]):
            values = column_values(batch.column(0))
            yield from values
            row += len(values)
    except _STORAGE:
        raise
    except _DATA as error:
        reason = _line(error)
    failure = ImageError(Status.BAD_SHARD, f"rows {row} to {rows.stop - 1} cannot be read: {reason}")
    yield from itertools.repeat(failure, rows.stop - row)


def _batches(table: _ParquetFile, group: int, places: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """The columns at these places, in ascending order, as many rows at a time as memory allows."""
    leaves, rows = _leaf_numbers(table, places), _rows_at_once(table, group, places)
    yield from table.reader.iter_batches(rows, [group], column_indices=leaves, use_threads=False)


def _leaves(kind: pa.DataType) -> int:
    """Columns that Parquet keeps for one column of this type: one for each field that is not nested."""
    if isinstance(kind, pa.BaseExtensionType):
        return _leaves(kind.storage_type)
    return sum(_leaves(kind.field(place).type) for place in range(kind.num_fields)) or 1


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]

"""Parquet files with an image column: one image for each row, whatever the other columns hold.

Where a row group cannot be read whole, each of its columns is read for itself: one that is broken costs its own values
and no others.

>>> for image in ParquetReader().read(unit, ResumePoint(), truth="mask"): ...
"""

import dataclasses
import functools
import itertools
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scclip.pipeline.annotations.schemas import ImageError, Status
from scclip.pipeline.inputs.chunks import EncodedImage, ResumePoint
from scclip.pipeline.inputs.readers.cells import column_values
from scclip.pipeline.inputs.readers.parquet_pages import ChunkSize, chunk_size, small_chunk
from scclip.pipeline.inputs.readers.table_rows import TableColumns, row_ranges
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.storage.files import is_local, open_stream
from scclip.pipeline.storage.ranges import RangeFile
from scclip.pipeline.storage.retries import StorageError

RANGE = 2**22  # bytes per request of a column that is read page by page
BLOCK = 2**16  # bytes per request: columns that are not read lie between those that are
BATCH = 64  # rows that are Python objects at a time, where their bytes allow it
BATCH_BYTES = 3 * 2**26  # that Arrow may unpack at a time: one page may hold a value that stands in every row
TOGETHER = 2**24  # bytes from which on small batches are not joined any more
BUFFERED = 2**27  # bytes of a column from which on Arrow reads it page by page, else whole
LONGEST_LIST = 2**17  # values of a row: more are no metadata, and no pictures
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
                if _largest_column(table) > BUFFERED:
                    table = _ParquetFile(file, metadata=table.metadata, buffer_size=RANGE, pre_buffer=False)
            except _STORAGE:
                raise
            except _DATA as error:
                yield EncodedImage.failed_shard(unit.url, 0, f"not a Parquet file of images: {_line(error)}")
                return
            for group in range(table.num_row_groups):
                end = begin + table.metadata.row_group(group).num_rows
                if begin < stop and end > first:
                    for image in _group_images(table, group, range(begin, end), columns, file):
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

    @functools.cached_property
    def leaves(self) -> list[range]:
        """For each column the numbers of those that Parquet keeps for it."""
        ends = [0, *itertools.accumulate(_leaves(field.type) for field in self.schema_arrow)]
        return [range(first, stop) for first, stop in itertools.pairwise(ends)]


def _largest_column(table: _ParquetFile) -> int:
    """Packed bytes of the largest column of a row group."""
    groups = [table.metadata.row_group(number) for number in range(table.num_row_groups)]
    return max(
        (group.column(leaf).total_compressed_size for group in groups for leaf in range(group.num_columns)), default=0
    )


def _group_images(
    table: _ParquetFile, group: int, rows: range, columns: TableColumns, file: RangeFile
) -> Iterator[EncodedImage]:
    """The images of one row group, one for each of its rows, which are numbered in the file."""
    sizes = {index: _sizes(table, group, index, file) for index in columns.indices}
    kept = {index: name for index, name in columns.others.items() if _readable(sizes[index], len(rows))}
    columns = dataclasses.replace(columns, others=kept)
    row, stored = rows.start, sorted(columns.indices)
    slots = [stored.index(index) for index in columns.indices]
    try:
        for batches in _batches(table, group, {index: sizes[index] for index in stored}):
            columned = [[column_values(batch.column(slot)) for batch in batches] for slot in slots]
            values = [each[0] if len(each) == 1 else itertools.chain.from_iterable(each) for each in columned]
            yield from columns.images(row, values)
            row += sum(map(len, batches))
    except _STORAGE:
        raise
    except _DATA:
        pass
    if row < rows.stop:
        pictures, *others = (
            itertools.islice(_cells(table, group, rows, index, sizes[index]), row - rows.start, len(rows))
            for index in columns.indices
        )
        known = [(None if isinstance(cell, ImageError) else cell for cell in cells) for cells in others]
        yield from columns.images(row, [pictures, *known])


def _sizes(table: _ParquetFile, group: int, index: int, file: RangeFile) -> list[ChunkSize]:
    """What the pages of a column unpack to; where their headers cannot be read, what the footer says."""
    sizes, columns = [], table.metadata.row_group(group)
    for leaf in table.leaves[index]:
        chunk, flat = columns.column(leaf), not table.schema.column(leaf).max_repetition_level
        try:
            sizes.append((small_chunk(chunk) if flat else None) or chunk_size(file, chunk))
        except ValueError:
            whole = max(chunk.total_uncompressed_size, 8 * chunk.num_values)
            sizes.append(ChunkSize(dictionary=whole, page=whole, values=chunk.num_values))
    return sizes


def _readable(sizes: Sequence[ChunkSize], rows: int) -> bool:
    """Whether a column's pages are no bombs, and its rows hold no more values than metadata may."""
    return all(not size.bomb and size.values <= LONGEST_LIST * max(1, rows) for size in sizes)


def _rows_at_once(group: pq.RowGroupMetaData, sizes: Iterable[ChunkSize]) -> int:
    """How many rows of these columns Arrow unpacks together: as many as BATCH_BYTES hold, at least one.

    A value of a dictionary is stored once and may stand in every row; other values are taken to be up to four times
    as large as the average, unless all pages of the column together are small.
    """
    sizes = list(sizes)
    fixed = sum(size.total for size in sizes if size.whole)
    most = sum(size.dictionary for size in sizes)
    if not all(size.whole for size in sizes):
        most += 4 * group.total_byte_size // max(1, group.num_rows)
    return min(BATCH, max(1, (BATCH_BYTES - fixed) // max(1, most)))


def _cells(table: _ParquetFile, group: int, rows: range, index: int, sizes: Sequence[ChunkSize]) -> Iterator[Any]:
    """The values of one column in these rows; from the first that cannot be read on, an ImageError that says why."""
    row, reason = rows.start, "the column ends before them"
    try:
        for batches in _batches(table, group, {index: sizes}):
            for batch in batches:
                yield from column_values(batch.column(0))
                row += len(batch)
    except _STORAGE:
        raise
    except _DATA as error:
        reason = _line(error)
    failure = ImageError(Status.BAD_SHARD, f"rows {row} to {rows.stop - 1} cannot be read: {reason}")
    yield from itertools.repeat(failure, rows.stop - row)


def _batches(
    table: _ParquetFile, group: int, sizes: Mapping[int, Sequence[ChunkSize]]
) -> Iterator[list[pa.RecordBatch]]:
    """The columns of these indices, in ascending order, about BATCH rows at a time where memory allows it.

    Raises ValueError where a page unpacks to far more than pictures do.
    """
    group_rows = table.metadata.row_group(group).num_rows
    if not all(_readable(leaves, group_rows) for leaves in sizes.values()):
        raise ValueError("a page or a list in it unpacks to more than pictures take")
    leaves = [leaf for index in sizes for leaf in table.leaves[index]]
    rows = _rows_at_once(table.metadata.row_group(group), itertools.chain.from_iterable(sizes.values()))
    pending, weight = list[pa.RecordBatch](), 0
    for batch in table.reader.iter_batches(rows, [group], column_indices=leaves, use_threads=False):
        pending.append(batch)
        weight += batch.nbytes
        if len(pending) * rows >= BATCH or weight >= TOGETHER:
            yield pending
            pending, weight = [], 0
    if pending:
        yield pending


def _leaves(kind: pa.DataType) -> int:
    """Columns that Parquet keeps for one column of this type: one for each field that is not nested."""
    if isinstance(kind, pa.BaseExtensionType):
        return _leaves(kind.storage_type)
    return sum(_leaves(kind.field(index).type) for index in range(kind.num_fields)) or 1


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]

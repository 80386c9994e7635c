"""Parquet files with an image column, as image bytes or Hugging Face's struct<bytes, path>.

>>> for image in ParquetReader().read(unit, ResumePoint(), truth="mask"): ...
"""

import dataclasses
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from scclip.pipeline.inputs.chunks import EncodedImage, ResumePoint
from scclip.pipeline.inputs.readers.table_rows import image_column, row_image, row_ranges
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.storage.files import open_stream
from scclip.pipeline.storage.retries import StorageError

BLOCK = 2**16  # bytes per request: columns that are not read lie between those that are
_STORAGE = (StorageError, FileNotFoundError, PermissionError)  # the store's fault, or the user's, but not the data's
_DATA = (pa.ArrowException, OSError, ValueError)  # Arrow reports a broken page as a bare OSError


class ParquetReader:
    """Reads Parquet by row groups; a file or row group that cannot be read becomes one image `bad_shard`."""

    endings: tuple[str, ...] = (".parquet", ".pq")
    counts_by_reading = False

    def plan(self, draft: Unit) -> list[Unit]:
        try:
            with open_stream(draft.url, size=draft.size, block=BLOCK) as file:
                metadata = pq.ParquetFile(file).metadata
                schema = metadata.schema.to_arrow_schema()
        except _STORAGE:
            raise
        except _DATA:
            return [dataclasses.replace(draft, row_stop=-1)]
        image_column(schema)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        ranges = row_ranges((group.num_rows, group.total_byte_size) for group in groups)
        return [dataclasses.replace(draft, row_start=start, row_stop=stop) for start, stop in ranges]

    def count(self, unit: Unit, limit: int | None = None) -> int:
        return unit.row_stop - unit.row_start if unit.row_stop >= 0 else 1

    def read(self, unit: Unit, start: ResumePoint, truth: str | None) -> Iterator[EncodedImage]:
        first, begin = unit.row_start + start.index, 0
        with open_stream(unit.url, size=unit.size, block=BLOCK) as file:
            try:
                table = pq.ParquetFile(file)
                column = image_column(table.schema_arrow)
            except _STORAGE:
                raise
            except _DATA as error:
                yield EncodedImage.failed_shard(unit.url, 0, f"not a Parquet file of images: {_line(error)}")
                return
            for group in range(table.num_row_groups):
                end = begin + table.metadata.row_group(group).num_rows
                if begin < unit.row_stop and end > first:
                    for image in _group_images(table, group, begin, column, truth, unit.url):
                        if first <= image.index < unit.row_stop:
                            image.index -= unit.row_start
                            yield image
                begin = end

    def fraction(self, unit: Unit, point: ResumePoint) -> float:
        return min(1.0, point.index / max(1, unit.row_stop - unit.row_start))


def _group_images(
    table: pq.ParquetFile, group: int, begin: int, column: str, truth: str | None, url: str
) -> Iterator[EncodedImage]:
    """The images of one row group, numbered in the file; rows that cannot be read are one image that says so."""
    row = begin
    try:
        for batch in table.iter_batches(batch_size=64, row_groups=[group], use_threads=False):
            for values in batch.to_pylist():
                yield row_image(values, row, column, truth)
                row += 1
    except _STORAGE:
        raise
    except _DATA as error:
        end = begin + table.metadata.row_group(group).num_rows
        failed = EncodedImage.failed_shard(url, row, f"rows {row} to {end - 1} cannot be read: {_line(error)}")
        failed.key += f":{row}"
        yield failed


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]

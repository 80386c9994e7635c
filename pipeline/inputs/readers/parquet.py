"""Parquet files with an image column, as image bytes or Hugging Face's struct<bytes, path>.

>>> for start, stop in row_ranges(url, size): rows = read_rows(url, size, start, stop)
"""

import json
import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.inputs.chunks import EncodedImage
from scclip.pipeline.inputs.names import normalize_extension, split_name
from scclip.pipeline.inputs.readers.webdataset import MAX_METADATA
from scclip.pipeline.storage.files import open_stream
from scclip.pipeline.storage.ranges import RangeFile
from scclip.pipeline.storage.retries import StorageError

IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "bytes", "image_bytes")
KEY_COLUMNS = ("__key__", "key", "id", "image_id", "file_name")
ROWS_PER_UNIT = 10_000
BYTES_PER_UNIT = 128 * 2**20
MAX_ROWS = 2**20  # image ids leave 20 bits for the index in a unit
BROKEN = [(0, -1)]
_STORAGE = (StorageError, FileNotFoundError, PermissionError)  # the store's fault, or the user's, but not the data's
_DATA = (pa.ArrowException, OSError, ValueError)  # Arrow reports a broken page as a bare OSError


def row_ranges(url: str, size: int) -> list[tuple[int, int]]:
    """(first row, row after the last) of the file's units: whole row groups up to 10,000 rows or 128 MiB.

    A file that is no readable Parquet gives BROKEN, one range that reads as one failed row. Raises ValueError where
    there is no image column.
    """
    try:
        with open_stream(url, size=size, block=2**16) as file:
            metadata = pq.ParquetFile(file).metadata
            schema = metadata.schema.to_arrow_schema()
    except _STORAGE:
        raise
    except _DATA:
        return BROKEN
    image_column(schema)
    ranges, start, stop, weight = list[tuple[int, int]](), 0, 0, 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if stop > start and (
            stop - start + group.num_rows > ROWS_PER_UNIT or weight + group.total_byte_size > BYTES_PER_UNIT
        ):
            ranges, start, weight = [*ranges, (start, stop)], stop, 0
        stop, weight = stop + group.num_rows, weight + group.total_byte_size
    ranges.append((start, stop))
    return [
        (first, min(first + MAX_ROWS, end))
        for begin, end in ranges
        for first in range(begin, max(end, begin + 1), MAX_ROWS)
    ]


def image_column(schema: pa.Schema) -> str:
    """The name of the column that holds the images; ValueError naming the columns found."""
    for name in IMAGE_COLUMNS:
        if name in schema.names and _holds_bytes(schema.field(name).type):
            return name
    found = ", ".join(f"{field.name}: {field.type}" for field in schema)
    raise ValueError(
        f"no image column; expected binary or struct<bytes, path> named {', '.join(IMAGE_COLUMNS)}; found {found}"
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def read_rows(
    url: str, size: int, start: int, stop: int, *, first: int = 0, truth: str | None = None
) -> Iterator[EncodedImage]:
    """The images of rows start..stop, index 0 being row `start`, from index `first` on.

    A null, a row group that cannot be read and a broken file are rows with a status and a reason. `truth` names a
    column of label images. Raises StorageError where the file is shorter than `size`.
    """
    name = url.rpartition("/")[2]
    with open_stream(url, size=size, block=2**16) as file:
        try:
            parquet = pq.ParquetFile(file)
            image = image_column(parquet.schema_arrow)
        except _STORAGE:
            raise
        except _DATA as error:
            reason = f"not a Parquet file of images: {_line(error)}"
            yield EncodedImage(index=0, key=name, file_name=name, status=Status.BAD_SHARD, error=reason)
            return
        begin = 0
        for group in range(parquet.num_row_groups):
            end = begin + parquet.metadata.row_group(group).num_rows
            if begin < stop and end > start + first:
                for row in _group_rows(parquet, file, group, begin, image, truth):
                    if start + first <= row.index < stop:
                        row.index -= start
                        yield row
            begin = end


def _group_rows(
    parquet: pq.ParquetFile, file: RangeFile, group: int, begin: int, image: str, truth: str | None
) -> Iterator[EncodedImage]:
    """The rows of one row group, numbered in the file; what cannot be read is one row that says how many are lost."""
    row, name = begin, file.url.rpartition("/")[2]
    try:
        for batch in parquet.iter_batches(batch_size=64, row_groups=[group], use_threads=False):
            for values in batch.to_pylist():
                yield _encoded(values, row, image, truth)
                row += 1
    except _STORAGE:
        raise
    except _DATA as error:
        end = begin + parquet.metadata.row_group(group).num_rows
        reason = f"rows {row} to {end - 1} cannot be read: {_line(error)}"
        yield EncodedImage(index=row, key=f"{name}:{row}", file_name=name, status=Status.BAD_SHARD, error=reason)


def _encoded(values: dict[str, Any], row: int, image: str, truth: str | None) -> EncodedImage:
    data, path = _bytes_and_path(values.pop(image))
    column = normalize_extension(truth) if truth else None
    label = _bytes_and_path(values.pop(column))[0] if column in values else None
    name = values.get("file_name") or path
    key = next((str(values[column]) for column in KEY_COLUMNS if values.get(column) is not None), None)
    if key is None or key == values.get("file_name"):
        key = split_name(str(name))[0] or str(name) if name else f"{row:09d}"
    image_row = EncodedImage(index=row, key=key, file_name=str(name or key), data=data, truth=label)
    image_row.metadata = _metadata(values)
    if data is None:
        reason = f"the image is null (its path {path!r} is not followed)" if path else "the image is null"
        image_row.status, image_row.error = Status.UNREADABLE, reason
    return image_row


def _bytes_and_path(value: Any) -> tuple[bytes | None, str | None]:
    if isinstance(value, dict):
        return value.get("bytes"), value.get("path")
    return (value, None) if isinstance(value, bytes) else (None, None)


def _metadata(values: dict[str, Any]) -> str | None:
    kept = {name: _plain(value) for name, value in values.items() if not isinstance(value, bytes) and value is not None}
    text = json.dumps(kept, default=str)
    return (text if len(text) <= MAX_METADATA else '{"note": "left out: over 1 MiB"}') if kept else None


def _plain(value: Any) -> Any:
    """`value` without what JSON cannot say: bytes and numbers that are not finite become null."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, bytes) or (isinstance(value, float) and not math.isfinite(value)) else value


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]

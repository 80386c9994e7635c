"""Rows of a table as images: the image column, keys, ground truth and metadata; for all readers of tables.

>>> image = row_image({"id": 7, "image": b"…", "caption": "a cat"}, row=0, column="image", truth=None)
"""

from collections.abc import Iterable

import pyarrow as pa

from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.inputs.chunks import EncodedImage
from scclip.pipeline.inputs.names import normalize_extension, split_name
from scclip.pipeline.inputs.readers.metadata import row_metadata
from scclip.pipeline.inputs.units import MAX_IMAGES

IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "bytes", "image_bytes")
KEY_COLUMNS = ("__key__", "key", "id", "image_id", "file_name")
ROWS_PER_UNIT = 10_000
BYTES_PER_UNIT = 128 * 2**20


class NoImageColumn(ValueError):
    """A table without a column of images."""


def image_column(schema: pa.Schema) -> str:
    """The name of the column that holds the images; NoImageColumn naming the columns that there are."""
    for name in IMAGE_COLUMNS:
        if name in schema.names and _holds_bytes(schema.field(name).type):
            return name
    columns = ", ".join(f"{field.name}: {field.type}" for field in schema)
    expected = f"binary or struct<bytes, path> named {', '.join(IMAGE_COLUMNS)}"
    raise NoImageColumn(f"no image column; expected {expected}; found {columns}")


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def row_ranges(groups: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Joins groups of rows to units of up to 10,000 rows or 128 MiB; a larger group is a unit of its own.

    Args:
        groups: (rows, bytes) of each group, in order.

    Returns:
        (first row, row after the last) of each unit, MAX_IMAGES rows at most; one empty range for no rows.
    """
    ranges, start, stop, weight = list[tuple[int, int]](), 0, 0, 0
    for rows, size in groups:
        if stop > start and (stop - start + rows > ROWS_PER_UNIT or weight + size > BYTES_PER_UNIT):
            ranges, start, weight = [*ranges, (start, stop)], stop, 0
        stop, weight = stop + rows, weight + size
    ranges.append((start, stop))
    return [
        (first, min(first + MAX_IMAGES, end))
        for begin, end in ranges
        for first in range(begin, max(end, begin + 1), MAX_IMAGES)
    ]


def row_image(values: dict[str, object], row: int, column: str, truth: str | None) -> EncodedImage:
    """One row of a table as an image; a null becomes an image `unreadable`.

    Args:
        values: column → value; the image and its truth are taken out.
        row: number of the row: its index, and its key where no column holds one.
        column: the image column.
        truth: the column of label images, None to read none.
    """
    data, path = _bytes_and_path(values.pop(column))
    truth_column = normalize_extension(truth) if truth else None
    label = _bytes_and_path(values.pop(truth_column))[0] if truth_column in values else None
    name = values.get("file_name") or path
    key = next((str(values[column]) for column in KEY_COLUMNS if values.get(column) is not None), None)
    if key is None or key == values.get("file_name"):
        key = split_name(str(name))[0] or str(name) if name else f"{row:09d}"
    image = EncodedImage(index=row, key=key, file_name=str(name or key), data=data, truth=label)
    image.metadata = row_metadata(values)
    if data is None:
        image.status = Status.UNREADABLE
        image.error = f"the image is null (its path {path!r} is not followed)" if path else "the image is null"
    return image


def _bytes_and_path(value: object) -> tuple[bytes | None, str | None]:
    if isinstance(value, dict):
        return value.get("bytes"), value.get("path")
    return (value, None) if isinstance(value, bytes) else (None, None)

"""Cells of tables: as Python values, whatever they hold, and as pictures.

An image column holds bytes of any binary type (also dictionary-encoded), Hugging Face's struct<bytes, path>, Spark's
image struct, or lists of these, of which the first item is the picture.

>>> for picture in map(cell_picture, column_values(batch.column(0))): ...
"""

import contextlib
import struct
from typing import Any, NamedTuple

import pyarrow as pa

from scclip.pipeline.annotations.schemas import ImageError, Status

SPARK_FIELDS = ("height", "width", "mode", "data")
SPARK_CHANNELS = {0: 1, 16: 3, 24: 4}  # OpenCV's 8-bit types: grey, BGR, BGRA


def column_values(array: pa.Array) -> list[Any]:
    """The values of a column. What Python's types cannot hold is text as Arrow writes it, else None.

    Bytes in a text column that are no UTF-8 stand as `\\xe9`, as they do in names of tar members.
    """
    try:
        values: list[Any] = array.to_pylist()
        return values
    except Exception:  # OverflowError of dates, KeyError of time zones, UnicodeDecodeError, ArrowException, …
        return [_value(scalar) for scalar in array]


def _value(scalar: pa.Scalar) -> Any:
    with contextlib.suppress(Exception):
        return scalar.as_py()
    if isinstance(scalar, pa.ExtensionScalar | pa.DictionaryScalar):
        return _value(scalar.value)
    if isinstance(scalar, pa.StructScalar):
        return {scalar.type.field(index).name: _value(scalar[index]) for index in range(scalar.type.num_fields)}
    if isinstance(scalar, pa.MapScalar):
        return [tuple(entry.values()) for entry in column_values(scalar.values)]
    if isinstance(scalar, pa.ListScalar):
        return column_values(scalar.values)
    if isinstance(scalar, pa.BinaryScalar):
        return as_text(scalar.as_buffer().to_pybytes())
    with contextlib.suppress(pa.ArrowException, UnicodeDecodeError):
        if isinstance(scalar, pa.TimestampScalar) and scalar.type.tz:
            scalar = scalar.cast(pa.timestamp(scalar.type.unit, "UTC"))  # Arrow may not know the zone
        return scalar.cast(pa.string()).as_py()
    return None


def as_text(value: object) -> str:
    """A value of a key column as text; "" for a null."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return "" if value is None else str(value)


def holds_bytes(kind: pa.DataType) -> bool:
    """True for a type of binary values, or of structs with such a field `bytes`."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and is_bytes(kind.field("bytes").type)
    return is_bytes(kind)


def is_bytes(kind: pa.DataType) -> bool:
    """True for a type of binary values."""
    if isinstance(kind, pa.BaseExtensionType):
        return is_bytes(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return is_bytes(kind.value_type)
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def holds_pictures(kind: pa.DataType) -> bool:
    """True for every type of which `cell_picture` takes the values."""
    if isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        return holds_pictures(kind.value_type)
    spark = pa.types.is_struct(kind) and all(kind.get_field_index(name) >= 0 for name in SPARK_FIELDS)
    return holds_bytes(kind) or (spark and is_bytes(kind.field("data").type))


class Picture(NamedTuple):
    """What a cell of an image column holds."""

    data: bytes | None = None
    """The image's file."""
    path: str = ""
    """Its name, "" where the cell has none."""
    problem: ImageError | None = None
    """Why there is no data."""
    pictures: int = 1
    """How many the cell holds; those after the first are not read."""


def cell_picture(value: object) -> Picture:
    """The picture in a cell; an ImageError in the place of a value is its problem."""
    if isinstance(value, bytes):
        return Picture(value)
    if isinstance(value, ImageError):
        return Picture(problem=value)
    if isinstance(value, list):
        empty = Picture(problem=ImageError(Status.UNREADABLE, "the list of images is empty"))
        return cell_picture(value[0])._replace(pictures=len(value)) if value else empty
    entry = value if isinstance(value, dict) else {}
    path = as_text(entry.get("path") or entry.get("origin"))
    try:
        data = entry.get("bytes") if "bytes" in entry or not entry else _spark_bitmap(entry)
    except ImageError as problem:
        return Picture(path=path, problem=problem)
    if data is not None:
        return Picture(data, path)
    reason = f"the image is null (its path {path!r} is not followed)" if path else "the image is null"
    return Picture(path=path, problem=ImageError(Status.UNREADABLE, reason))


def _spark_bitmap(entry: dict[str, Any]) -> bytes | None:
    """The pixels of Spark's image struct as a BMP file; None where it holds none."""
    height, width, mode, data = (entry.get(name) for name in SPARK_FIELDS)
    if not data:
        return None
    channels = SPARK_CHANNELS.get(mode or 0)
    if channels is None:
        raise ImageError(Status.UNSUPPORTED, f"Spark's image mode {mode} is not read; 0, 16 and 24 are: 8-bit samples")
    if not height or not width or len(data) != height * width * channels or min(height, width) < 1:
        what = f"Spark's image of {height} rows, {width} columns and {channels} channels has {len(data):,} bytes"
        raise ImageError(Status.UNDECODABLE, what)
    row = width * channels
    padding = bytes(-row % 4)
    if padding:
        data = b"".join(data[start : start + row] + padding for start in range(0, len(data), row))
    palette = b"".join(bytes((grey, grey, grey, 0)) for grey in range(256)) if channels == 1 else b""
    start = 54 + len(palette)
    header = struct.pack("<2sIII", b"BM", start + len(data), 0, start)
    return header + struct.pack("<IiiHHIIiiII", 40, width, -height, 1, 8 * channels, 0, 0, 0, 0, 0, 0) + palette + data

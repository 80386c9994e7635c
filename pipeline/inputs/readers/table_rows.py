"""Rows of a table as images: the image column, keys, ground truth and metadata; for all readers of tables.

>>> columns = TableColumns.of(schema, image=None, truth="mask")
>>> image = row_image(0, cell=b"…", truth=None, values={"id": 7, "caption": "a cat"})
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from scclip.pipeline.inputs.chunks import EncodedImage
from scclip.pipeline.inputs.names import normalize_extension, split_name
from scclip.pipeline.inputs.readers.cells import as_text, cell_picture, holds_bytes, holds_pictures, is_bytes
from scclip.pipeline.inputs.readers.metadata import row_metadata
from scclip.pipeline.inputs.refusals import too_large
from scclip.pipeline.inputs.units import MAX_IMAGES

IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "bytes", "image_bytes")
KEY_COLUMNS = ("__key__", "key", "id", "image_id", "file_name")
ROWS_PER_UNIT = 10_000
BYTES_PER_UNIT = 128 * 2**20
LONGEST_KEY = 4096  # characters; what is longer is no name
COLUMNS_SHOWN = 8  # in an error line


class NoImageColumn(ValueError):
    """A table without a column of images; the message names the remedy and the columns that there are."""


@dataclass(frozen=True)
class TableColumns:
    """Which columns of a table are read, by position: names may repeat, and need not be UTF-8."""

    image: int
    truth: int | None
    others: Mapping[int, str]
    """Keys and metadata: position → name. Columns of bytes are left out unless they are keys."""

    @staticmethod
    def of(schema: pa.Schema, image: str | None, truth: str | None) -> "TableColumns":
        """Finds the columns.

        Args:
            schema: the table's.
            image: the image column; None takes the first of IMAGE_COLUMNS, single images before lists and structs.
            truth: the column of label images, None to read none; where there is no such column, none is read either.

        Raises:
            NoImageColumn: the image column does not exist, or it cannot hold images.
        """
        names = column_names(schema)
        pictures = _image_position(schema, names, image)
        labels = find_column(names, truth) if truth else None
        others = {
            index: name
            for index, name in enumerate(names)
            if index not in (pictures, labels) and (name in KEY_COLUMNS or not _only_bytes(schema.field(index).type))
        }
        return TableColumns(pictures, labels, others)

    @property
    def indices(self) -> tuple[int, ...]:
        """The positions of all columns that are read: image, truth if there is one, others."""
        return (self.image, *([] if self.truth is None else [self.truth]), *self.others)

    def images(self, first: int, values: Sequence[Iterable[Any]]) -> Iterator[EncodedImage]:
        """Rows as images.

        Args:
            first: number of the first row.
            values: the rows' values for each of `indices`; an ImageError stands for a picture that cannot be read.
        """
        pictures, *rest = values
        truths = itertools.repeat(None) if self.truth is None else rest.pop(0)
        names = list(self.others.values())
        for row, picture, truth, *cells in zip(itertools.count(first), pictures, truths, *rest, strict=False):
            yield row_image(row, picture, truth, dict(zip(names, cells, strict=True)))


def column_names(schema: pa.Schema) -> list[str]:
    """The names of the columns; a name that is no UTF-8 becomes `column N`, counted from 1."""
    try:
        return list(schema.names)
    except UnicodeDecodeError:
        return [_name(schema, index) for index in range(len(schema))]


def _name(schema: pa.Schema, index: int) -> str:
    try:
        return str(schema.field(index).name)
    except UnicodeDecodeError:
        return f"column {index + 1}"


def find_column(names: Sequence[str], wanted: str) -> int | None:
    """The position of a column by its exact name, else in lower case without a dot before it, else in any case.

    None where there is no such column, or several differ only in case.
    """
    normal = normalize_extension(wanted)
    for name in (wanted, normal):
        if name in names:
            return names.index(name)
    alike = [index for index, name in enumerate(names) if name.lower() == normal]
    return alike[0] if len(alike) == 1 else None


def _image_position(schema: pa.Schema, names: Sequence[str], wanted: str | None) -> int:
    if wanted is not None:
        index = find_column(names, wanted)
        if index is None:
            raise NoImageColumn(f"no column {wanted!r} for --image-column; columns: {_described(schema, names)}")
        if not holds_pictures(schema.field(index).type):
            expected = "bytes, struct<bytes, path>, Spark's image struct, or lists of these"
            raise NoImageColumn(f"--image-column {wanted!r} is {_kind(schema, index)}; it must hold {expected}")
        return index
    for holds in (holds_bytes, holds_pictures):
        for name in IMAGE_COLUMNS:
            for index in (index for index, each in enumerate(names) if each == name):
                if holds(schema.field(index).type):
                    return index
    raise NoImageColumn(f"no image column; name it with --image-column; columns: {_described(schema, names)}")


def _described(schema: pa.Schema, names: Sequence[str]) -> str:
    """The columns with their types, the first ones of many."""
    shown = [f"{name}: {_kind(schema, index)}" for index, name in enumerate(names[:COLUMNS_SHOWN])]
    more = [f"and {len(names) - COLUMNS_SHOWN} more"] if len(names) > COLUMNS_SHOWN else []
    return ", ".join([*shown, *more]) or "none"


def _kind(schema: pa.Schema, index: int) -> str:
    try:
        text = " ".join(str(schema.field(index).type).split())
    except UnicodeDecodeError:  # names of fields are part of it
        return "struct"
    return text if len(text) <= 60 else text[:59] + "…"


def _only_bytes(kind: pa.DataType) -> bool:
    """True for binary values; False for what only stores its values in such, a UUID for one."""
    return is_bytes(kind) and not isinstance(kind, pa.BaseExtensionType)


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


def row_image(row: int, cell: object, truth: object, values: dict[str, object]) -> EncodedImage:
    """One row of a table as an image; a null becomes an image `unreadable`.

    Args:
        row: number of the row: its index, and its key where no column holds one.
        cell: value of the image column; an ImageError where it cannot be read.
        truth: value of the truth column, None for none.
        values: column → value of all other columns.
    """
    picture = cell_picture(cell)
    file_name = as_text(values.get("file_name"))[:LONGEST_KEY]
    name = file_name or picture.path[:LONGEST_KEY]
    keys = (as_text(values[column])[:LONGEST_KEY] for column in KEY_COLUMNS if column in values)
    key = next(filter(None, keys), file_name)
    if key == file_name:
        key = split_name(name)[0] or name or f"{row:09d}"
    image = EncodedImage(index=row, key=key, file_name=name or key, data=picture.data)
    label = None if truth is None else cell_picture(truth).data
    image.truth = None if label is None or too_large(len(label)) else label
    if picture.pictures > 1:
        values = values | {"images_in_row": picture.pictures}
    image.metadata = row_metadata(values)
    if picture.problem:
        image.status, image.error = picture.problem.status, str(picture.problem)
    elif refused := too_large(len(picture.data or b"")):
        image.data, (image.status, image.error) = None, refused
    return image

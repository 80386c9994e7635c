"""Rows of any table with an image column, labeled: what the Ray Data operator does with one batch, without Ray.

    table = decode_rows(table, RowsConfig(image_column="image"))   # the table and one column of decoded images
    table = label_rows(table, labeler)                             # the same column, now of labeled images
    table = describe_rows(table, config)                           # the table and the columns of OUTPUT_SCHEMA

The column of the work in between is `WORK`. All other columns pass as they are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from scclip.categories import Categories
from scclip.errors import UserError
from scclip.pipeline.annotations.label_map import LabeledImage
from scclip.pipeline.annotations.schemas import (
    SEGMENTS_SCHEMA,
    ImageError,
    PartImage,
    Status,
    records_of,
    structs_of,
    table_of,
)
from scclip.pipeline.inputs.chunks import Chunk
from scclip.pipeline.inputs.decoding import DECODED_SCHEMA, DecodeConfig, DecodedImage, Pixels, decode_image
from scclip.pipeline.inputs.readers.cells import cell_picture, column_values
from scclip.pipeline.inputs.readers.table_rows import IMAGE_COLUMNS
from scclip.pipeline.run.commit import CommitOptions, part_record

WORK = "__scclip__"
UNIT = 1  # rows have no unit: image ids are made, because statistics want one, and left out of the output
SEGMENT_TYPE = pa.struct([*(field for field in SEGMENTS_SCHEMA if field.name != "image_id"), ("name", pa.string())])
OUTPUT_SCHEMA = pa.schema(
    [
        ("mask", pa.binary()),  # the label map as PNG; null where the image has no labels
        ("segments", pa.list_(SEGMENT_TYPE)),
        ("mean_confidence", pa.float64()),
        ("status", pa.string()),
        ("error", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class RowsConfig:
    """What the rows of a table are and what is added to them."""

    categories: Categories
    """Category index → name."""
    image_column: str | None = None
    """Column of the images; None: the first of the usual names that the table has."""
    prefix: str = ""
    """Stands before the names of the added columns."""
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    """How encoded images are decoded."""

    def find_image(self, names: list[str]) -> str:
        """The image column among a table's columns; UserError where it is missing or an added column is there."""
        taken = [name for name in OUTPUT_SCHEMA.names if self.prefix + name in names]
        if taken:
            remedy = "give prefix='label_' or the like, or rename the column"
            raise UserError(f"column {self.prefix + taken[0]!r} is in the data already; {remedy}")
        wanted = IMAGE_COLUMNS if self.image_column is None else (self.image_column,)
        present = [name for name in wanted if name in names]
        if not present:
            what = "no column of images" if self.image_column is None else f"no image_column {self.image_column!r}"
            raise UserError(f"{what}; set image_column to one of {', '.join(names)}")
        return present[0]


def decode_rows(table: pa.Table, config: RowsConfig) -> pa.Table:
    """The table and its images, decoded; one that cannot be decoded has a status and an error."""
    cells = column_cells(table[config.find_image(table.column_names)])
    images = [decoded_cell(index, cell, config.decode) for index, cell in enumerate(cells)]
    return with_work(table, table_of(images, DECODED_SCHEMA))


def label_rows(table: pa.Table, labeler: Callable[[Chunk], Chunk]) -> pa.Table:
    """The table of `decode_rows` with labeled images in the place of decoded ones."""
    return with_work(table, labeler(Chunk(UNIT, 0, work_of(table))).images)


def describe_rows(table: pa.Table, config: RowsConfig) -> pa.Table:
    """The table of `label_rows` with the columns of OUTPUT_SCHEMA in the place of the labeled images."""
    options = CommitOptions(masks=True, image_ids="plan", dtype=config.categories.dtype)
    parts = [part_record(image, options) for image in records_of(work_of(table), LabeledImage)]
    rows = pa.Table.from_pylist([output_row(part, config.categories) for part in parts], OUTPUT_SCHEMA)
    table = table.drop_columns([WORK])
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        table = table.append_column(config.prefix + name, column)
    return table


def output_row(part: PartImage, categories: Categories) -> dict[str, object]:
    """The values of the added columns for one image."""
    segments = [vars(segment) | {"name": categories[segment.category_id]} for segment in part.segments]
    values = {name: getattr(part, name) for name in ("mean_confidence", "status", "error")}
    return {"mask": part.labels_png, "segments": segments if part.status == Status.OK else None, **values}


def with_work(table: pa.Table, images: pa.Table) -> pa.Table:
    """The table with these images, one for each of its rows, as the column WORK."""
    rest = table.drop_columns([WORK]) if WORK in table.column_names else table
    return rest.append_column(WORK, structs_of(images))


def work_of(table: pa.Table) -> pa.Table:
    """The images of the column WORK, numbered anew: rows of several batches may have come together."""
    column = table[WORK]
    images = [pa.table(chunk.flatten(), schema=pa.schema(list(column.type))) for chunk in column.chunks]
    joined = pa.concat_tables(images)
    index = joined.schema.get_field_index("index")
    return joined.set_column(index, joined.schema.field(index), pa.array(range(len(joined)), pa.int32()))


def column_cells(column: pa.ChunkedArray) -> Iterator[Any]:
    """The values of an image column; arrays are not copied where the column is one of tensors."""
    for chunk in column.chunks:
        if "tensor" not in getattr(chunk.type, "extension_name", ""):
            yield from column_values(chunk)
        elif hasattr(chunk, "to_numpy_ndarray"):  # all of one shape
            yield from chunk.to_numpy_ndarray()
        else:
            yield from chunk.to_numpy(zero_copy_only=False)


def decoded_cell(index: int, cell: Any, config: DecodeConfig) -> DecodedImage:
    """One image, decoded, or with the reason why there is none."""
    image = DecodedImage(unit=UNIT, index=index, key="", file_name="")
    try:
        image.hold(cell_pixels(cell, config))
    except ImageError as failure:
        image.status, image.error = failure.status, str(failure)
    return image


def cell_pixels(cell: Any, config: DecodeConfig) -> Pixels:
    """The pixels of a cell: encoded bytes in any form that Parquet inputs may have, an array, or a Pillow image."""
    if isinstance(cell, Image.Image):
        cell = np.asarray(cell.convert("RGB"))
    if isinstance(cell, np.ndarray):
        return array_pixels(cell)
    picture = cell_picture(cell)
    if picture.problem is not None:
        raise picture.problem
    return decode_image(bytes(picture.data or b""), config)


def array_pixels(array: np.ndarray) -> Pixels:
    """The pixels of a uint8 array, RGB (H, W, 3) or grey (H, W) or (H, W, 1); ImageError for any other."""
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] == 3)) or 0 in array.shape:
        what = f"an array of {array.dtype} {array.shape} is no image"
        raise ImageError(Status.UNSUPPORTED, f"{what}; give uint8 RGB (H, W, 3) of 0 to 255, or the file's bytes")
    rgb = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2) if grey else np.ascontiguousarray(array)
    return Pixels(rgb, 1, (rgb.shape[0], rgb.shape[1]))

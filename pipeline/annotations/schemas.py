"""What is written about images and segments: their statuses, their records, and the Arrow schemas of the records.

A record is a dataclass whose fields are the columns of a table. `ImageRecord` is a row of images/. What one stage hands
to the next is a class that extends it, so that a new column of images/ is one line here and one where it is measured.

Use: `table = table_of([image, ...], IMAGES_SCHEMA); images = records_of(table, ImageRecord)`
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from itertools import pairwise
from typing import Annotated, Any, TypedDict, TypeVar, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class Status(str, Enum):
    """What became of an image: the column `status`. A member is its text, wherever text is taken."""

    OK = "ok", "The image has labels (in an evaluation: it was compared with its ground truth)."
    EMPTY = "empty", "The image's file has no bytes."
    UNSUPPORTED = "unsupported", "It is in a format that is not read, or it is a link or a device in a tar."
    TOO_LARGE = "too_large", "It has more pixels or bytes than are read, or more than fit the memory."
    UNDECODABLE = "undecodable", "Its bytes are broken, or they are no image."
    UNREADABLE = "unreadable", "Its bytes could not be had: access was denied, or the row of the table holds none."
    BAD_SHARD = "bad_shard", "The shard or its row group cannot be read (any further), or has too many images."
    MISSING = "missing", "The file that was planned does not exist (any more)."
    CHANGED = "changed", "The file is not the one that was planned: its size or its version is another."
    BAD_ID = "bad_id", "With --image-ids key: the key is no COCO image id, or the unit has it twice."
    KILLED_WORKER = "killed_worker", "Its process died twice while it alone was being worked on."
    LABEL_FAILED = "label_failed", "The model raised an error for this image."
    NO_TRUTH = "no_truth", "Evaluation: the input has no ground truth for this image."
    BAD_TRUTH = "bad_truth", "Evaluation: the ground truth is no PNG of indices, or it holds a value that is no class."
    TRUTH_SIZE = "truth_size", "Evaluation: the ground truth has another size than the image."
    LABEL_SIZE = "label_size", "Evaluation of a run: its labels have another size than the image."
    NOT_LABELED = "not_labeled", "Evaluation of a run: it has no image of this key, or several."

    sentence: str
    """What the status means, in one sentence."""

    def __new__(cls, value: str, sentence: str) -> "Status":
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    __str__ = str.__str__  # Enum's own would give "Status.OK"

    def __format__(self, format_spec: str) -> str:
        return str.__format__(self, format_spec)


class ImageError(Exception):
    """Why an image has no labels: a status, and a reason in one line."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@functools.cache
def schema_of(record: type) -> pa.Schema:
    """The schema of a table of records: the fields that are annotated with an Arrow type (and what they hold).

    A column may be null where the field's default is None.
    """
    hints = get_type_hints(record, include_extras=True)
    columns = [each for each in fields(record) if hasattr(hints[each.name], "__metadata__")]
    return pa.schema([pa.field(each.name, hints[each.name].__metadata__[0], each.default is None) for each in columns])


Record = TypeVar("Record")


def table_of(records: Iterable[object], schema: pa.Schema) -> pa.Table:
    """Records as a table. What a record does not have is null, what the schema does not have is left out.

    The bytes of a column are not copied where the records' values lie one behind the other in memory, which must not
    be written to any more; elsewhere they are copied once.
    """
    rows = [vars(record) for record in records]
    columns = [_column([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def structs_of(table: pa.Table) -> pa.StructArray:
    """The rows of a table as structs. Columns of one piece are not copied."""
    table = table.combine_chunks()
    columns = [column.chunk(0) if column.num_chunks else pa.array([], column.type) for column in table.columns]
    return pa.StructArray.from_arrays(columns, fields=list(table.schema))


def records_of(table: pa.Table, record: type[Record]) -> list[Record]:
    """The rows of a table as records of this class. Bytes are memoryviews of the table's own, not copies."""
    columns = [_values(column) for column in table.columns]
    return [record(**dict(zip(table.column_names, row, strict=True))) for row in zip(*columns, strict=True)]


def rows_of(table: pa.Table, *columns: str) -> Iterator[tuple[Any, ...]]:
    """The values of these columns, row by row."""
    return zip(*(table[name].to_pylist() for name in columns), strict=True)


def _column(values: Sequence[Any], dtype: pa.DataType) -> pa.Array:
    if not pa.types.is_large_binary(dtype):
        return pa.array(values, dtype)
    buffers = [pa.py_buffer(b"" if value is None else value) for value in values]
    offsets = np.cumsum([0, *(buffer.size for buffer in buffers)], dtype=np.int64)
    valid = pa.array([value is not None for value in values], pa.bool_()).buffers()[1]  # a bitmap, as validity is
    data = _joined([buffer for buffer in buffers if buffer.size])
    return pa.Array.from_buffers(dtype, len(values), [valid, pa.py_buffer(offsets), data])


def _joined(buffers: Sequence[pa.Buffer]) -> pa.Buffer:
    """The bytes of all buffers: their own memory where one begins at the other's end, else a copy."""
    if not buffers:
        return pa.py_buffer(b"")
    if all(one.address + one.size == other.address for one, other in pairwise(buffers)):
        return pa.foreign_buffer(buffers[0].address, sum(buffer.size for buffer in buffers), base=buffers)
    # Arrow copies all in one go without the GIL, into pages that its pool keeps: measured, 2 to 9 × bytes.join.
    arrays = [pa.Array.from_buffers(pa.uint8(), buffer.size, [None, buffer]) for buffer in buffers]
    return pa.concat_arrays(arrays).buffers()[1]


def _values(column: pa.ChunkedArray) -> list[Any]:
    if not pa.types.is_large_binary(column.type):
        return list(column.to_pylist())
    return [value for array in column.chunks if len(array) for value in _views(array)]


def _views(array: pa.LargeBinaryArray) -> list[memoryview | None]:
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, np.int64)[array.offset :][: len(array) + 1].tolist()
    view, valid = memoryview(data or b""), array.is_valid().to_pylist()
    return [view[begin:end] if known else None for (begin, end), known in zip(pairwise(bounds), valid, strict=True)]


class RLE(TypedDict):
    """A COCO segmentation with compressed run lengths, as `pycocotools.mask.decode` takes it."""

    size: list[int]
    """Height and width of the image."""
    counts: str


def _required(name: str, dtype: pa.DataType) -> pa.Field:
    return pa.field(name, dtype, nullable=False)


RLE_TYPE = pa.struct([_required("size", pa.list_(pa.int32())), _required("counts", pa.string())])


@dataclass(kw_only=True)
class SegmentRecord:
    """All pixels of one category in one image: a row of segments/."""

    image_id: Annotated[int, pa.int64(), "The image's id in images/."]
    category_id: Annotated[int, pa.int32(), "1 to N, in the vocabulary's order."]
    area: Annotated[int, pa.int64(), "Pixels."]
    area_fraction: Annotated[float, pa.float64(), "Share of the image's pixels."]
    bbox: Annotated[list[float], pa.list_(pa.float64(), 4), "Tight box: x, y, width, height in pixels."]
    mean_confidence: Annotated[float, pa.float64(), "Mean score of the class before thresholds, 0 to 1."]
    p10_confidence: Annotated[float, pa.float64(), "The lowest score that a tenth of the pixels do not exceed."]
    margin: Annotated[float, pa.float64(), "Mean of the best score minus the second best."]
    runner_up: Annotated[int | None, pa.int32(), "The most frequent second-best category; 0 is the background."] = None
    components: Annotated[int, pa.int32(), "4-connected components."]
    rle: Annotated[RLE, RLE_TYPE, "The mask, as pycocotools.mask.decode takes it."]


SEGMENTS_SCHEMA = schema_of(SegmentRecord)
SEGMENTS_TYPE = pa.list_(_required("element", pa.struct(list(SEGMENTS_SCHEMA))))
Image = TypeVar("Image", bound="ImageRecord")


@dataclass(kw_only=True)
class ImageRecord:
    """What is known of an image that was read: a row of images/. Every stage fills in more of it."""

    image_id: Annotated[int | None, pa.int64(), "unit · 2^20 + index, or the number in the key; null: bad_id."] = None
    key: Annotated[str, pa.string(), "Name in the input without its extension."]
    file_name: Annotated[str, pa.string(), "Name in the input."]
    unit: Annotated[int, pa.int32(), "Number of the unit, from 1."] = 0
    index: Annotated[int, pa.int32(), "Place in the unit, from 0."]
    width: Annotated[int | None, pa.int32(), "Pixels, after the orientation is applied."] = None
    height: Annotated[int | None, pa.int32(), "Pixels, after the orientation is applied."] = None
    orientation: Annotated[int | None, pa.int8(), "EXIF orientation as found, 1 to 8."] = None
    status: Annotated[str, pa.string(), "What became of the image."] = Status.OK
    error: Annotated[str | None, pa.string(), "Why it has no labels, in one line."] = None
    categories: Annotated[list[int] | None, pa.list_(pa.int32()), "Those in segments/, ascending."] = None
    coverage: Annotated[float | None, pa.float64(), "Share of the pixels with a class."] = None
    background_fraction: Annotated[float | None, pa.float64(), "Share of background."] = None
    ignored_fraction: Annotated[float | None, pa.float64(), "Share of ignored pixels."] = None
    mean_confidence: Annotated[float | None, pa.float64(), "Of all pixels, before thresholds."] = None
    entropy: Annotated[float | None, pa.float64(), "Mean entropy of the scores in nats."] = None
    anomaly_tokens: Annotated[int | None, pa.int32(), "Patch tokens replaced, over all windows."] = None
    windows: Annotated[int | None, pa.int32(), "Windows that went through the model."] = None
    metadata: Annotated[str | None, pa.string(), "JSON from the input, beside the image."] = None
    seconds: Annotated[float | None, pa.float64(), "The one column that differs between equal runs."] = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels, 0 where they are not known."""
        return self.height or 0, self.width or 0

    @classmethod
    def of(cls: type[Image], image: "ImageRecord", **more: Any) -> Image:
        """The record of this class for an image that an earlier stage knows: the columns of images/, and `more`."""
        return cls(**{name: getattr(image, name) for name in IMAGES_SCHEMA.names} | more)


IMAGES_SCHEMA = schema_of(ImageRecord)
_names = IMAGES_SCHEMA.names
MEASURED = _names[_names.index("categories") : _names.index("windows") + 1]  # null where an image has no labels


def labeled_rows(images: pa.Table) -> pa.Table:
    """The rows of a table of images that have the status "ok"."""
    return images.filter(pc.equal(images["status"], Status.OK))


@dataclass(kw_only=True)
class PartImage(ImageRecord):
    """A committed image: a row of a chunk's part."""

    segments: Annotated[list[SegmentRecord], SEGMENTS_TYPE, "Its rows of segments/."]
    labels_png: Annotated[bytes | None, pa.large_binary(), "The label map as PNG."] = None
    argmax_png: Annotated[bytes | None, pa.large_binary(), "The class before thresholds as PNG."] = None
    confidence_png: Annotated[bytes | None, pa.large_binary(), "The confidence of that class as PNG."] = None


PART_SCHEMA = schema_of(PartImage)
MASK_SUFFIXES = {"labels_png": "seg.png", "argmax_png": "argmax.png", "confidence_png": "conf.png"}  # in masks/

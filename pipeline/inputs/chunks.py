"""A chunk: a run of consecutive images of one unit, as one row of an Arrow table.

>>> for chunk in chunked(unit.number, rows, ChunkLimits(), done={0, 1}, start=resume_point({0: a, 1: b})): ...
"""

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from scclip.pipeline.inputs.headers import header_pixels

IMAGE_FIELDS: list[pa.Field] = [
    pa.field("index", pa.int32(), nullable=False),
    pa.field("key", pa.string(), nullable=False),
    pa.field("file_name", pa.string(), nullable=False),
    pa.field("data", pa.large_binary()),
    pa.field("truth", pa.large_binary()),
    pa.field("metadata", pa.string()),
    pa.field("status", pa.string(), nullable=False),
    pa.field("error", pa.string()),
]


def chunk_schema(image_fields: list[pa.Field]) -> pa.Schema:
    """Schema of a chunk table whose images have these fields; `chunks` is set in the unit's sentinel row only."""
    return pa.schema(
        [
            pa.field("unit", pa.int32(), nullable=False),
            pa.field("chunk", pa.int32(), nullable=False),
            pa.field("images", pa.list_(pa.struct(image_fields)), nullable=False),
            pa.field("chunks", pa.int32()),
            pa.field("resume", pa.string()),
        ]
    )


ENCODED_SCHEMA = chunk_schema(IMAGE_FIELDS)


@dataclass(frozen=True, kw_only=True)
class ChunkLimits:
    """Where a chunk closes: before the image that would pass one of these; one bigger image is a chunk of its own."""

    images: int = 32
    """Images."""
    encoded_bytes: int = 16 * 2**20
    """Bytes of encoded images (and of their ground truth, where it is read)."""
    pixels: int = 64_000_000
    """Pixels by the images' headers; an unreadable header counts 0."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"chunk limit {field.name} is {getattr(self, field.name)}; give 1 or more")


@dataclass(frozen=True, kw_only=True)
class ResumePoint:
    """Where the reading of a unit goes on after chunk `chunk` - 1; each chunk table carries it as JSON in `resume`."""

    chunk: int = 0
    """Number of the chunk that begins here."""
    index: int = 0
    """Index in the unit of the image that begins it."""
    offset: int | None = None
    """Byte offset of that image's sample in a plain tar; None: read from the start and skip."""
    skip: int = 0
    """Images of that sample which belong to the chunk before."""
    end: bool = False
    """True: nothing follows but the sentinel."""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> "ResumePoint":
        return ResumePoint(**json.loads(text))


def resume_point(done: Mapping[int, str | None]) -> ResumePoint | None:
    """Where to go on, given the `resume` text of every chunk that is done; None: at the start."""
    last = -1
    while done.get(last + 1) is not None:
        last += 1
    return ResumePoint.from_json(str(done[last])) if last >= 0 else None


class EncodedImage(NamedTuple):
    """One image as read: the fields of IMAGE_FIELDS, and where its reading begins."""

    image_index: int
    key: str
    file_name: str
    data: bytes | None
    truth: bytes | None = None
    metadata: str | None = None
    status: str = "ok"
    error: str | None = None
    offset: int | None = None
    skip: int = 0


def chunked(
    unit: int, rows: Iterator[EncodedImage], limits: ChunkLimits, done: Collection[int], start: ResumePoint
) -> Iterator[pa.Table]:
    """One-row tables of the chunks that are not in `done`, then the sentinel; boundaries depend on the images alone."""
    number, images, size, pixels = start.chunk, list[EncodedImage](), 0, 0
    for row in rows:
        row_size, row_pixels = len(row.data or b"") + len(row.truth or b""), header_pixels(row.data or b"")
        full = len(images) == limits.images or size + row_size > limits.encoded_bytes
        if images and (full or pixels + row_pixels > limits.pixels):
            after = ResumePoint(chunk=number + 1, index=row.image_index, offset=row.offset, skip=row.skip)
            if number not in done:
                yield encoded_chunk(unit, number, images, after)
            number, images, size, pixels = number + 1, [], 0, 0
        images.append(row)
        size, pixels = size + row_size, pixels + row_pixels
    if images:
        if number not in done:
            yield encoded_chunk(
                unit, number, images, ResumePoint(chunk=number + 1, index=images[-1].image_index + 1, end=True)
            )
        number += 1
    yield sentinel(unit, number)


def encoded_chunk(unit: int, number: int, images: list[EncodedImage], after: ResumePoint) -> pa.Table:
    """The chunk table of these images."""
    columns = list(zip(*images, strict=True)) if images else [()] * len(IMAGE_FIELDS)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, IMAGE_FIELDS, strict=False)]
    return nest(unit, number, pa.table(arrays, schema=pa.schema(IMAGE_FIELDS)), resume=after.to_json())


def sentinel(unit: int, chunks: int) -> pa.Table:
    """The last row of a unit: how many chunks it has."""
    return nest(unit, chunks, pa.schema(IMAGE_FIELDS).empty_table(), chunks=chunks)


def is_sentinel(chunk: pa.Table) -> bool:
    """True for a unit's last row."""
    return chunk["chunks"][0].as_py() is not None


def nest(unit: int, number: int, images: pa.Table, *, chunks: int | None = None, resume: str | None = None) -> pa.Table:
    """A flat table of images (one row each) as a chunk table of one row."""
    images = images.combine_chunks()
    columns = [c.chunk(0) if c.num_chunks else pa.array([], c.type) for c in images.columns]
    structs = pa.StructArray.from_arrays(columns, fields=list(images.schema))
    lists = pa.ListArray.from_arrays(pa.array([0, len(structs)], pa.int32()), structs)
    schema = chunk_schema(list(images.schema))
    values = [pa.array([unit], pa.int32()), pa.array([number], pa.int32()), lists.cast(schema.field("images").type)]
    return pa.table([*values, pa.array([chunks], pa.int32()), pa.array([resume], pa.string())], schema=schema)


def unnest(chunk: pa.Table) -> pa.Table:
    """The flat table of images, one row each, of a chunk table of one row."""
    images = chunk["images"].combine_chunks()
    lists = images.chunk(0) if isinstance(images, pa.ChunkedArray) else images
    structs = lists.flatten()
    return pa.table(structs.flatten(), schema=pa.schema(list(structs.type)))

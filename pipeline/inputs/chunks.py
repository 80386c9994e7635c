"""A chunk: a run of consecutive images of one unit. It is what stages hand to each other, and one part on disk.

>>> for chunk in chunked(unit.number, rows, ChunkLimits(), done={0, 1}, start=ResumePoint(chunk=2, index=64)): ...
"""

import dataclasses
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import pyarrow as pa

from scclip.pipeline.annotations.schemas import ImageRecord, Status, schema_of, structs_of, table_of
from scclip.pipeline.inputs.headers import header_size
from scclip.pipeline.storage.retries import redact


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
    """Where the reading of a unit goes on after chunk `chunk` - 1."""

    chunk: int = 0
    """Number of the chunk that begins here."""
    index: int = 0
    """Index in the unit of the image that begins it."""
    offset: int | None = None
    """Byte offset of that image's sample in a plain tar; None: read from the start and skip."""
    skip: int = 0
    """Images of that sample which belong to the chunk before."""
    end: bool = False
    """True: no image follows."""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> "ResumePoint":
        return ResumePoint(**json.loads(text))


@dataclass(frozen=True)
class Chunk:
    """A run of consecutive images of one unit. Behind a unit's chunks comes one more, its end: it has no images."""

    unit: int
    """The unit's number."""
    number: int
    """Chunks of the unit before this one; for the end of the unit: all its chunks."""
    images: pa.Table
    """One row per image."""
    resume: ResumePoint | None = None
    """Where reading goes on after this chunk."""
    last: bool = False
    """True for the end of the unit."""
    pixels: int = dataclasses.field(default=0, compare=False)
    """Of its images by their headers; known where it was read alone."""

    def with_images(self, images: pa.Table) -> "Chunk":
        """The same chunk after a stage has worked on its images."""
        return dataclasses.replace(self, images=images)

    def to_arrow(self) -> pa.Table:
        """The chunk as a table of one row, in which `images` is a list of structs. No bytes of images are copied."""
        resume = pa.array([self.resume.to_json() if self.resume else None], pa.string())
        outer = {"unit": [self.unit], "chunk": [self.number], "resume": resume, "last": [self.last]}
        return pa.table({**outer, "images": one_list(self.images)})

    @staticmethod
    def from_arrow(table: pa.Table) -> "Chunk":
        """The chunk that `to_arrow` made the table of. No bytes of images are copied."""
        unit, number, resume, last = (table[name][0].as_py() for name in ("unit", "chunk", "resume", "last"))
        structs = table["images"].chunk(0).flatten()
        images = pa.table(structs.flatten(), schema=pa.schema(list(structs.type)))
        return Chunk(unit, number, images, ResumePoint.from_json(resume) if resume else None, last)


def one_list(table: pa.Table) -> pa.ListArray:
    """The rows of a table as one list of structs. Columns of one piece are not copied."""
    structs = structs_of(table)
    return pa.ListArray.from_arrays(pa.array([0, len(structs)], pa.int32()), structs)


def to_row(table: pa.Table) -> pa.Table:
    """A table as a table of one row, which Ray never splits. Columns of one piece are not copied."""
    return pa.table({"rows": one_list(table)})


def from_row(row: pa.Table) -> pa.Table:
    """The table that `to_row` made the row of. Nothing is copied."""
    structs = row["rows"].chunk(0).flatten()
    return pa.table(structs.flatten(), schema=pa.schema(list(structs.type)))


def together(chunks: Iterable[Chunk], limits: ChunkLimits) -> Iterator[list[Chunk]]:
    """The chunks in order, small ones together: as many as one chunk of these limits would hold."""
    row, images, size, pixels = list[Chunk](), 0, 0, 0
    for chunk in chunks:
        images, size = images + len(chunk.images), size + chunk.images.nbytes
        pixels += chunk.pixels
        if row and (images > limits.images or size > limits.encoded_bytes or pixels > limits.pixels):
            yield row
            row, images, size, pixels = [], len(chunk.images), chunk.images.nbytes, chunk.pixels
        row.append(chunk)
    if row:
        yield row


def packed(chunks: Sequence[Chunk]) -> pa.Table:
    """One or more chunks as one row; the bytes of images are copied only where there are several chunks."""
    return to_row(pa.concat_tables([chunk.to_arrow() for chunk in chunks]))


def unpacked(row: pa.Table) -> list[Chunk]:
    """The chunks that `packed` made the row of."""
    chunks = from_row(row)
    return [Chunk.from_arrow(chunks.slice(index, 1)) for index in range(len(chunks))]


@dataclass(kw_only=True)
class EncodedImage(ImageRecord):
    """One image as it was read, and where its reading begins."""

    data: Annotated[bytes | memoryview | None, pa.large_binary(), "The image's file."] = None
    truth: Annotated[bytes | memoryview | None, pa.large_binary(), "The file of its ground truth."] = None
    offset: int | None = None
    skip: int = 0

    @staticmethod
    def failed_shard(
        url: str, index: int, reason: str, status: Status = Status.BAD_SHARD, offset: int | None = None
    ) -> "EncodedImage":
        """The image that stands for all images of a shard, from `index` on, that cannot be read."""
        name = redact(url).removesuffix("?…").rpartition("/")[2]
        return EncodedImage(index=index, key=name, file_name=name, status=status, error=reason, offset=offset)


ENCODED_SCHEMA = schema_of(EncodedImage)


def chunked(
    unit: int, rows: Iterator[EncodedImage], limits: ChunkLimits, done: Collection[int], start: ResumePoint
) -> Iterator[Chunk]:
    """The chunks that are not in `done`, then the unit's end. Where they close depends on the images alone."""
    number, images, size, pixels = start.chunk, list[EncodedImage](), 0, 0
    for row in rows:
        row_size = len(row.data or b"") + len(row.truth or b"")
        width, height = header_size(bytes(row.data or b"")) or (0, 0)
        full = len(images) == limits.images or size + row_size > limits.encoded_bytes
        if images and (full or pixels + width * height > limits.pixels):
            after = ResumePoint(chunk=number + 1, index=row.index, offset=row.offset, skip=row.skip)
            if number not in done:
                yield encoded_chunk(unit, number, images, after, pixels=pixels)
            number, images, size, pixels = number + 1, [], 0, 0
        images.append(row)
        size, pixels = size + row_size, pixels + width * height
    if images and number not in done:
        after = ResumePoint(chunk=number + 1, index=images[-1].index + 1, end=True)
        yield encoded_chunk(unit, number, images, after, pixels=pixels)
    yield encoded_chunk(unit, number + bool(images), last=True)


def encoded_chunk(
    unit: int,
    number: int,
    images: Sequence[EncodedImage] = (),
    resume: ResumePoint | None = None,
    last: bool = False,
    pixels: int = 0,
) -> Chunk:
    """The chunk of these images, which get the unit's number; with `last` the unit's end, after `number` chunks."""
    for image in images:
        image.unit = unit
    return Chunk(unit, number, table_of(images, ENCODED_SCHEMA), resume, last, pixels)

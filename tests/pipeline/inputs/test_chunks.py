"""Chunks that share a row: nothing is lost, changed or put in another order, and a row holds what one chunk may."""

import pyarrow as pa
from PIL import Image

from scclip.pipeline.inputs.chunks import (
    Chunk,
    ChunkLimits,
    EncodedImage,
    ResumePoint,
    chunked,
    packed,
    together,
    unpacked,
)
from scclip.pipeline.inputs.decoding import DecodeConfig, decode_chunk
from scclip.pipeline.review.drawing import encoded

LIMITS = ChunkLimits(images=7, encoded_bytes=5_000, pixels=9_000)


def chunks() -> list[Chunk]:
    """Those of units of 0 to 20 images."""

    def rows(images: int) -> list[EncodedImage]:
        data = [encoded(Image.new("RGB", (10 + 9 * index, 20), (index, 0, 0)), "PNG") for index in range(images)]
        return [EncodedImage(index=index, key=f"{index}", file_name="", data=data[index]) for index in range(images)]

    counts = enumerate([2, 0, 1, 20, 3, 2, 7, 1], 1)
    return [chunk for unit, images in counts for chunk in chunked(unit, iter(rows(images)), LIMITS, (), ResumePoint())]


def facts(chunk: Chunk) -> tuple[object, ...]:
    return chunk.unit, chunk.number, chunk.resume, chunk.last, chunk.images.schema, chunk.images.to_pylist()


def test_chunks_come_out_of_shared_rows_as_they_went_in() -> None:
    rows = [packed(group) for group in together(chunks(), LIMITS)]
    assert {len(row) for row in rows} == {1} and len(rows) < len(chunks()) / 2
    assert [facts(chunk) for row in rows for chunk in unpacked(row)] == [facts(chunk) for chunk in chunks()]


def test_a_shared_row_decodes_as_its_chunks_do() -> None:
    for group in together(chunks(), LIMITS):
        alone = [decode_chunk(chunk, DecodeConfig()) for chunk in group]
        shared = unpacked(packed([decode_chunk(chunk, DecodeConfig()) for chunk in unpacked(packed(group))]))
        assert [facts(chunk) for chunk in shared] == [facts(chunk) for chunk in alone]


def test_a_shared_row_stays_within_the_limits_of_one_chunk() -> None:
    groups = list(together(chunks(), LIMITS))
    for group in groups:
        images = [image for chunk in group for image in chunk.images.to_pylist()]
        pixels = sum((10 + 9 * image["index"]) * 20 for image in images)
        assert len(group) == 1 or (len(images) <= LIMITS.images and pixels <= LIMITS.pixels)
        assert len(group) == 1 or pa.concat_tables([chunk.images for chunk in group]).nbytes <= LIMITS.encoded_bytes
    assert any(len({chunk.unit for chunk in group}) > 1 for group in groups)

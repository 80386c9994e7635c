"""Pictures that a decoder refuses though none of their pixels is missing: what can be decoded instead.

>>> repaired(data, "image file is truncated", decode=lambda data: decode_image(data, config).rgb)
"""

import random
from collections.abc import Callable

import numpy as np

from scclip.pipeline.annotations.png import MAGIC, pixels_only

START_OF_IMAGE, END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"  # of a JPEG
START_OF_SCAN, COMMENT = 0xDA, 0xFE  # its markers
FILLINGS, FILLING_BYTES = 6, 200  # of 360 JPEGs cut by 1 to 40 bytes, none that lacks pixels is alike with all


def repaired(data: bytes, reason: str, decode: Callable[[bytes], np.ndarray]) -> bytes | None:
    """A refused file without what holds no pixels, or with its end.

    Args:
        data: the file: a PNG or JPEG with other parts than pixels, or a JPEG without its last two bytes.
        reason: what the decoder said of it.
        decode: the pixels of a file; its errors pass.

    Returns:
        The file to decode; None where pixels are missing, or where nothing can be left out or added.
    """
    if data.startswith(START_OF_IMAGE) and "truncated" in reason:
        body = data.removesuffix(END_OF_IMAGE[:1])
        pixels = decode(body + END_OF_IMAGE)
        others = (decode(body + filling + END_OF_IMAGE) for filling in _fillings())
        return body + END_OF_IMAGE if all(np.array_equal(pixels, other) for other in others) else None
    if data.startswith((START_OF_IMAGE, MAGIC)):
        small = pixels_only(data) if data.startswith(MAGIC) else _scans_only(data)
        return small if len(small) < len(data) else None
    return None


def _scans_only(data: bytes) -> bytes:
    """A JPEG without comments and applications' segments, but for EXIF and Adobe's, which tell how pixels are meant."""
    kept, offset = [data[:2]], 2
    while offset + 4 <= len(data) and data[offset] == 0xFF and data[offset + 1] != START_OF_SCAN:
        end = offset + 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
        marker, content = data[offset + 1], data[offset + 4 : end]
        adobe = marker == 0xEE and content.startswith(b"Adobe") and len(content) >= 12
        exif = marker == 0xE1 and content.startswith(b"Exif\0\0")
        if adobe or exif or not (0xE0 <= marker <= 0xEF or marker == COMMENT):
            kept.append(data[offset:end])
        offset = end
    return b"".join([*kept, data[offset:]])


def _fillings() -> list[bytes]:
    """What may have stood in the place of lost bytes. Where no pixel is lost, the decoder uses none of it."""
    generator = random.Random(0)
    return [bytes(generator.choices(range(255), k=FILLING_BYTES)) for _ in range(FILLINGS)]  # 255 begins a marker

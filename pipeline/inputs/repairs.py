"""Pictures that a decoder refuses though none of their pixels is missing: what can be decoded instead.

>>> repaired(data, "image file is truncated", decode=lambda data: decode_image(data, config).rgb)
"""

import random
from collections.abc import Callable

import numpy as np

from scclip.pipeline.annotations.png import MAGIC, pixels_only

END_OF_IMAGE = b"\xff\xd9"  # of a JPEG
FILLINGS, FILLING_BYTES = 6, 200  # of 360 JPEGs cut by 1 to 40 bytes, none that lacks pixels is alike with all


def repaired(data: bytes, reason: str, decode: Callable[[bytes], np.ndarray]) -> bytes | None:
    """A refused file without what holds no pixels, or with its end.

    Args:
        data: the file: a PNG with other parts than pixels, or a JPEG without its last two bytes.
        reason: what the decoder said of it.
        decode: the pixels of a file; its errors pass.

    Returns:
        The file to decode; None where pixels are missing, or where nothing can be left out or added.
    """
    if data.startswith(MAGIC):
        small = pixels_only(data)
        return small if len(small) < len(data) else None
    if data.startswith(b"\xff\xd8") and "truncated" in reason:
        body = data.removesuffix(END_OF_IMAGE[:1])
        pixels = decode(body + END_OF_IMAGE)
        others = (decode(body + filling + END_OF_IMAGE) for filling in _fillings())
        return body + END_OF_IMAGE if all(np.array_equal(pixels, other) for other in others) else None
    return None


def _fillings() -> list[bytes]:
    """What may have stood in the place of lost bytes. Where no pixel is lost, the decoder uses none of it."""
    generator = random.Random(0)
    return [bytes(generator.choices(range(255), k=FILLING_BYTES)) for _ in range(FILLINGS)]  # 255 begins a marker

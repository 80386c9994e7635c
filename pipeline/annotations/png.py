"""Planes of label indices or scores as greyscale PNG.

>>> read_plane(png(labels))     # the same (H, W) again
"""

import io

import numpy as np
from PIL import Image

from scclip.categories import Labels


def png(plane: np.ndarray) -> bytes:
    """A uint8 or uint16 plane (H, W) as greyscale PNG of 8 or 16 bits, or a uint8 picture (H, W, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(plane)).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def read_plane(data: bytes | memoryview) -> Labels:
    """The values (H, W) of a PNG of indices, uint8 or uint16. OSError for no image, ValueError for one in colours."""
    with Image.open(io.BytesIO(data)) as image:
        plane = np.asarray(image)
    if plane.ndim != 2 or plane.dtype.kind not in "ui" or (plane.size and not 0 <= plane.min() <= plane.max() < 2**16):
        raise ValueError(f"ground truth must be one plane of indices, not {plane.shape} {plane.dtype}")
    return plane if plane.dtype == np.uint8 else plane.astype(np.uint16)

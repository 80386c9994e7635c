"""Planes of label indices or scores as greyscale PNG.

>>> read_plane(png(labels))     # the same (H, W) again
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from scclip.categories import Labels

UP = 2  # PNG's filter that keeps each byte's difference from the one above: mostly 0 in maps of regions


def png(plane: np.ndarray) -> bytes:
    """A uint8 or uint16 plane (H, W) as greyscale PNG of 8 or 16 bits, or a uint8 picture (H, W, 3)."""
    if plane.ndim == 2:
        return _grey_png(plane)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(plane)).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def _grey_png(plane: np.ndarray) -> bytes:
    """Measured on label maps: a quarter of Pillow's time, which tries five filters a row, and a tenth fewer bytes."""
    height, width = plane.shape
    samples = np.ascontiguousarray(plane, plane.dtype.newbyteorder(">")).view(np.uint8)
    rows = np.empty((height, 1 + samples.shape[1]), np.uint8)
    rows[:, 0], rows[0, 1:] = UP, samples[0]
    np.subtract(samples[1:], samples[:-1], out=rows[1:, 1:])
    # Z_RLE looks for runs alone; two bytes a sample have few runs where the values are above 255.
    packer = zlib.compressobj(4, strategy=zlib.Z_RLE if plane.itemsize == 1 else zlib.Z_DEFAULT_STRATEGY)
    header = struct.pack(">IIBBBBB", width, height, 8 * plane.itemsize, 0, 0, 0, 0)  # grey, not interlaced
    chunks = _chunk(b"IHDR", header), _chunk(b"IDAT", packer.compress(rows.data) + packer.flush()), _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def read_plane(data: bytes | memoryview) -> Labels:
    """The values (H, W) of a PNG of indices, uint8 or uint16. OSError for no image, ValueError for one in colours."""
    with Image.open(io.BytesIO(data)) as image:
        plane = np.asarray(image)
    if plane.ndim != 2 or plane.dtype.kind not in "ui" or (plane.size and not 0 <= plane.min() <= plane.max() < 2**16):
        raise ValueError(f"ground truth must be one plane of indices, not {plane.shape} {plane.dtype}")
    return plane if plane.dtype == np.uint8 else plane.astype(np.uint16)

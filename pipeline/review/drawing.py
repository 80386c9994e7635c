"""Draws label maps and photos as thumbnails, with one colour per category (annotations/palette.py).

mask = mask_png(shrink(labels, 480))                     # coloured, ignored pixels transparent
"""

import io
from collections.abc import Container
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from scclip.categories import Labels, ignore_value
from scclip.pipeline.annotations.palette import Pattern, colour, ink, pattern
from scclip.pipeline.annotations.png import read_plane

OUTLINE = (255, 255, 255, 255)  # of the class that a picture is shown for


def truth_map(data: bytes | memoryview, shape: tuple[int, ...], known: Container[int]) -> Labels | None:
    """The truth of an image of `shape` (H, W) from a PNG of category indices; None where the PNG is not of use.

    Indices that are not `known` are ignored.
    """
    try:
        labels = read_plane(data)
    except (OSError, ValueError):
        return None
    if labels.shape != shape:
        return None
    unknown = [value for value in np.unique(labels).tolist() if value not in known]
    return np.where(np.isin(labels, unknown), ignore_value(labels.dtype), labels).astype(labels.dtype)


def thumbnail_size(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) with at most `side` pixels each way, same proportions, never larger than before."""
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrink(labels: Labels, side: int) -> Labels:
    """A label map at thumbnail size, nearest neighbour."""
    height, width = thumbnail_size(labels.shape[0], labels.shape[1], side)
    rows = ((np.arange(height) + 0.5) * labels.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * labels.shape[1] / width).astype(int)
    return labels[rows[:, None], columns]


def encoded(image: Image.Image, kind: str, **settings: Any) -> bytes:
    """An image file of `kind` (JPEG, PNG), written with these settings of Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def photo_jpeg(rgb: npt.NDArray[np.uint8], side: int) -> bytes:
    """An image (H, W, 3) as JPEG at thumbnail size."""
    height, width = thumbnail_size(rgb.shape[0], rgb.shape[1], side)
    small = Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return encoded(small, "JPEG", quality=78)


def mask_png(labels: Labels, outlined: int | None = None) -> bytes:
    """A label map (H, W) as RGBA PNG: each category in its colour and stripes, ignored pixels transparent.

    The category `outlined`, where one is given, has a white line at its edge.
    """
    values, indices = np.unique(labels, return_inverse=True)
    ignore, indices = ignore_value(labels.dtype), indices.reshape(labels.shape)
    known = [0 if value == ignore else value for value in values.tolist()]
    table = np.array([(*colour(value), 255) for value in known], np.uint8)
    table[values == ignore] = 0
    drawn = table[indices]
    for index, stripes in enumerate(map(pattern, known)):
        if stripes:
            drawn[(indices == index) & stripes_mask(labels.shape, stripes)] = (*ink(known[index]), 255)
    if outlined is not None:
        inside = labels == outlined
        drawn[inside & ~ndimage.binary_erosion(inside, iterations=2, border_value=1)] = OUTLINE
    return encoded(Image.fromarray(drawn), "PNG", optimize=True)


def stripes_mask(shape: tuple[int, ...], stripes: Pattern) -> npt.NDArray[np.bool_]:
    """Where the ink of a pattern is in a picture (H, W)."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    across = {0: rows + 0 * columns, 45: rows - columns, 90: columns + 0 * rows, 135: rows + columns}[stripes.angle]
    return across % stripes.period < 2

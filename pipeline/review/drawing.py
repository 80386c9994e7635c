"""Draws label maps and photos as thumbnails, with one colour per category.

    mask = mask_png(shrink(labels, 480))                     # coloured, ignored pixels transparent

A colour depends on the category index alone, so that it means the same class in every picture of every run.
"""

import functools
import io
import math
from collections.abc import Container
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from scclip.categories import BACKGROUND, Labels, ignore_value
from scclip.pipeline.annotations.png import read_plane

Colour = tuple[int, int, int]  # sRGB, 0..255

BACKGROUND_COLOUR: Colour = (128, 128, 128)
# Hue (OKLCH) steps by the golden ratio, lightness by the plastic number's fourth power (inverse), so that the pairs
# spread evenly. Measured in OKLab: any two of 21 classes differ by 0.09, of 150 by 0.018, up to 12 apart by 0.07.
HUE_STEP, LIGHTNESS_STEP = 0.6180340, 0.3247180
FIRST_HUE = 250 / 360  # blue for category 1 makes the demo's sky blue and its grass green
LIGHTNESS, FIRST_LIGHTNESS = (0.50, 0.88), 0.45
CHROMA = 0.17


@functools.cache
def colour(category: int) -> Colour:
    """The colour of a category index; grey for the background."""
    if category == BACKGROUND:
        return BACKGROUND_COLOUR
    low, high = LIGHTNESS
    lightness = low + (high - low) * ((FIRST_LIGHTNESS + category * LIGHTNESS_STEP) % 1)
    hue = math.tau * ((FIRST_HUE + (category - 1) * HUE_STEP) % 1)
    chroma = CHROMA
    while max(rgb := _linear_rgb(lightness, chroma, hue)) > 1 or min(rgb) < 0:
        chroma *= 0.95  # towards grey until a screen can show it
    red, green, blue = (round(255 * _gamma(value)) for value in rgb)
    return red, green, blue


def _linear_rgb(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """Linear sRGB of an OKLCH colour (Björn Ottosson's matrices); outside 0..1 where a screen cannot show it."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _gamma(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def css_colour(category: int) -> str:
    """The colour of a category as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour(category))


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


def mask_png(labels: Labels) -> bytes:
    """A label map as RGBA PNG: each category in its colour, ignored pixels transparent."""
    values, indices = np.unique(labels, return_inverse=True)
    ignore = ignore_value(labels.dtype)
    table = np.array([(0, 0, 0, 0) if value == ignore else (*colour(int(value)), 255) for value in values], np.uint8)
    return encoded(Image.fromarray(table[indices.reshape(labels.shape)]), "PNG", optimize=True)

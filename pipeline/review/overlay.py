"""Draws labels over a picture in full size, with the names of the classes below.

with_legend(Image.fromarray(blend(rgb, labels, 0.6)), [(1, "car 40%"), (2, "road 22%")]).save("overlay.png")
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from scclip.categories import BACKGROUND, Labels, ignore_value
from scclip.pipeline.review.drawing import colour

LINE, SWATCH, GAP, TEXT = 22, 14, 6, 13  # pixels: height of a legend's line, its squares, the space around, the font


def blend(rgb: npt.NDArray[np.uint8], labels: Labels, opacity: float) -> npt.NDArray[np.uint8]:
    """A picture (H, W, 3) under the colours of its labels (H, W); background and ignored pixels stay as they are."""
    values, indices = np.unique(labels, return_inverse=True)
    plain = [value in (BACKGROUND, ignore_value(labels.dtype)) for value in values.tolist()]
    share = np.where(plain, 0.0, opacity).astype(np.float32)[:, None]
    paint = share * np.array([colour(value) for value in values.tolist()], np.float32)
    at = indices.reshape(labels.shape)
    return np.rint(rgb * (1 - share)[at] + paint[at]).astype(np.uint8)


def with_legend(picture: Image.Image, entries: Sequence[tuple[int, str]]) -> Image.Image:
    """A picture with a strip below that names categories beside their colours: pairs of category and text."""
    font = ImageFont.load_default(TEXT)
    places, x, line = [], GAP, 0
    for _, text in entries:
        width = SWATCH + 3 * GAP + round(font.getlength(text))
        if x > GAP and x + width > picture.width:
            x, line = GAP, line + 1
        places.append((x, picture.height + GAP + line * LINE))
        x += width
    height = (line + 1) * LINE + GAP if entries else 0
    drawn = Image.new("RGB", (picture.width, picture.height + height), "white")
    drawn.paste(picture)
    pen = ImageDraw.Draw(drawn)
    for (category, text), (left, top) in zip(entries, places, strict=True):
        pen.rectangle((left, top, left + SWATCH, top + SWATCH), fill=colour(category))
        pen.text((left + SWATCH + GAP, top), text, fill="black", font=font)
    return drawn

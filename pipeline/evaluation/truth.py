"""Ground truth of an image as category indices: from a PNG of indices, by an explicit rule.

    truth = read_truth(data, TruthConfig(offset=1, ignore=(11,)), names)     # (H, W) uint8 or uint16

A value is a category index minus `offset`: shards of a vocabulary without background hold 0 for its first class, which
is category 1. The plane's highest value (255, or 65535 in 16 bits) is always ignored. Any other value that is no
category is an error: a wrong rule must not pass as a low score.
"""

from collections.abc import Container
from dataclasses import dataclass

import numpy as np

from scclip.categories import Labels, ignore_value, label_dtype
from scclip.errors import one_line
from scclip.pipeline.annotations.png import read_plane
from scclip.pipeline.annotations.schemas import ImageError, Status
from scclip.pipeline.inputs.decoding import DecodeConfig
from scclip.pipeline.inputs.headers import header_size

HEADER = 64  # bytes that hold a PNG's size
SHOWN = 5  # wrong values in a message


class TruthError(ImageError):
    """An image whose ground truth cannot be used."""


@dataclass(frozen=True, kw_only=True)
class TruthConfig:
    """What the values of a truth plane mean."""

    offset: int = 0
    """Added to a value it gives the category index: 0 or 1."""
    ignore: tuple[int, ...] = ()
    """Values that are left out, beside the plane's highest."""


def read_truth(
    data: bytes | memoryview | None, shape: tuple[int, ...], config: TruthConfig, known: Container[int]
) -> Labels:
    """The truth of an image of `shape` (H, W) as category indices and the dtype's ignore value; else TruthError."""
    if not data:
        raise TruthError(Status.NO_TRUTH, "the shard holds no ground truth for this image")
    width, height = header_size(bytes(data[:HEADER])) or (1, 1)
    if width * height > DecodeConfig.max_pixels:  # undecoded: a header may ask for any memory
        _check_size((height, width), shape)
    try:
        plane = read_plane(data)
    except Exception as error:  # Pillow's plugins raise anything on bad bytes
        raise TruthError(Status.BAD_TRUTH, one_line(error)) from None
    _check_size(plane.shape, shape)
    return categories(plane, config, known)


def _check_size(found: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if found != shape:
        sizes = " × ".join(map(str, found[::-1])), " × ".join(map(str, shape[::-1]))
        turned = "; it may be of the picture as stored: --exif ignore" if found == shape[::-1] else ""
        raise TruthError(Status.TRUTH_SIZE, f"the ground truth is {sizes[0]} pixels, the image {sizes[1]}{turned}")


def categories(plane: Labels, config: TruthConfig, known: Container[int]) -> Labels:
    """A plane's values as category indices, same shape; uint16 where an index would not fit 8 bits."""
    values = sorted(set(np.unique(plane).tolist()) - {ignore_value(plane.dtype), *config.ignore})
    unknown = [value for value in values if value + config.offset not in known]
    if unknown:
        named = ", ".join(map(str, unknown[:SHOWN]))
        remedy = "name it in --truth-ignore, or see --truth-indices"
        raise TruthError(Status.BAD_TRUTH, f"the ground truth holds {named}, which is no class: {remedy}")
    indices = [value + config.offset for value in values]
    dtype = label_dtype(max(indices, default=0))
    table = np.full(ignore_value(plane.dtype) + 1, ignore_value(dtype), dtype)
    table[values] = indices
    return table[plane]

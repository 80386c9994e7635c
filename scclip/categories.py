"""Categories of a vocabulary: 1..N are the classes, 0 is the background, the highest value is ignored."""

from typing import Any

import numpy as np
import numpy.typing as npt

BACKGROUND = 0


def ignore_value(dtype: npt.DTypeLike) -> int:
    """The label of ignored pixels: 255 in uint8 maps, 65535 in uint16 maps."""
    return int(np.iinfo(dtype).max)


Labels = npt.NDArray[Any]  # (H, W) uint8 or uint16

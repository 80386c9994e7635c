"""Label Studio's brush, read back bit by bit as its format says."""

import numpy as np
import pytest
from export_readers import brush_values

from scclip.pipeline.annotations.brush import brush


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (7, 5), (40, 61), (130, 260)])
@pytest.mark.parametrize("share", [0, 0.002, 0.5, 1])
def test_the_mask_comes_back_in_all_four_channels(shape: tuple[int, int], share: float) -> None:
    """Runs of one pixel and runs longer than 65,536 values, which are cut."""
    mask = np.random.default_rng(1).random(shape) < share
    values = np.array(brush_values(brush(mask))).reshape(*shape, 4)
    np.testing.assert_array_equal(values, np.repeat(mask[..., None] * 255, 4, axis=2))

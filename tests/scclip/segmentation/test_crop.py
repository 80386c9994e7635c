"""The kernel that resizes and cuts, against OpenCV: on the GPU where there is one, else in Triton's interpreter."""

import random

import cv2
import numpy as np
import pytest
import torch

from scclip.segmentation.windows import axis_windows

pytest.importorskip("triton")
from scclip.segmentation import kernels

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LEVELS = torch.arange(256, device=DEVICE).float().repeat(3, 1)
DRAW = random.Random(7)
MOST, COUNT = (900, 2400) if torch.cuda.is_available() else (70, 40)
PAIRS = [((640, 480), (320, 240)), ((50, 40), (50, 40)), ((1, 1), (33, 20)), ((90, 1), (16, 16)), ((40, 64), (20, 64))]
PAIRS += [tuple((DRAW.randint(1, MOST), DRAW.randint(1, MOST)) for _ in range(2)) for _ in range(COUNT)]


@pytest.mark.parametrize("pairs", [slice(12), pytest.param(slice(12, None), marks=pytest.mark.slow)])
def test_windows_hold_the_pixels_of_opencv(pairs: slice) -> None:
    for source, target in PAIRS[pairs]:
        image = np.random.default_rng(sum(source)).integers(0, 256, (*source, 3), dtype=np.uint8)
        expected = cv2.resize(image, target[::-1], interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
        rows, cols = (axis_windows(side, 224, 112, 16) for side in target)
        taps = (kernels.axis_taps(side, axis, DEVICE) for side, axis in zip(source, (rows, cols), strict=True))
        count = len(rows.starts) * len(cols.starts)
        found = torch.full((count, 3, rows.size, cols.size), -1.0, device=DEVICE)
        kernels.crop_windows(torch.from_numpy(image).to(DEVICE), *taps, LEVELS, found, 0)
        spots = ((top, left) for top in rows.starts for left in cols.starts)
        for window, (top, left) in zip(found.cpu().numpy(), spots, strict=True):
            wanted = expected[:, top : top + rows.size, left : left + cols.size]
            assert np.array_equal(window, wanted), (source, target)

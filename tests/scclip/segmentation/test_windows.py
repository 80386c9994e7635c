"""Stitching against the naive per-window way, the resize against OpenCV's."""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scclip.segmentation.windows import axis_windows, lay_side_by_side, resize, resized_side, stitch_operator

SIZES = [
    (1, 1),
    (31, 2000),
    (1, 30000),
    (375, 500),
    (640, 480),
    (30000, 1),
    (224, 224),
    (16, 16),
    (225, 337),
    (100, 90),
]
RANDOM = random.Random(3)
SIZES += [(RANDOM.randint(1, 1200), RANDOM.randint(1, 1200)) for _ in range(14)]


def naive(windows: torch.Tensor, rows, cols, size: tuple[int, int]) -> torch.Tensor:
    """Upsample every window, add, divide by the visit count, resize to the original size."""
    total = torch.zeros(windows.shape[1], rows.side, cols.side, dtype=torch.float64)
    visits = torch.zeros(rows.side, cols.side, dtype=torch.float64)
    spots = [(top, left) for top in rows.starts for left in cols.starts]
    for window, (top, left) in zip(windows.double(), spots, strict=True):
        shape = (rows.size, cols.size)
        up = F.interpolate(window[None], size=shape, mode="bilinear", align_corners=False)[0]
        total[:, top : top + rows.size, left : left + cols.size] += up
        visits[top : top + rows.size, left : left + cols.size] += 1
    assert visits.min() >= 1
    return F.interpolate((total / visits)[None], size=size, mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("patch", [16, 14])
def test_stitching_equals_upsample_add_divide_resize(size: tuple[int, int], patch: int) -> None:
    height, width = resized_side(*size, 336, 2048, (patch, patch))
    rows, cols = (axis_windows(side, 224, 112, patch) for side in (height, width))
    count = len(rows.starts) * len(cols.starts)
    logits = torch.rand(count, 3, rows.patches, cols.patches, generator=torch.Generator().manual_seed(1))
    a, b = stitch_operator(size[0], rows), stitch_operator(size[1], cols)
    stitched = a @ lay_side_by_side(logits, rows, cols) @ b.T
    assert (stitched - naive(logits, rows, cols, size)).abs().max() <= 1e-5


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from Linux's /proc")
def test_twelve_megapixels_with_171_queries_stay_under_three_gb() -> None:
    """Two of 4000 × 3000 side by side through the real segmenter, in a process of its own: peak memory."""
    code = """
import sys; sys.path[:0] = sys.argv[1:]
import numpy as np, torch
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.segmentation.segmenter import WindowSegmenter
from towers import clip
text = np.random.default_rng(0).standard_normal((171, 64)).astype(np.float32)
text /= np.linalg.norm(text, axis=1, keepdims=True)
segmenter = WindowSegmenter(SelfCalibratedCLIP(clip().visual), text, range(1, 172))
image = np.random.default_rng(1).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
torch.set_num_threads(2)  # two lanes, an image each
result, _ = segmenter.segment([image, image])
# not getrusage: its peak starts from that of the process that forked this one
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(result.labels.shape, int(peak) // 1024)
"""
    folders = [path for path in sys.path if path]
    done = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True, check=True)
    shape, peak = done.stdout.rsplit(" ", 1)
    assert shape == "(3000, 4000)"
    assert int(peak) * 2**20 < 3e9, f"peak {peak} MiB"


def resize_pairs(count: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Sizes before and after: unrelated ones, factors from 1/8 to 4, whole factors, and sides that stay."""
    draw = random.Random(5)
    for number in range(count):
        most = draw.choice((4, 40, 130))
        source = (draw.randint(1, most), draw.randint(1, most))
        factor, other = 2 ** draw.uniform(-3, 2), (draw.randint(1, most), draw.randint(1, most))
        multiple = (source[0] * draw.choice((1, 2, 2, 3, 4)), source[1] * draw.choice((1, 2, 2, 3, 4)))
        scaled = (max(1, round(source[0] * factor)), max(1, round(source[1] * factor)))
        yield ((source, other), (source, scaled), (source, multiple), (multiple, source))[number % 4]


def assert_as_opencv(source: tuple[int, int], target: tuple[int, int]) -> None:
    image = np.random.default_rng(sum(source)).integers(0, 256, (*source, 3), dtype=np.uint8)
    expected = cv2.resize(image, target[::-1], interpolation=cv2.INTER_LINEAR)
    resized = resize(torch.from_numpy(image), target).permute(1, 2, 0).numpy()
    assert np.array_equal(resized, expected), (source, target)


def test_resize_gives_the_pixels_of_opencv() -> None:
    for source, target in resize_pairs(2400):
        assert_as_opencv(source, target)


@pytest.mark.parametrize(
    "size",
    [
        (375, 500),
        (500, 333),
        (97, 1201),
        (336, 336),
        (672, 896),
        (33, 40),
        (1080, 1920),
        (3, 5),
        (1, 4000),
        (3000, 4000),
    ],
)
def test_resize_of_pictures_gives_the_pixels_of_opencv(size: tuple[int, int]) -> None:
    for short_side in (336, 560):
        assert_as_opencv(size, resized_side(*size, short_side, 2048, (16, 16)))


def test_windows_cover_the_axis_and_end_inside() -> None:
    for side in [*range(1, 700, 7), 224, 336, 448, 2048]:
        windows = axis_windows(side, 224, 112, 16)
        assert windows.starts[0] == 0
        assert windows.starts[-1] + windows.size == side
        assert all(0 < b - a <= 112 for a, b in zip(windows.starts, windows.starts[1:], strict=False))

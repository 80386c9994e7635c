"""Sliding windows over a resized image, and their exact stitching as two small matrices.

    rows, cols = axis_windows(336, window=224, stride=112, patch=16), axis_windows(448, ...)
    a, b = stitch_operator(375, rows), stitch_operator(500, cols)
    logits = a @ windows_side_by_side @ b.T  # cosine logits at the original size

The official way upsamples every window's logits to pixels, adds, divides by the visit count and resizes to the original
size. All of that is linear and separable, so each axis is one matrix that depends only on sizes.

Shapes: Q queries, H × W pixels of the original image, h × w of the resized one, G grid positions of all windows of an
axis laid side by side.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RESIZE_BITS = 11  # OpenCV's INTER_RESIZE_COEF_BITS
RESIZE_ONE = 1 << RESIZE_BITS


@dataclass(frozen=True)
class AxisWindows:
    """The windows along one axis of a resized image."""

    side: int
    """Pixels of the resized image along this axis."""
    size: int
    """Pixels of one window: the window size, or the side where that is smaller."""
    starts: tuple[int, ...]
    """First pixel of each window, ascending; the last window is shifted inwards to end at the side."""
    patches: int
    """Whole patches of one window along this axis; the rest of the window is dropped and stretched over."""


def resized_side(height: int, width: int, short_side: int, long_side: int, patch: tuple[int, int]) -> tuple[int, int]:
    """Height and width after the resize that keeps the aspect ratio: scale = min(long/long', short/short').

    Each side is at least one patch, so every image has a grid.
    """
    scale = min(long_side / max(height, width), short_side / min(height, width))
    return max(patch[0], int(height * scale + 0.5)), max(patch[1], int(width * scale + 0.5))


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 RGB (H, W, 3) → uint8 RGB (3, h, w), bilinear without antialiasing, half-pixel centres, rounded.

    Fixed-point with 11-bit weights as OpenCV's INTER_LINEAR, within one level of it: integers give the same pixels on
    every device and with any number of threads, which `torch.nn.functional.interpolate` does not.
    """
    if tuple(image.shape[:2]) == tuple(size):
        return image.permute(2, 0, 1)
    (top, bottom, down), (left, right, across) = (
        fixed_point_taps(new, old, image.device) for new, old in zip(size, image.shape[:2], strict=True)
    )
    down = down[:, None, None]
    rows = image[top].int() * (RESIZE_ONE - down) + image[bottom].int() * down
    across = across[:, None]
    pixels = rows[:, left] * (RESIZE_ONE - across) + rows[:, right] * across
    return ((pixels + RESIZE_ONE**2 // 2) >> (2 * RESIZE_BITS)).to(torch.uint8).permute(2, 0, 1)


@functools.lru_cache(maxsize=512)  # a few KB each; to a GPU they would be copied, and waited for, with every image
def fixed_point_taps(target: int, source: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """`bilinear_taps` with the upper weight as int32 in units of 2^-11."""
    low, high, fraction = bilinear_taps(target, source)
    weight = (fraction * RESIZE_ONE).round().int()
    return low.to(device), high.to(device), weight.to(device)


def axis_windows(side: int, window: int, stride: int, patch: int) -> AxisWindows:
    """Windows along an axis of `side` pixels; one window of the side itself where the window is larger (or 0)."""
    size = side if window == 0 else min(window, side)
    steps = -(-(side - size) // stride) if window else 0
    starts = tuple(min(step * stride, side - size) for step in range(steps + 1))
    return AxisWindows(side, size, starts, size // patch)


@functools.lru_cache(maxsize=64)  # at most 64 small matrices: 215 KB each for 640 pixels
def stitch_operator(original: int, windows: AxisWindows) -> Tensor:
    """(original, G) float32 matrix R · diag(1/count) · [U placed at each window]; G = windows · patches.

    U upsamples one window's logits to its pixels, count is how many windows cover a pixel, R resizes to the original
    side; R has two entries a row, so it is applied as a gather.
    """
    up = bilinear_matrix(windows.size, windows.patches)
    placed = torch.zeros(windows.side, len(windows.starts) * windows.patches, dtype=torch.float64)
    count = torch.zeros(windows.side, 1, dtype=torch.float64)
    for index, start in enumerate(windows.starts):
        rows = slice(start, start + windows.size)
        placed[rows, index * windows.patches : (index + 1) * windows.patches] = up
        count[rows] += 1
    low, high, fraction = bilinear_taps(original, windows.side)
    mean = placed / count
    return torch.lerp(mean[low], mean[high], fraction[:, None]).float()


@functools.lru_cache(maxsize=64)
def whole_operator(original: int, patches: int) -> Tensor:
    """(original, patches) float32: one interpolation from the grid to the original side (`whole` mode)."""
    return bilinear_matrix(original, patches).float()


@dataclass(frozen=True)
class Band:
    """A run of pixels along an axis of the original image, with what their interpolation reads of the grid."""

    pixels: slice
    """The pixels, without a halo."""
    padded: slice
    """The pixels with the halo: the operator's rows."""
    grid: Tensor
    """(g,) int64 grid positions whose weight is not 0 for all of them."""
    operator: Tensor
    """(padded pixels, g) float32: the rows and columns of the whole operator that count here."""


@functools.lru_cache(maxsize=64)
def axis_bands(
    original: int, windows: AxisWindows, whole: bool, pixels: int, halo: int, device: torch.device
) -> tuple[Band, ...]:
    """The stitching operator of an axis cut into bands of `pixels` pixels; most of its entries are 0 and go."""
    operator = whole_operator(original, windows.patches) if whole else stitch_operator(original, windows)
    bands = []
    for start in range(0, original, pixels):
        inner = slice(start, min(start + pixels, original))
        padded = slice(max(0, inner.start - halo), min(original, inner.stop + halo))
        grid = operator[padded].any(0).nonzero().flatten()
        bands.append(Band(inner, padded, grid.to(device), operator[padded][:, grid].contiguous().to(device)))
    return tuple(bands)


def bilinear_taps(target: int, source: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lower and upper source index (int64) and the upper one's weight (float64) of each target position.

    1-D bilinear interpolation with half-pixel centres, edges replicated.
    """
    position = ((torch.arange(target, dtype=torch.float64) + 0.5) * (source / target) - 0.5).clamp_(min=0)
    low = position.floor().long().clamp_(max=source - 1)
    return low, (low + 1).clamp_(max=source - 1), (position - low).clamp_(max=1)


def bilinear_matrix(target: int, source: int) -> Tensor:
    """(target, source) float64 matrix of the same interpolation."""
    low, high, fraction = bilinear_taps(target, source)
    matrix = torch.zeros(target, source, dtype=torch.float64)
    matrix.scatter_add_(1, low[:, None], 1 - fraction[:, None])
    return matrix.scatter_add_(1, high[:, None], fraction[:, None])


def lay_side_by_side(logits: Tensor, rows: AxisWindows, cols: AxisWindows) -> Tensor:
    """Windows' small logits (windows, Q, gh, gw), row by row → (Q, G_rows, G_cols)."""
    shape = (len(rows.starts), len(cols.starts), logits.shape[1], rows.patches, cols.patches)
    return logits.reshape(shape).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2).contiguous()


def crop_windows(pixels: Tensor, rows: AxisWindows, cols: AxisWindows) -> Sequence[Tensor]:
    """Views (3, size, size) of every window of (3, h, w) pixels, row by row."""
    return [pixels[:, top : top + rows.size, left : left + cols.size] for top in rows.starts for left in cols.starts]

"""Sliding windows over a resized image, and their exact stitching as two small matrices.

    rows, cols = axis_windows(336, window=224, stride=112, patch=16), axis_windows(448, ...)
    a, b = stitch_operator(375, rows), stitch_operator(500, cols)
    logits = a @ windows_side_by_side @ b.T  # cosine logits at the original size

The authors' code upsamples the logits of every window to pixels, adds them, divides by the number of windows over each
pixel and resizes to the original size. All of that is linear and separable, so each axis is one matrix that depends
only on sizes.

Shapes: Q queries, H × W pixels of the original image, h × w of the resized one, gh × gw the patch grid of a window,
G grid positions of all windows of an axis laid side by side, g those that a band reads.
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
    """Height and width after the resize, which keeps the aspect ratio.

    The short side becomes `short_side` pixels, or fewer so that the long side has at most `long_side`. Each side is at
    least one patch, so every image has a grid.
    """
    scale = min(long_side / max(height, width), short_side / min(height, width))
    return max(patch[0], int(height * scale + 0.5)), max(patch[1], int(width * scale + 0.5))


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes bilinearly without antialiasing: (H, W, 3) uint8 RGB → (3, h, w) uint8 RGB, `size` being (h, w).

    The pixels are those of OpenCV's INTER_LINEAR, on every device and with any number of threads.
    """
    if tuple(image.shape[:2]) == tuple(size):
        return image.permute(2, 0, 1)
    top, bottom, down = fixed_point_taps(size[0], image.shape[0], image.device)
    left, right, across = fixed_point_taps(size[1], image.shape[1], image.device)
    down, across = down[:, None, None], across[:, None]

    def blend_columns(rows: Tensor) -> Tensor:
        before, behind = rows.index_select(1, left).int(), rows.index_select(1, right).int()
        return before.mul_(RESIZE_ONE - across).addcmul_(behind, across).bitwise_right_shift_(4)

    if image.shape[0] < 2 * size[0]:  # most rows are read twice
        rows = blend_columns(image)
        above, below = rows.index_select(0, top), rows.index_select(0, bottom)
    else:
        above, below = (blend_columns(image.index_select(0, index)) for index in (top, bottom))
    above.mul_(RESIZE_ONE - down).bitwise_right_shift_(16)
    below.mul_(down).bitwise_right_shift_(16)
    quarters = above.add_(below)  # OpenCV drops the rest of each product before it adds them
    return quarters.add_(2).bitwise_right_shift_(2).to(torch.uint8).permute(2, 0, 1)


@functools.lru_cache(maxsize=512)  # a few KB each; to a GPU they would be copied, and waited for, with every image
def fixed_point_taps(target: int, source: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Linear interpolation along an axis as OpenCV rounds it: positions in float32, ties of the weights to even.

    Beyond an edge both indices are the edge's and the weight stays what it was: OpenCV truncates both products.

    Returns:
        The lower and the upper source index, (target,) int64, and the weight of the upper one, (target,) int32 in
        units of 2^-11, on a device.
    """
    scale = 1 / (target / source)  # not source / target, which may differ in the last bit
    position = ((torch.arange(target, dtype=torch.float64) + 0.5) * scale - 0.5).float()
    low = position.floor()
    weight = ((position - low) * RESIZE_ONE).round().int()
    lower, upper = (index.long().clamp(0, source - 1).to(device) for index in (low, low + 1))
    return lower, upper, weight.to(device)


def axis_windows(side: int, window: int, stride: int, patch: int) -> AxisWindows:
    """Lays windows along an axis of `side` pixels; a window that is larger than the side, or 0, covers all of it."""
    size = side if window == 0 else min(window, side)
    steps = -(-(side - size) // stride) if window else 0
    starts = tuple(min(step * stride, side - size) for step in range(steps + 1))
    return AxisWindows(side, size, starts, size // patch)


def stitch_operator(original: int, windows: AxisWindows) -> Tensor:
    """Matrix from the logits of the windows along an axis to original pixels: (original, G) float32.

    It is R · diag(1/count) · [U at each window]: U upsamples the logits of one window to its pixels, count is how many
    windows cover a pixel, R resizes to the original side. R has two entries per row, so it is applied as a gather.
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


def axis_operator(original: int, windows: AxisWindows, whole: bool) -> Tensor:
    """Matrix from the grid to original pixels, (original, G) float32.

    It is `stitch_operator`, or with `whole` one interpolation of the only window's grid (window 0).
    """
    return bilinear_matrix(original, windows.patches).float() if whole else stitch_operator(original, windows)


@dataclass(frozen=True)
class Band:
    """Consecutive pixels along an axis of the original image, and the part of the grid that they depend on."""

    pixels: slice
    """The pixels, without a halo."""
    padded: slice
    """The pixels with the halo: the operator's rows."""
    grid: Tensor
    """(g,) int64 grid positions with a weight other than 0 for any of the pixels."""
    operator: Tensor
    """(padded pixels, g) float32: the rows and columns of the axis's operator for this band."""


@functools.lru_cache(maxsize=256)  # 0.04 to 1.2 MB each at 300 to 8,000 pixels a side; one takes 0.5 to 2 ms to make
def axis_bands(
    original: int, windows: AxisWindows, whole: bool, pixels: int, halo: int, device: torch.device
) -> tuple[Band, ...]:
    """Cuts the operator of an axis into bands of `pixels` pixels, and leaves out the columns that are 0.

    Args:
        original: pixels of the original image along the axis.
        windows: the windows along the axis.
        whole: one interpolation instead of stitched windows (window 0).
        pixels: most pixels of a band.
        halo: pixels on either side that a band's refinement reads as well.
        device: where the bands are used.
    """
    operator, bands = axis_operator(original, windows, whole), []
    for start in range(0, original, pixels):
        inner = slice(start, min(start + pixels, original))
        padded = slice(max(0, inner.start - halo), min(original, inner.stop + halo))
        grid = operator[padded].any(0).nonzero().flatten()
        bands.append(Band(inner, padded, grid.to(device), operator[padded][:, grid].contiguous().to(device)))
    return tuple(bands)


def bilinear_taps(target: int, source: int) -> tuple[Tensor, Tensor, Tensor]:
    """Linear interpolation along an axis from `source` to `target` positions: half-pixel centres, edges replicated.

    Returns:
        The lower and the upper source index, (target,) int64, and the weight of the upper one, (target,) float64.
    """
    position = ((torch.arange(target, dtype=torch.float64) + 0.5) * (source / target) - 0.5).clamp_(min=0)
    low = position.floor().long().clamp_(max=source - 1)
    return low, (low + 1).clamp_(max=source - 1), (position - low).clamp_(max=1)


def bilinear_matrix(target: int, source: int) -> Tensor:
    """The interpolation of `bilinear_taps` as a matrix: (target, source) float64."""
    low, high, fraction = bilinear_taps(target, source)
    matrix = torch.zeros(target, source, dtype=torch.float64)
    matrix.scatter_add_(1, low[:, None], 1 - fraction[:, None])
    return matrix.scatter_add_(1, high[:, None], fraction[:, None])


def lay_side_by_side(logits: Tensor, rows: AxisWindows, cols: AxisWindows) -> Tensor:
    """Joins the logits of the windows, in row-major order: (windows, Q, gh, gw) → (Q, G of rows, G of columns)."""
    shape = (len(rows.starts), len(cols.starts), logits.shape[1], rows.patches, cols.patches)
    return logits.reshape(shape).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2).contiguous()


def crop_windows(pixels: Tensor, rows: AxisWindows, cols: AxisWindows) -> Sequence[Tensor]:
    """Views of the windows of (3, h, w) pixels in row-major order, each (3, window height, window width)."""
    return [pixels[:, top : top + rows.size, left : left + cols.size] for top in rows.starts for left in cols.starts]

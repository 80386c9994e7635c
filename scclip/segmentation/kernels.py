"""The two Triton kernels of the GPU's path: image bytes to windows, and logits of the grid to label maps.

    crop_windows(rgb, rows, cols, levels, windows)          # resize, normalise, cut, in one pass over the image
    write_maps(down, strips, members, planes, row)          # stitch, softmax, best two categories, thresholds

The (H, W, queries) logits are never written to memory: a program holds those of 32 pixels of a row, some queries at a
time. Without a GPU the kernels run in Triton's interpreter (TRITON_INTERPRET=1), as the tests run them.

Shapes: H × W pixels of the original image, h × w of the resized one, M members: pairs of a category and one of its
queries, G grid columns of all windows side by side, T taps: grid columns that a strip of pixels reads.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from scclip.segmentation.scoring import ENTROPY_STEP, QueryScorer
from scclip.segmentation.windows import RESIZE_BITS, AxisWindows, axis_operator, fixed_point_taps

STRIP = 32  # pixels of a row in one program: one for each thread, so that nothing is exchanged between threads
BLOCK = 32  # members whose logits a thread holds at once
WARPS = 1
CROP_ROWS, CROP_COLS = 16, 64  # pixels of a window in one program


@dataclass(frozen=True)
class AxisTaps:
    """How an axis of an image is resized and cut, on the device."""

    low: Tensor
    """(h,) int32 source index of each resized pixel."""
    high: Tensor
    """(h,) int32 index of the pixel beside it."""
    weight: Tensor
    """(h,) int32 weight of `high` in units of 2^-11."""
    starts: Tensor
    """(windows,) int32 first resized pixel of each window."""


@functools.lru_cache(maxsize=1024)
def axis_taps(source: int, windows: AxisWindows, device: torch.device) -> AxisTaps:
    """The taps of an axis of `source` pixels."""
    taps = fixed_point_taps(windows.side, source, torch.device("cpu"))
    low, high, weight, starts = (tensor.to(device, torch.int32) for tensor in (*taps, torch.tensor(windows.starts)))
    return AxisTaps(low, high, weight, starts)


@dataclass(frozen=True)
class Strips:
    """The columns' side of the stitching: which grid columns each strip of `STRIP` pixels reads, and their weights."""

    column: Tensor
    """(strips, T) int32 grid column, padded with 0."""
    weight: Tensor
    """(strips, T, STRIP) float32, padded with 0."""


@functools.lru_cache(maxsize=1024)
def strips(width: int, windows: AxisWindows, whole: bool, device: torch.device) -> Strips:
    """The strips of rows of `width` pixels; `whole`: one interpolation instead of stitched windows."""
    operator = axis_operator(width, windows, whole)
    groups = operator.split(STRIP)
    used = [group.any(0).nonzero().flatten() for group in groups]
    taps = max(map(len, used))
    column, weight = torch.zeros(len(groups), taps, dtype=torch.int32), torch.zeros(len(groups), taps, STRIP)
    for number, (group, columns) in enumerate(zip(groups, used, strict=True)):
        column[number, : len(columns)] = columns
        weight[number, : len(columns), : len(group)] = group[:, columns].T
    return Strips(column.to(device), weight.to(device))


class Members:
    """A vocabulary as the kernel reads it: members by ascending category, and what is known of the categories."""

    def __init__(self, scorer: QueryScorer) -> None:
        self.query, self.category = scorer.member_query.int(), scorer.member_category.int()
        counts = scorer.log_count.exp()[scorer.member_query]
        _, first = np.unique(self.query.cpu(), return_index=True)
        self.share = torch.zeros_like(counts)
        self.share[first] = counts[first]
        """(M,) float32: how often the query counts in the softmax; 0 where an earlier member has counted it."""
        self.all_allowed = torch.ones_like(self.query, dtype=torch.int8)
        self.value, self.threshold = scorer.category_index.int(), scorer.thresholds
        self.fallback = 0 if scorer.categories[0] == 0 else scorer.ignore
        self.ignore = scorer.ignore
        self.plain = scorer.direct and not scorer.repeated
        """Whether each query is a category of its own."""


@dataclass(frozen=True)
class Planes:
    """Where the maps of one image are written: contiguous, on the device."""

    size: tuple[int, int]
    categories: Tensor
    """(3, pixels) uint8, or int16 for the bits of uint16: labels, argmax, runner-up."""
    levels: Tensor
    """(2, pixels) uint8: confidence, margin."""
    entropy: Tensor
    """(samples,) float32: entropies in nats at every 8th row and column."""


def crop_windows(rgb: Tensor, rows: AxisTaps, cols: AxisTaps, levels: Tensor, windows: Tensor, first: int) -> None:
    """Resizes, normalises and cuts an image: (H, W, 3) uint8 → its windows from number `first` on, row by row.

    Args:
        rgb: the image on the device.
        rows: how its rows are resized and cut.
        cols: how its columns are resized and cut.
        levels: (3, 256) the normalised value of each level of each channel.
        windows: (count, 3, window height, window width), written; as many windows as it holds.
        first: number of the first of these windows in row-major order.
    """
    count, _, height, width = windows.shape
    grid = (count, triton.cdiv(height, CROP_ROWS), triton.cdiv(width, CROP_COLS))
    axes = (rows.low, rows.high, rows.weight, rows.starts, cols.low, cols.high, cols.weight, cols.starts)
    _crop_kernel[grid](
        rgb, *axes, levels, windows, rgb.shape[1], len(cols.starts), first, height, width,
        BITS=RESIZE_BITS, ROWS=CROP_ROWS, COLS=CROP_COLS,
    )  # fmt: skip


@triton.jit(
    do_not_specialize=["source_width", "columns", "first", "height", "width"], do_not_specialize_on_alignment=["out"]
)
def _crop_kernel(  # type: ignore[no-untyped-def]
    rgb, top, bottom, down, row_starts, left, right, across, col_starts, levels, out,
    source_width, columns, first, height, width,
    BITS: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    window = tl.program_id(0)
    row, col = tl.program_id(1) * ROWS + tl.arange(0, ROWS), tl.program_id(2) * COLS + tl.arange(0, COLS)
    high, wide = row < height, col < width
    inside = high[:, None] & wide[None, :]
    y = tl.load(row_starts + (first + window) // columns) + row
    x = tl.load(col_starts + (first + window) % columns) + col
    above = tl.load(top + y, mask=high, other=0)[:, None] * source_width
    below = tl.load(bottom + y, mask=high, other=0)[:, None] * source_width
    lower = tl.load(down + y, mask=high, other=0)[:, None]
    before = tl.load(left + x, mask=wide, other=0)[None, :]
    behind = tl.load(right + x, mask=wide, other=0)[None, :]
    later = tl.load(across + x, mask=wide, other=0)[None, :]
    one: tl.constexpr = 1 << BITS
    for channel in tl.static_range(3):
        a = tl.load(rgb + (above + before) * 3 + channel, mask=inside, other=0).to(tl.int32)
        b = tl.load(rgb + (above + behind) * 3 + channel, mask=inside, other=0).to(tl.int32)
        c = tl.load(rgb + (below + before) * 3 + channel, mask=inside, other=0).to(tl.int32)
        d = tl.load(rgb + (below + behind) * 3 + channel, mask=inside, other=0).to(tl.int32)
        start, end = (a * (one - later) + b * later) >> 4, (c * (one - later) + d * later) >> 4
        level = ((start * (one - lower) >> 16) + (end * lower >> 16) + 2) >> 2
        at = ((window * 3 + channel) * height + row[:, None]) * width + col[None, :]
        tl.store(out + at, tl.load(levels + channel * 256 + level, mask=inside, other=0.0), mask=inside)


def write_maps(down: Tensor, strips: Strips, members: Members, allowed: Tensor, planes: Planes, row: int) -> None:
    """Scores some rows of an image and writes its maps there; what `QueryScorer.label_maps` makes of the same logits.

    Args:
        down: (rows, G, U) float32: the scaled logits of the grid after the rows' side of the stitching.
        strips: the columns' side.
        members: the vocabulary.
        allowed: (M,) int8, 0 for the members of categories that cannot win.
        planes: the maps of the whole image, changed in place.
        row: number of the first of these rows in the image.
    """
    width = planes.size[1]
    labels, argmax, runner_up = planes.categories
    confidence, margin = planes.levels
    _score_kernel[(len(down), len(strips.column))](
        down, strips.column, strips.weight, members.query, members.category, members.share, allowed,
        members.value, members.threshold, labels, argmax, runner_up, confidence, margin, planes.entropy,
        row, width, down.stride(0), down.stride(1), strips.column.shape[1], len(members.query),
        members.fallback, members.ignore,
        PLAIN=members.plain and allowed is members.all_allowed, STRIP=STRIP, BLOCK=BLOCK, STEP=ENTROPY_STEP,
        num_warps=WARPS,
    )  # fmt: skip


@triton.jit(
    do_not_specialize=["first_row", "width", "row_stride", "taps", "fallback", "ignore"],
    do_not_specialize_on_alignment=["labels", "argmax", "runner_up", "confidence", "margin", "entropy"],
)
def _score_kernel(  # type: ignore[no-untyped-def]
    down, column, weight, member_query, member_category, share, allowed, category_value, threshold,
    labels, argmax, runner_up, confidence, margin, entropy,
    first_row, width, row_stride, grid_stride, taps, members, fallback, ignore,
    PLAIN: tl.constexpr, STRIP: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    row, strip = tl.program_id(0), tl.program_id(1)
    pixel, grid = tl.arange(0, STRIP), down + row * row_stride
    far: tl.constexpr = 2147483647
    never: tl.constexpr = -1e30  # below every logit, and finite: its product with 0 is 0
    highest = tl.full([STRIP], -float("inf"), tl.float32)  # of the logits so far: the softmax is summed relative to it
    total, moment = tl.zeros([STRIP], tl.float32), tl.zeros([STRIP], tl.float32)
    top = tl.full([STRIP], -float("inf"), tl.float32)
    second = tl.full([STRIP], -float("inf"), tl.float32)
    top_category, second_category = tl.zeros([STRIP], tl.int32), tl.zeros([STRIP], tl.int32)
    for start in range(0, members, BLOCK):
        member = start + tl.arange(0, BLOCK)
        inside = member < members
        query, category = member, member
        if not PLAIN:
            query = tl.load(member_query + member, mask=inside, other=0)
            category = tl.load(member_category + member, mask=inside, other=far)
        logits = tl.zeros([BLOCK, STRIP], tl.float32)
        for tap in range(taps):
            weights = tl.load(weight + (strip * taps + tap) * STRIP + pixel)
            values = tl.load(grid + tl.load(column + strip * taps + tap) * grid_stride + query, mask=inside, other=0.0)
            logits += values[:, None] * weights[None, :]
        logits = tl.where(inside[:, None], logits, never)
        bound = tl.maximum(highest, tl.max(logits, 0))
        part, keep = tl.exp(logits - bound[None, :]), tl.exp(highest - bound)
        contest = logits
        if not PLAIN:
            part *= tl.load(share + member, mask=inside, other=0.0)[:, None]
            contest = tl.where((tl.load(allowed + member, mask=inside, other=0) != 0)[:, None], logits, never)
        total = total * keep + tl.sum(part, 0)
        moment = moment * keep + tl.sum(part * logits, 0)
        highest = bound
        first = tl.max(contest, 0)
        first_category = tl.min(tl.where(contest == first[None, :], category[:, None], far), 0)  # of equals the lowest
        rest = tl.where(category[:, None] == first_category[None, :], never, contest)
        other = tl.max(rest, 0)
        other_category = tl.min(tl.where(rest == other[None, :], category[:, None], far), 0)
        # The two best of both: equals of an earlier block stay in front, and a category is not its own runner-up.
        wins, same = first > top, first_category == top_category
        one = tl.where(wins & (same == 0), top, second)
        one_category = tl.where(wins & (same == 0), top_category, second_category)
        two = tl.where(wins | same, other, first)
        two_category = tl.where(wins | same, other_category, first_category)
        second = tl.maximum(one, two)
        second_category = tl.where(one >= two, one_category, two_category)
        top_category = tl.where(wins, first_category, top_category)
        top = tl.maximum(top, first)
    log_total = highest + tl.log(total)
    best_score, second_score = tl.exp(top - log_total), tl.exp(second - log_total)
    lost = best_score == 0
    x = strip * STRIP + pixel
    shown = x < width
    kind = labels.dtype.element_ty
    best = tl.where(lost, fallback, tl.load(category_value + top_category))
    doubtful = best_score < tl.load(threshold + top_category)
    next_known = second_score > 0
    next_best = tl.load(category_value + second_category, mask=next_known, other=0)
    at = (first_row + row) * width + x
    tl.store(labels + at, tl.where(doubtful, fallback, best).to(kind), mask=shown)
    tl.store(argmax + at, best.to(kind), mask=shown)
    tl.store(runner_up + at, tl.where(next_known, next_best, ignore).to(kind), mask=shown)
    tl.store(confidence + at, _quantised(best_score), mask=shown)
    tl.store(margin + at, _quantised(best_score - second_score), mask=shown)
    y = first_row + row
    sample = (y // STEP) * ((width + STEP - 1) // STEP) + x // STEP
    sampled = shown & (x % STEP == 0) & (y % STEP == 0)
    tl.store(entropy + sample, tl.maximum(log_total - moment / total, 0.0), mask=sampled)


@triton.jit
def _quantised(score):  # type: ignore[no-untyped-def]
    """round(255 · score), of halves the even one: adding 1.5 · 2^23 leaves no bits behind the point."""
    return ((score * 255.0 + 12582912.0) - 12582912.0).to(tl.uint8)

"""The GPU's half of `statistics`: what the pixels of each label add up to, in two Triton kernels for many images.

    table = sum_labels(planes, ends, numbers)          # on the device
    statistics = statistics_of(table[0].cpu().numpy(), ignore=255)

The first kernel counts pixels by label and confidence, with the sum of their margins in the same 64 bits, and by label
and runner-up; the second makes a row of sums of each label's counts. All are integers: the order of additions is free.

Shapes: n images, N numbers of labels: 0 for ignore, 1 + category for the others.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from scclip.segmentation.statistics import LEVELS, LabelStatistics

COUNT_BYTES = 1 << 28  # of counts at a time
MOST_NUMBERS = 1024  # pairs of labels are counted in a square table
MOST_PIXELS = 1 << 27  # of one image: 27 bits of a count, 36 of a sum of margins
MARGIN_BITS = 36
PIXELS = 1024  # of one program


class Planes(NamedTuple):
    """Maps of all images one behind the other, contiguous, on the device: uint8, or the bits of uint16 as int16."""

    labels: Tensor
    runner_up: Tensor
    confidence: Tensor
    margin: Tensor


def countable(numbers: int, pixels: Sequence[int]) -> bool:
    """Whether so many numbers of labels and images of so many pixels fit the kernels' counts."""
    return numbers <= MOST_NUMBERS and max(pixels, default=0) <= MOST_PIXELS


def sum_labels(planes: Planes, ends: Sequence[int], numbers: int) -> Tensor:
    """Adds up the pixels of each image by label.

    Args:
        planes: the maps of n images.
        ends: (n + 1,) pixel at which each image begins, and the end of the last.
        numbers: N, more than the highest category + 1.

    Returns:
        (n, 5, N) int64 on the device: pixels, confidence, lowest confidence of a tenth, margin, number of the runner-up
        or 0 for none.
    """
    device, images = planes.labels.device, len(ends) - 1
    sums = torch.empty(images, 5, numbers, dtype=torch.int64, device=device)
    bounds = torch.tensor(ends, dtype=torch.int64).to(device, non_blocking=True)
    step = max(1, COUNT_BYTES // (numbers * (8 * LEVELS + 4 * numbers)))
    for first in range(0, images, step):
        part = sums[first : first + step]
        scores = torch.zeros(len(part), numbers, LEVELS, dtype=torch.int64, device=device)
        pairs = torch.zeros(len(part), numbers, numbers, dtype=torch.int32, device=device)
        largest = max(end - begin for begin, end in itertools.pairwise(ends[first : first + step + 1]))
        grid = (triton.cdiv(largest, PIXELS), len(part))
        _count_kernel[grid](
            *planes, bounds, scores, pairs, first, numbers, BITS=MARGIN_BITS, LEVELS=LEVELS, PIXELS=PIXELS
        )
        _sum_kernel[(numbers, len(part))](
            scores, pairs, part, numbers, BITS=MARGIN_BITS, LEVELS=LEVELS, COLUMNS=triton.next_power_of_2(numbers)
        )
    return sums


def statistics_of(sums: np.ndarray, ignore: int) -> LabelStatistics:
    """The statistics of one image from its sums (5, N) int64; `ignore` is the label of number 0."""
    present = np.flatnonzero(sums[0])
    area, confidence, lowest, margin, runner_up = sums[:, present]
    return LabelStatistics(np.where(present, present - 1, ignore), area, confidence, lowest, margin, runner_up - 1)


@triton.jit(
    do_not_specialize=["first", "numbers"],
    do_not_specialize_on_alignment=["labels", "runner_up", "confidence", "margin"],
)
def _count_kernel(  # type: ignore[no-untyped-def]
    labels, runner_up, confidence, margin, bounds, scores, pairs, first, numbers,
    BITS: tl.constexpr, LEVELS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    begin, end = tl.load(bounds + first + image), tl.load(bounds + first + image + 1)
    at = begin + tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    inside = at < end
    ignore: tl.constexpr = (1 << labels.dtype.element_ty.primitive_bitwidth) - 1
    label = (tl.load(labels + at, mask=inside, other=0).to(tl.int32) + 1) & ignore
    rival = (tl.load(runner_up + at, mask=inside, other=0).to(tl.int32) + 1) & ignore
    level = tl.load(confidence + at, mask=inside, other=0).to(tl.int32)
    pixel = (1 << BITS) + tl.load(margin + at, mask=inside, other=0).to(tl.int64)
    row = image * numbers + label
    tl.atomic_add(scores + row * LEVELS + level, pixel, mask=inside, sem="relaxed")
    tl.atomic_add(pairs + row * numbers + rival, 1, mask=inside, sem="relaxed")


@triton.jit(do_not_specialize=["numbers"], do_not_specialize_on_alignment=["sums"])
def _sum_kernel(  # type: ignore[no-untyped-def]
    scores, pairs, sums, numbers, BITS: tl.constexpr, LEVELS: tl.constexpr, COLUMNS: tl.constexpr
):
    label, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    row = image * numbers + label
    level = tl.arange(0, LEVELS)
    both = tl.load(scores + row * LEVELS + level)
    count = both >> BITS
    area = tl.sum(count, 0)
    lowest = tl.min(tl.where(10 * tl.cumsum(count, 0) >= area, level, LEVELS - 1), 0)
    rival = tl.arange(0, COLUMNS)
    known = (rival > 0) & (rival < numbers)
    pixels = tl.load(pairs + row * numbers + rival, mask=known, other=0)
    most = tl.max(pixels, 0)
    best = tl.min(tl.where(known & (pixels == most), rival, COLUMNS), 0)
    out = sums + image * 5 * numbers + label
    tl.store(out, area)
    tl.store(out + numbers, tl.sum(count * level, 0))
    tl.store(out + 2 * numbers, lowest.to(tl.int64))
    tl.store(out + 3 * numbers, tl.sum(both & ((1 << BITS) - 1), 0))
    tl.store(out + 4 * numbers, tl.where(most > 0, best, 0).to(tl.int64))

"""What the pixels of each label add up to: integers, so that no figure depends on the order of summation.

    summary = SegmentationSummary.of(segmentation)
    summary.statistics.area[summary.statistics.labels == 3]

A labeling job keeps these sums and the labels, and lets the maps of scores go where they were made.

Shapes: H × W pixels, K labels that occur in the map, R labels that a runner-up may have.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scclip.categories import Labels, ignore_value
from scclip.segmentation.types import Segmentation

LEVELS = 256  # of a quantised score
BLOCK_PIXELS = 1 << 16  # measured: the numbers of a block's bins stay in the cache, 12 MP need no extra memory
MOST_PIXELS = 1 << 21  # in a block
SUM_BITS = 29  # of a float64 that holds the sum of so many pixels' margins, and above it how many pixels they are

IntArray = npt.NDArray[np.int64]
Quantised = npt.NDArray[np.uint8]  # (H, W)


class LabelStatistics(NamedTuple):
    """Sums over the pixels of each label of a map, background and ignore included; all arrays are (K,) int64."""

    labels: IntArray
    """Each label once, in no particular order."""
    area: IntArray
    """Pixels, at least one."""
    confidence: IntArray
    """Sum of their confidences, 0…255 each."""
    lowest: IntArray
    """The lowest confidence, 0…255, that a tenth of them do not exceed."""
    margin: IntArray
    """Sum of their margins, 0…255 each."""
    runner_up: IntArray
    """The most frequent runner-up, of equals the lowest; −1 where no pixel has one."""

    def to_bytes(self) -> bytes:
        """The arrays one behind the other, as they travel from stage to stage."""
        return np.stack(self).tobytes()

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> "LabelStatistics":
        """What `to_bytes` gave."""
        return cls(*np.frombuffer(data, np.int64).reshape(len(cls._fields), -1))


class SegmentationSummary(NamedTuple):
    """The label map of one image, and what the scores behind it add up to."""

    labels: np.ndarray
    """(H, W), as in `Segmentation`."""
    statistics: LabelStatistics
    """Of the labels."""
    entropy: float
    """As in `Segmentation`."""
    anomaly_tokens: int
    """As in `Segmentation`."""
    windows: int
    """As in `Segmentation`."""
    argmax: np.ndarray | None = None
    """(H, W), as in `Segmentation`; None where it was not asked for."""
    confidence: np.ndarray | None = None
    """(H, W), as in `Segmentation`; None where it was not asked for."""

    @classmethod
    def of(cls, maps: Segmentation, scores: bool = False) -> "SegmentationSummary":
        """The summary of these maps; with `scores` it keeps the category before thresholds and its confidence."""
        statistics = label_statistics(maps.labels, maps.confidence, maps.margin, maps.runner_up)
        kept = {"argmax": maps.argmax, "confidence": maps.confidence} if scores else {}
        return cls(maps.labels, statistics, maps.entropy, maps.anomaly_tokens, maps.windows, **kept)


def label_statistics(labels: Labels, confidence: Quantised, margin: Quantised, runner_up: Labels) -> LabelStatistics:
    """Adds up the maps of an image, (H, W) each, by label, over blocks of pixels."""
    (names, rows), (rivals, rival) = _numbered(labels), _numbered(runner_up)
    height, width = int(rows.max()) + 1, int(rival.max()) + 1
    histogram, margins = _score_sums(rows, height, confidence.ravel(), margin.ravel())
    pairs = _pair_counts(rows, height, rival, width)
    area = histogram.sum(axis=1)
    reached = 10 * np.cumsum(histogram, axis=1) >= area[:, None]
    present = np.flatnonzero(area)
    everything = LabelStatistics(
        labels=names[:height],
        area=area,
        confidence=histogram @ np.arange(LEVELS),
        lowest=np.argmax(reached, axis=1),
        margin=margins,
        runner_up=_main_rivals(pairs, rivals[:width], ignore_value(runner_up.dtype)),
    )
    return LabelStatistics(*(values[present] for values in everything))


def _score_sums(rows: Labels, height: int, confidence: Quantised, margin: Quantised) -> tuple[IntArray, IntArray]:
    """For each row number the pixels of every confidence (height, 256), and the sum of the margins (height,)."""
    counts, margins = np.zeros((2, height * LEVELS), np.int64)
    for at, row in _blocks(rows, counts.size):
        pixels = margin[at].astype(np.float64)
        pixels += 1 << SUM_BITS
        sums = np.bincount(row * row.dtype.type(LEVELS) + confidence[at], pixels).astype(np.int64)
        counts[: sums.size] += sums >> SUM_BITS
        margins[: sums.size] += sums & ((1 << SUM_BITS) - 1)
    return counts.reshape(height, LEVELS), margins.reshape(height, LEVELS).sum(axis=1)


def _pair_counts(rows: Labels, height: int, columns: Labels, width: int) -> IntArray:
    """The pixels of each pair of a row number and a column number: (height, width)."""
    counts = np.zeros(height * width, np.int64)
    for at, row in _blocks(rows, counts.size):
        part = np.bincount(row * row.dtype.type(width) + columns[at])
        counts[: part.size] += part
    return counts.reshape(height, width)


def _main_rivals(pairs: IntArray, rivals: IntArray, ignore: int) -> IntArray:
    """Of each row the label (R,) of the column with most pixels (K, R), ignore apart; −1 where all are 0."""
    known = np.where(rivals == ignore, 0, pairs)
    return np.where(known.any(axis=1), rivals[np.argmax(known, axis=1)], -1)


def _blocks(rows: Labels, bins: int) -> Iterator[tuple[slice, Labels]]:
    """Blocks of more pixels than bins, and their row numbers in a dtype that holds every bin's number."""
    dtype = np.result_type(np.uint16, np.min_scalar_type(bins))
    block = min(max(BLOCK_PIXELS, 4 * bins), MOST_PIXELS)
    for begin in range(0, rows.size, block):
        at = slice(begin, begin + block)
        yield at, rows[at].astype(dtype)


def _numbered(labels: Labels) -> tuple[IntArray, Labels]:
    """Labels by number, and the number (H · W,) of each pixel's label: small numbers, for few bins."""
    flat = labels.ravel()
    if flat.dtype == np.uint8:
        return np.roll(np.arange(LEVELS), 1), flat + np.uint8(1)  # wraps round: ignore is 0, the others follow
    seen = np.zeros(ignore_value(flat.dtype) + 1, bool)
    seen[flat] = True
    return np.flatnonzero(seen), (np.cumsum(seen) - 1).astype(np.uint16).take(flat)

"""Statistics of a labeled image and of its segments, and the tables that hold them.

Everything is computed from integer label maps and quantised scores (uint8, 255 = 1.0): integer sums and histograms,
divided once, so the figures depend neither on the machine nor on the order of summation.

Use: `images, segments = split_part(part_table([labeled_record(image, labels), failed_record(...), ...]))`
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scclip.categories import BACKGROUND, Labels, ignore_value
from scclip.pipeline.annotations import rle, schemas
from scclip.pipeline.annotations.schemas import SEGMENTS_SCHEMA, ImageRecord, PartImage, SegmentRecord, Status
from scclip.segmentation.types import Segmentation

LEVELS = 256  # of a quantised score
BLOCK_PIXELS = 1 << 16  # measured: the numbers of a block's bins stay in the cache, 12 MP need no extra memory
MOST_PIXELS = 1 << 21  # in a block
SUM_BITS = 29  # of a float64 that holds the sum of so many pixels' margins, and above it how many pixels they are

IntArray = npt.NDArray[np.int64]
Quantised = npt.NDArray[np.uint8]  # (H, W)


@dataclass(frozen=True, kw_only=True)
class Histograms:
    """Integer counts over the pixels of each of the K labels in an image, ignore included."""

    labels: IntArray  # (K,) each once
    confidence: IntArray  # (K, 256)
    margin: IntArray  # (K,) sum over the pixels, 0..255 each
    rivals: IntArray  # (R,) labels that a runner-up may have, ascending but for ignore
    runner_up: IntArray  # (K, R)


def histograms(labels: Labels, confidence: Quantised, margin: Quantised, runner_up: Labels) -> Histograms:
    """Count all maps, (H, W) each, by label, over blocks of pixels."""
    (names, rows), (rivals, rival) = _numbered(labels), _numbered(runner_up)
    height, width = int(rows.max()) + 1, int(rival.max()) + 1
    by_confidence, margins = _score_sums(rows, height, confidence.ravel(), margin.ravel())
    present = np.flatnonzero(by_confidence.any(axis=1))
    return Histograms(
        labels=names[present],
        confidence=by_confidence[present],
        margin=margins[present],
        rivals=rivals[:width],
        runner_up=_pair_counts(rows, height, rival, width)[present],
    )


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


def mean(histogram: IntArray) -> npt.NDArray[np.float64]:
    """Means in 0..1 of the quantised scores counted by (…, 256) histograms, none of them empty."""
    return (histogram @ np.arange(LEVELS)) / histogram.sum(axis=-1) / (LEVELS - 1)


def tenth_percentile(histogram: IntArray) -> npt.NDArray[np.float64]:
    """The lowest level, in 0..1, at which the cumulative count of a (…, 256) histogram reaches a tenth of its sum."""
    reached = 10 * np.cumsum(histogram, axis=-1) >= histogram.sum(axis=-1, keepdims=True)
    return np.argmax(reached, axis=-1) / (LEVELS - 1)


def labeled_record(image: ImageRecord, labels: Segmentation, **masks: bytes) -> PartImage:
    """The record of a labeled image: what is known of it, its statistics, its segments and these PNGs of masks.

    Raises ValueError where the image has no id or another size than its labels.
    """
    if image.image_id is None or image.shape != labels.labels.shape:
        raise ValueError(
            f"{image.key}: image id {image.image_id}, size {image.height} × {image.width}, labels "
            f"{labels.labels.shape}: a labeled image needs an id and labels of its own size"
        )
    counts, pixels = histograms(labels.labels, labels.confidence, labels.margin, labels.runner_up), labels.labels.size
    area = dict(zip(counts.labels.tolist(), counts.confidence.sum(axis=1).tolist(), strict=True))
    background, ignored = area.get(BACKGROUND, 0), area.get(ignore_value(labels.labels.dtype), 0)
    segments = _segment_records(image.image_id, labels.labels, counts)
    return PartImage.of(
        image,
        status=Status.OK,
        categories=[segment.category_id for segment in segments],
        coverage=(pixels - background - ignored) / pixels,
        background_fraction=background / pixels,
        ignored_fraction=ignored / pixels,
        mean_confidence=float(mean(counts.confidence.sum(axis=0))),
        entropy=float(labels.entropy),
        anomaly_tokens=int(labels.anomaly_tokens),
        windows=int(labels.windows),
        segments=segments,
        **masks,
    )


def failed_record(image: ImageRecord, status: str, error: str | None) -> PartImage:
    """The record of an image that has no labels: nothing in it is measured. Raises ValueError for the status "ok"."""
    if status == Status.OK:
        raise ValueError(f'{image.key}: status "{Status.OK}" is for labeled images: name what failed')
    return PartImage.of(image, **dict.fromkeys(schemas.MEASURED), status=status, error=error, segments=[])


def part_table(images: Iterable[PartImage]) -> pa.Table:
    """Records of `labeled_record` and `failed_record` as a table of PART_SCHEMA."""
    rows = [vars(image) | {"segments": list(map(vars, image.segments))} for image in images]
    return pa.Table.from_pylist(rows, schema=schemas.PART_SCHEMA)


def split_part(part: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The images (IMAGES_SCHEMA) and the segments (SEGMENTS_SCHEMA) of a table of PART_SCHEMA, in its order."""
    chunks = [pc.list_flatten(chunk) for chunk in part["segments"].chunks]
    segments = [pa.Table.from_arrays(chunk.flatten(), schema=SEGMENTS_SCHEMA) for chunk in chunks]
    return part.select(schemas.IMAGES_SCHEMA.names), pa.concat_tables([SEGMENTS_SCHEMA.empty_table(), *segments])


def _segment_records(image_id: int, labels: Labels, counts: Histograms) -> list[SegmentRecord]:
    confidences, lowest = mean(counts.confidence).tolist(), tenth_percentile(counts.confidence).tolist()
    margins = (counts.margin / counts.confidence.sum(axis=1) / (LEVELS - 1)).tolist()
    rivals = _main_rivals(counts, ignore_value(labels.dtype))
    position = {category: number for number, category in enumerate(counts.labels.tolist())}
    return [
        SegmentRecord(
            **vars(segment),
            image_id=image_id,
            category_id=category,
            area_fraction=segment.area / labels.size,
            mean_confidence=confidences[number],
            p10_confidence=lowest[number],
            margin=margins[number],
            runner_up=rivals[number],
        )
        for category, segment in rle.encode_label_map(labels).items()
        for number in [position[category]]
    ]


def _main_rivals(counts: Histograms, ignore: int) -> list[int | None]:
    """The most frequent runner-up of each label, the lowest of equals; None where no pixel has one."""
    known = np.where(counts.rivals == ignore, 0, counts.runner_up)
    best = np.argmax(known, axis=1)
    return [int(counts.rivals[column]) if known[row, column] else None for row, column in enumerate(best.tolist())]

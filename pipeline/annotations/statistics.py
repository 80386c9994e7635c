"""Arrow schemas of a run's tables, and the per-image and per-segment statistics in them.

Everything is computed from integer label maps and quantised scores (uint8, 255 = 1.0): integer sums and histograms,
divided once, so the figures depend neither on the machine nor on the order of summation.

Use: `images, segments = split_part(part_table([labeled_row(identity, labeled, seconds=0.1), ...]))`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scclip.categories import BACKGROUND, Labels, ignore_value
from scclip.pipeline.annotations import rle
from scclip.pipeline.annotations.schemas import IMAGES_SCHEMA, PART_SCHEMA, SEGMENTS_SCHEMA, Status

LEVELS = 256  # of a quantised score
BLOCK_PIXELS = 1 << 16  # measured: the int64 bin numbers of a block stay in the cache, 12 MP need no extra memory

IntArray = npt.NDArray[np.int64]
Quantised = npt.NDArray[np.uint8]  # (H, W)


@dataclass(frozen=True, kw_only=True)
class ImageIdentity:
    """What is known of an image without labels; the columns of the same names."""

    image_id: int | None
    key: str
    file_name: str
    unit: int
    index: int
    width: int | None = None
    height: int | None = None
    orientation: int | None = None
    metadata: str | None = None


class Labeled(Protocol):
    """Labels of one image, as `scclip.segmentation.segmenter.Segmentation` holds them; all arrays (H, W)."""

    @property
    def labels(self) -> Labels: ...
    @property
    def confidence(self) -> Quantised: ...
    @property
    def runner_up(self) -> Labels: ...  # the ignore value where there is no second class
    @property
    def margin(self) -> Quantised: ...
    @property
    def entropy(self) -> float: ...
    @property
    def anomaly_tokens(self) -> int: ...
    @property
    def windows(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Histograms:
    """Integer counts over the pixels of each of the K labels in an image, ignore included."""

    labels: IntArray  # (K,) ascending
    confidence: IntArray  # (K, 256)
    margin: IntArray  # (K, 256)
    rivals: IntArray  # (R,) the runner-up labels in the image, ascending
    runner_up: IntArray  # (K, R)


def histograms(labels: Labels, confidence: Quantised, margin: Quantised, runner_up: Labels) -> Histograms:
    """Count all maps, (H, W) each, by label, in one pass over blocks of pixels."""
    present, place = _places(labels)
    rivals, rival_place = _places(runner_up)
    shapes = [(present.size, LEVELS), (present.size, LEVELS), (present.size, rivals.size)]
    counts = [np.zeros(rows * columns, np.int64) for rows, columns in shapes]
    flat = [array.ravel() for array in (labels, confidence, margin, runner_up)]
    block = max(BLOCK_PIXELS, *(total.size for total in counts))  # never more bins than pixels to add up
    for begin in range(0, labels.size, block):
        label, *columns, rival = (array[begin : begin + block] for array in flat)
        row = place[label]
        for total, column in zip(counts, (*columns, rival_place[rival]), strict=True):
            total += np.bincount(row * (total.size // present.size) + column, minlength=total.size)
    by_confidence, by_margin, by_rival = (total.reshape(shape) for total, shape in zip(counts, shapes, strict=True))
    return Histograms(labels=present, confidence=by_confidence, margin=by_margin, rivals=rivals, runner_up=by_rival)


def _places(labels: Labels) -> tuple[IntArray, IntArray]:
    """The labels present, ascending, and the table that takes a label to its place among them."""
    seen = np.zeros(ignore_value(labels.dtype) + 1, bool)
    seen[labels.ravel()] = True
    return np.flatnonzero(seen), np.cumsum(seen) - 1


def mean(histogram: IntArray) -> npt.NDArray[np.float64]:
    """Means in 0..1 of the quantised scores counted by (…, 256) histograms, none of them empty."""
    return (histogram @ np.arange(LEVELS)) / histogram.sum(axis=-1) / (LEVELS - 1)


def tenth_percentile(histogram: IntArray) -> npt.NDArray[np.float64]:
    """The lowest level, in 0..1, at which the cumulative count of a (…, 256) histogram reaches a tenth of its sum."""
    reached = 10 * np.cumsum(histogram, axis=-1) >= histogram.sum(axis=-1, keepdims=True)
    return np.argmax(reached, axis=-1) / (LEVELS - 1)


def labeled_row(
    identity: ImageIdentity, labeled: Labeled, *, seconds: float, masks: Mapping[str, bytes] | None = None
) -> dict[str, Any]:
    """A labeled image as a row of PART_SCHEMA; `masks` are encoded PNGs by the names in MASK_COLUMNS.

    Raises ValueError where the identity has no image id or another size than the label map.
    """
    if identity.image_id is None or (identity.height, identity.width) != labeled.labels.shape:
        raise ValueError(
            f"{identity.key}: image id {identity.image_id}, size {identity.height} × {identity.width}, labels "
            f"{labeled.labels.shape}: a labeled image needs an id and labels of its own size"
        )
    counts = histograms(labeled.labels, labeled.confidence, labeled.margin, labeled.runner_up)
    segments = _segment_rows(identity.image_id, labeled.labels, counts)
    return {
        **asdict(identity),
        "status": Status.OK,
        "categories": [segment["category_id"] for segment in segments],
        **_image_scalars(counts, labeled),
        "seconds": seconds,
        "segments": segments,
        **(masks or {}),
    }


def failed_row(
    identity: ImageIdentity, *, status: str, error: str | None, seconds: float | None = None
) -> dict[str, Any]:
    """An image that got no labels, as a row of PART_SCHEMA. Raises ValueError for the status "ok"."""
    if status == Status.OK:
        raise ValueError(f'{identity.key}: status "{Status.OK}" is for labeled images: name what failed')
    return {**asdict(identity), "status": status, "error": error, "seconds": seconds, "segments": []}


def part_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of labeled_row and failed_row as a table of PART_SCHEMA; columns that a row does not name are null."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=PART_SCHEMA)


def split_part(part: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The images (IMAGES_SCHEMA) and the segments (SEGMENTS_SCHEMA) of a table of PART_SCHEMA, in its order."""
    chunks = [pc.list_flatten(chunk) for chunk in part["segments"].chunks]
    segments = [pa.Table.from_arrays(chunk.flatten(), schema=SEGMENTS_SCHEMA) for chunk in chunks]
    return part.select(IMAGES_SCHEMA.names), pa.concat_tables([SEGMENTS_SCHEMA.empty_table(), *segments])


def _image_scalars(counts: Histograms, labeled: Labeled) -> dict[str, Any]:
    pixels = labeled.labels.size
    area = dict(zip(counts.labels.tolist(), counts.confidence.sum(axis=1).tolist(), strict=True))
    background = area.get(BACKGROUND, 0)
    ignored = area.get(ignore_value(labeled.labels.dtype), 0)
    return {
        "coverage": (pixels - background - ignored) / pixels,
        "background_fraction": background / pixels,
        "ignored_fraction": ignored / pixels,
        "mean_confidence": float(mean(counts.confidence.sum(axis=0))),
        "entropy": float(labeled.entropy),
        "anomaly_tokens": int(labeled.anomaly_tokens),
        "windows": int(labeled.windows),
    }


def _segment_rows(image_id: int, labels: Labels, counts: Histograms) -> list[dict[str, Any]]:
    segments = rle.encode_label_map(labels)
    columns = (mean(counts.confidence), tenth_percentile(counts.confidence), mean(counts.margin))
    scores = dict(zip(counts.labels.tolist(), np.stack(columns, axis=1).tolist(), strict=True))
    rivals = dict(zip(counts.labels.tolist(), _main_rivals(counts, ignore_value(labels.dtype)), strict=True))
    return [
        {
            "image_id": image_id,
            "category_id": category,
            "area": segment.area,
            "area_fraction": segment.area / labels.size,
            "bbox": [float(side) for side in segment.bbox],
            **dict(zip(("mean_confidence", "p10_confidence", "margin"), scores[category], strict=True)),
            "runner_up": rivals[category],
            "components": segment.components,
            "rle": segment.rle,
        }
        for category, segment in segments.items()
    ]


def _main_rivals(counts: Histograms, ignore: int) -> list[int | None]:
    """The most frequent runner-up of each label, the lowest of equals; None where no pixel has one."""
    known = np.where(counts.rivals == ignore, 0, counts.runner_up)
    best = np.argmax(known, axis=1)
    return [int(counts.rivals[column]) if known[row, column] else None for row, column in enumerate(best.tolist())]

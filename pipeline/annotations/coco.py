"""Label map ↔ COCO: run-length encoding, boxes, components, ids, categories and documents.

Every category of a label map is encoded in one pass over its column-major runs; the strings are byte-equal to
`pycocotools.mask.encode` of each category's mask. Background (0) and ignored pixels are no COCO segments: they are
fractions in `images/`, and together with the segments they cover the image.

Use: `segments = encode_label_map(labels); decode(segments[3].rle)`
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as pycocotools_mask
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

BACKGROUND = 0
UNIT_BITS, INDEX_BITS, CATEGORY_BITS = 21, 20, 12
IMAGE_ID_LIMIT = 1 << (UNIT_BITS + INDEX_BITS)  # 2^41, so that every annotation id stays below 2^53, exact in JSON
TRANSPOSE_ROWS = 128  # measured: 2 × (640 × 480) and 7 × (12 MP) faster than one transposed copy

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """All pixels of one category in one image."""

    area: int
    """Pixels."""
    bbox: tuple[int, int, int, int]
    """Tight box [x, y, width, height] in pixels, as `pycocotools.mask.toBbox`."""
    components: int
    """4-connected components, as `scipy.ndimage.label` counts them by default."""
    size: tuple[int, int]
    """Height, width of the image."""
    counts: str
    """COCO's compressed run lengths of the column-major mask."""

    @property
    def rle(self) -> dict[str, Any]:
        """The COCO segmentation, `{"size": [height, width], "counts": str}`."""
        return {"size": list(self.size), "counts": self.counts}


@dataclass(frozen=True)
class Runs:
    """Maximal runs of equal category within the columns of an (H, W) label map, in column-major order; R runs."""

    height: int
    width: int
    start: IntArray  # (R,) flat column-major position of each run's first pixel, ascending from 0
    category: npt.NDArray[Any]  # (R,) dtype of the label map


@dataclass(frozen=True)
class _Groups:
    """Runs that go on over the columns' ends, sorted by category, then position, without the skipped categories."""

    categories: list[int]
    first: IntArray  # (C,) index of each category's first run
    start: IntArray  # (R,)
    stop: IntArray  # (R,)


def ignore_value(dtype: npt.DTypeLike) -> int:
    """The label of ignored pixels: 255 in uint8 maps, 65535 in uint16 maps."""
    return int(np.iinfo(dtype).max)


def find_runs(labels: npt.NDArray[Any]) -> Runs:
    """Runs of labels, (H, W) uint8 or uint16, H and W at least 1. Raises ValueError for another shape or dtype."""
    if labels.ndim != 2 or labels.size == 0 or labels.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"a label map must be (H, W) of uint8 or uint16 with at least one pixel, not {labels.dtype} {labels.shape}"
        )
    height, width = labels.shape
    columns = np.empty((width, height), labels.dtype)
    for row in range(0, height, TRANSPOSE_ROWS):
        columns[:, row : row + TRANSPOSE_ROWS] = labels[row : row + TRANSPOSE_ROWS].T
    begins = np.ones((width, height), bool)
    np.not_equal(columns[:, 1:], columns[:, :-1], out=begins[:, 1:])
    start = np.flatnonzero(begins)
    return Runs(height, width, start, columns.ravel()[start])


def encode_label_map(labels: npt.NDArray[Any], *, skip: Collection[int] | None = None) -> dict[int, Segment]:
    """Segments of labels, (H, W) uint8 or uint16, by ascending category.

    `skip` names the labels that get no segment: background and the dtype's ignore value unless told.
    Raises ValueError for another shape or dtype.
    """
    runs = find_runs(labels)
    groups = _group(runs, (BACKGROUND, ignore_value(labels.dtype)) if skip is None else skip)
    components = count_components(runs)
    counts, size = _compressed_counts(groups, labels.size), (runs.height, runs.width)
    return {
        category: Segment(area=area, bbox=bbox, components=components[category], size=size, counts=text)
        for category, area, bbox, text in zip(
            groups.categories, _areas(groups), _boxes(groups, runs.height), counts, strict=True
        )
    }


def encode_counts(labels: npt.NDArray[Any], *, skip: Collection[int] = ()) -> dict[int, str]:
    """COCO's compressed run lengths of every label of labels, (H, W) uint8 or uint16, but those in `skip`."""
    groups = _group(find_runs(labels), skip)
    return dict(zip(groups.categories, _compressed_counts(groups, labels.size), strict=True))


def decode(rle: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Mask (H, W) of a COCO segmentation with compressed counts (str or bytes)."""
    return pycocotools_mask.decode({"size": list(rle["size"]), "counts": rle["counts"]}).astype(bool)


def count_components(runs: Runs) -> dict[int, int]:
    """Number of 4-connected components of every label, background and ignored pixels included."""
    left, right = _neighbours(runs)
    same = runs.category[left] == runs.category[right]
    edges = coo_matrix((np.ones(same.sum()), (left[same], right[same])), shape=(runs.start.size, runs.start.size))
    count, component = connected_components(edges, directed=False)
    owner = np.empty(count, runs.category.dtype)
    owner[component] = runs.category
    return {int(label): int(n) for label, n in zip(*np.unique(owner, return_counts=True), strict=True)}


def _neighbours(runs: Runs) -> tuple[IntArray, IntArray]:
    """Indices (E,) of the runs on the left and on the right of each pair that touches along a column's side."""
    one_right = int(np.searchsorted(runs.start, runs.height))  # the first run of the second column
    one_left = int(np.searchsorted(runs.start, runs.height * (runs.width - 1)))
    # Along two columns side by side the pair changes only where one of its runs begins.
    at = np.append(runs.start[:one_left], runs.start[one_right:] - runs.height)
    order = np.argsort(at, kind="stable")  # two sorted halves: one merge
    from_left = order < one_left
    left, right = np.cumsum(from_left) - 1, np.cumsum(~from_left) - 1 + one_right
    last = np.diff(at[order], append=-1) != 0  # where both begin, the pair after both
    return left[last], right[last]


def _group(runs: Runs, skip: Collection[int]) -> _Groups:
    whole = np.flatnonzero(np.diff(runs.category, prepend=~runs.category[:1]))
    start, category = runs.start[whole], runs.category[whole]
    stop = np.append(start[1:], runs.height * runs.width)
    kept = np.ones(ignore_value(category.dtype) + 1, bool)
    kept[[label for label in skip if label < kept.size]] = False
    order = np.flatnonzero(kept[category])
    order = order[np.argsort(category[order], kind="stable")]
    first = np.flatnonzero(np.diff(category[order], prepend=~category[order[:1]]))
    return _Groups(category[order[first]].tolist(), first, start[order], stop[order])


def _areas(groups: _Groups) -> list[int]:
    return np.add.reduceat(groups.stop - groups.start, groups.first).tolist() if groups.categories else []


def _boxes(groups: _Groups, height: int) -> list[tuple[int, int, int, int]]:
    if not groups.categories:
        return []
    left, top = np.divmod(groups.start, height)
    right, bottom = np.divmod(groups.stop - 1, height)
    wraps = left < right  # a run over a column's end holds its bottom and the next one's top
    x, y = np.minimum.reduceat(left, groups.first), np.minimum.reduceat(np.where(wraps, 0, top), groups.first)
    x_last = np.maximum.reduceat(right, groups.first)
    y_last = np.maximum.reduceat(np.where(wraps, height - 1, bottom), groups.first)
    boxes = np.stack([x, y, x_last - x + 1, y_last - y + 1], axis=1).tolist()
    return [(box[0], box[1], box[2], box[3]) for box in boxes]


def _compressed_counts(groups: _Groups, pixels: int) -> list[str]:
    """COCO's counts strings, one per category: each count minus the count two before (from the fourth on), packed."""
    if not groups.categories:
        return []
    first, ends = groups.first, np.append(groups.first[1:], groups.start.size)
    zeros = groups.start.copy()  # before each run
    zeros[1:] -= groups.stop[:-1]
    zeros[first] = groups.start[first]
    second = (first + 1)[first + 1 < ends]
    counts = np.stack([zeros, groups.stop - groups.start], axis=1).astype(np.int32)  # (R, 2): zeros, ones
    values = np.diff(counts, axis=0, prepend=0)
    values[first], values[second, 0] = counts[first], counts[second, 0]
    tail = (pixels - groups.stop[ends - 1]).astype(np.int32)  # zeros after the last run, not written if there are none
    tails = _pack(np.where(ends - first > 1, tail - counts[ends - 1, 0], tail)) * (tail > 0)[:, None]
    packed = _pack(values.ravel())
    return [
        (packed[2 * begin : 2 * end].tobytes() + last.tobytes()).translate(None, b"\0").decode("ascii")
        for begin, end, last in zip(first.tolist(), ends.tolist(), tails, strict=True)
    ]


def _pack(values: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """Characters of (M,) values, (M, 1..7), unused ones 0: 5-bit digits of two's complement, lowest first, plus 48,
    plus 32 on all but the last."""
    magnitude = values ^ (values >> 31)
    limits = 1 << np.arange(4, 31, 5)
    more = np.stack(
        [magnitude >= limit for limit in limits[limits <= magnitude.max()]] + [np.zeros(values.shape, bool)]
    )
    characters = np.empty((values.size, len(more)), np.uint8)
    for place, continued in enumerate(more.view(np.uint8)):
        digit = (values >> 5 * place).astype(np.uint8) & 31
        written = more[place - 1] if place else 1
        characters[:, place] = (digit + (continued << 5) + 48) * written
    return characters


def image_id(unit: int, index: int) -> int:
    """unit·2^20 + index, for units from 1 and indices from 0. Raises ValueError outside 2^21 units of 2^20 images."""
    if not 1 <= unit < 1 << UNIT_BITS:
        raise ValueError(f"unit {unit} is not in 1..{(1 << UNIT_BITS) - 1}: split the input over several runs")
    if not 0 <= index < 1 << INDEX_BITS:
        raise ValueError(f"index {index} in unit {unit} is not in 0..{(1 << INDEX_BITS) - 1}: split the shard")
    return (unit << INDEX_BITS) + index


def key_image_id(key: str) -> int | None:
    """The image id that a key of decimal digits stands for (000000142238 → 142238); None for any other key."""
    digits = key.lstrip("0") or key[-1:]
    if not (key.isascii() and key.isdecimal()) or len(digits) > len(str(IMAGE_ID_LIMIT)):
        return None
    return int(digits) if int(digits) < IMAGE_ID_LIMIT else None


def annotation_id(image_id: int, category_id: int) -> int:
    """image_id·2^12 + category_id. Raises ValueError outside 2^41 image ids from 0 and 4095 categories from 1."""
    if not 0 <= image_id < IMAGE_ID_LIMIT:
        raise ValueError(f"image id {image_id} is not in 0..{IMAGE_ID_LIMIT - 1}: use --image-ids plan")
    if not 1 <= category_id < 1 << CATEGORY_BITS:
        raise ValueError(f"category id {category_id} is not in 1..{(1 << CATEGORY_BITS) - 1}: shorten the vocabulary")
    return (image_id << CATEGORY_BITS) + category_id


def categories(names: Mapping[int, str], things: Mapping[int, bool | None] | None = None) -> list[dict[str, Any]]:
    """COCO's categories, ids 1..N, from the vocabulary's names by category index (a background, 0, is left out).

    `supercategory` is "thing", "stuff" or, where `things` does not say, "unknown"; `isthing` is there where known.
    Raises ValueError where the ids have a gap.
    """
    ids = sorted(category for category in names if category != BACKGROUND)
    if ids != list(range(1, len(ids) + 1)):
        raise ValueError(f"category ids {ids} are not 1..{len(ids)}: number the classes in vocabulary order")
    return [_category(category, names[category], (things or {}).get(category)) for category in ids]


def _category(category: int, name: str, thing: bool | None) -> dict[str, Any]:
    entry = {"id": category, "name": name}
    if thing is None:
        return {**entry, "supercategory": "unknown"}
    return {**entry, "supercategory": "thing" if thing else "stuff", "isthing": int(thing)}


def image_entry(row: Mapping[str, Any]) -> dict[str, Any]:
    """COCO's image of one row of `images/` (statistics.IMAGES_SCHEMA)."""
    return {"id": row["image_id"], "file_name": row["file_name"], "height": row["height"], "width": row["width"]}


def annotation_entry(row: Mapping[str, Any]) -> dict[str, Any]:
    """COCO's annotation of one row of `segments/` (statistics.SEGMENTS_SCHEMA); `score` is the mean confidence."""
    return {
        "id": annotation_id(row["image_id"], row["category_id"]),
        "image_id": row["image_id"],
        "category_id": row["category_id"],
        "segmentation": {"size": list(row["rle"]["size"]), "counts": row["rle"]["counts"]},
        "area": float(row["area"]),
        "bbox": [float(side) for side in row["bbox"]],
        "iscrowd": 0,
        "score": row["mean_confidence"],
    }


def document(
    images: Iterable[Mapping[str, Any]],
    segments: Iterable[Mapping[str, Any]],
    *,
    categories: list[dict[str, Any]],
    info: Mapping[str, Any],
) -> dict[str, Any]:
    """COCO document of a unit's rows of `images/` (those with status "ok") and of `segments/`, in their order.

    `info` is taken as it is: vocabulary and model of the run, no dates, so that equal runs give equal bytes.
    """
    return {
        "info": dict(info),
        "licenses": [],
        "categories": categories,
        "images": [image_entry(row) for row in images if row["status"] == "ok"],
        "annotations": [annotation_entry(row) for row in segments],
    }


def dump(document: Mapping[str, Any]) -> bytes:
    """Compact JSON. ASCII only, because pycocotools opens documents in the locale's encoding."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")

"""Two runs over the same images: what moved.

    drift = compare_units(a, b, pairs, classes)        # summed over units; pairs by image key
    drift.iou, drift.moved, drift.images

Classes are matched by name, images by key within units of the same input. IoU is that of the two label maps over all
common images: 1 where a class covers the same pixels in both runs.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from scclip.categories import BACKGROUND, Categories, Labels, ignore_value
from scclip.pipeline.annotations.label_map import label_map
from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.export.source import segments_by_image
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.run.files import RunFiles, read_images

AT_ONCE = 4  # units in memory
KEPT = 24  # images that changed most

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The union of two vocabularies; places 0..C-1, the last one is "ignored"."""

    names: tuple[str, ...]
    """Background first where either has one, then A's classes, then those that only B has, then ignored."""
    places: tuple[Mapping[int, int], Mapping[int, int]]
    """Category index → place, in A and in B."""

    @property
    def only(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names that only A, only B has."""
        held = [{self.names[place] for place in places.values()} for places in self.places]
        known = self.names[:-1]
        return (
            tuple(name for name in known if name not in held[1]),
            tuple(name for name in known if name not in held[0]),
        )

    @staticmethod
    def of(names_a: Mapping[int, str], names_b: Mapping[int, str]) -> "Classes":
        """Matched by name, white space at the ends and case aside."""
        union: dict[str, str] = {}
        both = [*sorted(names_a.items()), *sorted(names_b.items())]
        for _, name in sorted(both, key=lambda item: item[0] != BACKGROUND):  # stable: background first
            union.setdefault(_key(name), name)
        place = {key: number for number, key in enumerate(union)}
        maps = [{category: place[_key(name)] for category, name in names.items()} for names in (names_a, names_b)]
        return Classes(names=(*union.values(), "ignored"), places=(maps[0], maps[1]))


def _key(name: str) -> str:
    return " ".join(name.lower().split())


@dataclass(frozen=True, order=True)
class Changed:
    """An image and how much of it changed."""

    share: float
    """Of its pixels, 0..1."""
    unit: int
    """In A."""
    index: int
    other_unit: int
    """In B."""
    other_index: int
    key: str
    image_id: int
    other_image_id: int


@dataclass
class Drift:
    """Sums over units, additive with `+`."""

    matrix: Counts
    """(C, C) pixels by place in A (row) and in B (column)."""
    compared: int = 0
    """Images that both runs have labeled, of the same size."""
    equal: int = 0
    """Of these, images without a changed pixel."""
    missing: int = 0
    """Images that only one run has labeled, or that have another size in the other."""
    images: list[Changed] = field(default_factory=list)
    """Those that changed most, the most first."""

    def __add__(self, other: "Drift") -> "Drift":
        return Drift(
            self.matrix + other.matrix,
            self.compared + other.compared,
            self.equal + other.equal,
            self.missing + other.missing,
            heapq.nlargest(KEPT, [*self.images, *other.images]),
        )

    @property
    def iou(self) -> npt.NDArray[np.float64]:
        """(C,) intersection over union of every class between the runs; NaN where neither has a pixel."""
        hits = np.diagonal(self.matrix)
        union = self.matrix.sum(0) + self.matrix.sum(1) - hits
        return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)

    @property
    def area(self) -> npt.NDArray[np.float64]:
        """(2, C) share of all compared pixels, in A and in B."""
        total = max(1, int(self.matrix.sum()))
        return np.stack([self.matrix.sum(1), self.matrix.sum(0)]) / total

    @property
    def changed(self) -> float:
        """Share of pixels with another class."""
        total = int(self.matrix.sum())
        return (total - int(np.diagonal(self.matrix).sum())) / total if total else 0.0

    def flows(self) -> list[tuple[int, int, int]]:
        """(place in A, place in B, pixels) of what moved, the largest first."""
        moved = self.matrix.copy()
        np.fill_diagonal(moved, 0)
        order = np.argsort(-moved, axis=None, kind="stable")[: np.count_nonzero(moved)]
        return [(int(a), int(b), int(moved[a, b])) for a, b in zip(*np.unravel_index(order, moved.shape), strict=True)]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One run of a comparison."""

    files: RunFiles
    names: Categories
    """Category index → name."""


def pair_units(a: Sequence[Unit], b: Sequence[Unit]) -> list[tuple[int, int]]:
    """Numbers of the units of A and B that read the same input: the same shard and rows, or the same first file."""

    def identity(unit: Unit) -> tuple[Any, ...]:
        return unit.kind, unit.files[0].url if unit.files else unit.url, unit.row_start

    there = {identity(unit): unit.number for unit in b}
    return [(unit.number, there[identity(unit)]) for unit in a if identity(unit) in there]


def compare_runs(a: Side, b: Side, pairs: Sequence[tuple[int, int]], classes: Classes) -> Iterator[Drift]:
    """The drift of each pair of finished units, several at a time."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for first in range(0, len(pairs), 8 * AT_ONCE):  # results wait in memory only within such a group
            group = pairs[first : first + 8 * AT_ONCE]
            yield from threads.map(compare_unit, repeat(a), repeat(b), group, repeat(classes))


def compare_unit(a: Side, b: Side, pair: tuple[int, int], classes: Classes) -> Drift:
    """The images of one unit in both runs, matched by key and, where a key repeats, by its place."""
    sides = (a, b)
    rows = [labeled_rows(side.files, unit) for side, unit in zip(sides, pair, strict=True)]
    segments = [segments_by_image(side.files, unit) for side, unit in zip(sides, pair, strict=True)]
    size = len(classes.names)
    drift = Drift(np.zeros((size, size), np.int64), missing=len(rows[0].keys() ^ rows[1].keys()))
    for key in (key for key in rows[0] if key in rows[1]):
        ours = [side[key] for side in rows]
        if len({(row["height"], row["width"]) for row in ours}) > 1:
            drift.missing += 1
            continue
        maps = [
            placed_map(held.get(row["image_id"], []), row, side.names, places, size - 1)
            for held, row, side, places in zip(segments, ours, sides, classes.places, strict=True)
        ]
        add_image(drift, maps, ours, pair)
    return drift


def labeled_rows(files: RunFiles, unit: int) -> dict[tuple[str, int], dict[str, Any]]:
    """Rows of images/ with status ok, by key and by how often the key came before."""
    images = read_images(files, unit)
    seen: dict[str, int] = {}
    rows = {}
    for row in images.filter(pc.equal(images["status"], Status.OK)).to_pylist():
        seen[row["key"]] = seen.get(row["key"], -1) + 1
        rows[row["key"], seen[row["key"]]] = row
    return rows


def placed_map(
    segments: Sequence[Mapping[str, Any]],
    row: Mapping[str, Any],
    names: Categories,
    places: Mapping[int, int],
    ignored: int,
) -> npt.NDArray[np.int64]:
    """An image's label map (H, W) in places of `Classes`."""
    labels: Labels = label_map(segments, row["height"], row["width"], names)
    table = np.full(ignore_value(labels.dtype) + 1, ignored, np.int64)
    for category, place in places.items():
        table[category] = place
    return table[labels]


def add_image(
    drift: Drift, maps: Sequence[npt.NDArray[np.int64]], rows: Sequence[Mapping[str, Any]], pair: tuple[int, int]
) -> None:
    """Adds one image, its two maps in places, to a unit's drift."""
    values, counts = np.unique(maps[0] * len(drift.matrix) + maps[1], return_counts=True)
    drift.matrix.ravel()[values] += counts  # a view: the matrix of 4,095 classes is not copied for every image
    share = float(np.mean(maps[0] != maps[1]))
    drift.compared, drift.equal = drift.compared + 1, drift.equal + (share == 0)
    if share:
        place = (pair[0], rows[0]["index"], pair[1], rows[1]["index"])
        entry = Changed(share, *place, rows[0]["key"], rows[0]["image_id"], rows[1]["image_id"])
        drift.images = heapq.nlargest(KEPT, [*drift.images, entry])

"""Compares two runs over the same images: which classes agree, and what moved.

    pairs = pair_units(a.units, b.units)
    drift = sum(compare_units((a, b), pairs, classes), Drift(np.zeros((size, size), np.int64)))

Classes are matched by name, images by key within units of the same input. The IoU of a class is that of the two label
maps over all common images: 1 where the class covers the same pixels in both runs.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scclip.categories import BACKGROUND
from scclip.pipeline.annotations.label_map import label_map
from scclip.pipeline.annotations.schemas import SegmentRecord
from scclip.pipeline.export.source import LABELED
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.review.images import ImageRef, ReviewedRun, columns_of, image_refs
from scclip.pipeline.run.files import RunFiles, segments_by_image
from scclip.pipeline.storage.threads import map_threads

AT_ONCE = 4  # units in memory
KEPT = 24  # images that changed most

Counts = npt.NDArray[np.int64]
ClassMap = npt.NDArray[np.int64]  # (H, W), indices of Classes.names
TwoRuns = tuple[ReviewedRun, ReviewedRun]  # A and B with their finished units
TwoImages = tuple[ImageRef, ImageRef]  # the same image in A and in B
UnitSegments = Mapping[int | None, Sequence[SegmentRecord]]  # by image id


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The union of two vocabularies, C classes; the last one is "ignored"."""

    names: tuple[str, ...]
    """Background first where either has one, then A's classes, then those that only B has, then ignored."""
    indices: tuple[Mapping[int, int], Mapping[int, int]]
    """Category index → index in `names`, in A and in B."""

    @property
    def ignored(self) -> int:
        """Index of the ignored pixels."""
        return len(self.names) - 1

    @property
    def only(self) -> tuple[tuple[str, ...], ...]:
        """Names that only A, only B has."""
        shared = set.intersection(*(set(indices.values()) for indices in self.indices))
        return tuple(tuple(self.names[i] for i in sorted({*own.values()} - shared)) for own in self.indices)

    @property
    def colours(self) -> Mapping[int, int]:
        """Index → category whose colour it has in the pictures of both runs; ignored pixels have none."""
        first = 0 if self.names[0] == "background" else 1
        return {index: index + first for index in range(self.ignored)}

    @staticmethod
    def of(names_a: Mapping[int, str], names_b: Mapping[int, str]) -> "Classes":
        """Matches the classes of two vocabularies by name, regardless of case and of white space at the ends."""
        union: dict[str, str] = {}
        both = [*sorted(names_a.items()), *sorted(names_b.items())]
        for _, name in sorted(both, key=lambda item: item[0] != BACKGROUND):  # stable: background first
            union.setdefault(_key(name), name)
        index = {key: number for number, key in enumerate(union)}
        a, b = ({category: index[_key(name)] for category, name in names.items()} for names in (names_a, names_b))
        return Classes(names=(*union.values(), "ignored"), indices=(a, b))


def _key(name: str) -> str:
    return " ".join(name.lower().split())


@dataclass(frozen=True, order=True)
class ChangedImage:
    """An image whose labels differ between the runs."""

    share: float
    """Of its pixels, 0..1."""
    image: ImageRef
    """In A."""
    other: ImageRef
    """In B."""


@dataclass(frozen=True)
class ClassDrift:
    """How one class differs between the runs."""

    index: int
    """In `Classes.names`."""
    iou: float
    """Intersection over union of its pixels in A and in B."""
    area_a: float
    """Share of all compared pixels, as `area_b`."""
    area_b: float


class Flow(NamedTuple):
    """Pixels that have one class in A and another one in B."""

    before: int
    after: int
    pixels: int


@dataclass
class Drift:
    """Sums over units, additive with `+`."""

    matrix: Counts
    """(C, C) pixels by class in A (row) and in B (column); the last one is "ignored"."""
    compared: int = 0
    """Images that both runs have labeled, of the same size."""
    equal: int = 0
    """Of these, images without a changed pixel."""
    missing: int = 0
    """Images that only one run has labeled, or that have another size in the other."""
    images: list[ChangedImage] = field(default_factory=list)
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

    @property
    def ignored(self) -> tuple[float, float]:
        """Share of all compared pixels that A, that B ignores."""
        a, b = self.area[:, -1].tolist()
        return a, b

    def classes(self) -> list[ClassDrift]:
        """The classes that have pixels, the lowest IoU first; ignored pixels are no class."""
        rows = map(ClassDrift, range(len(self.matrix) - 1), self.iou.tolist(), *self.area.tolist())
        return sorted((row for row in rows if not np.isnan(row.iou)), key=lambda row: (row.iou, row.index))

    def flows(self) -> list[Flow]:
        """What moved between two classes, the largest first."""
        moved = self.matrix.copy()
        np.fill_diagonal(moved, 0)
        order = np.argsort(-moved, axis=None, kind="stable")[: np.count_nonzero(moved)]
        before, after = np.unravel_index(order, moved.shape)
        return list(map(Flow, before.tolist(), after.tolist(), moved[before, after].tolist()))


def pair_units(a: Sequence[Unit], b: Sequence[Unit]) -> list[tuple[int, int]]:
    """Numbers of the units of A and B that read the same input: the same shard and rows, or the same first file."""

    def identity(unit: Unit) -> tuple[str, str, int]:
        return unit.kind, unit.sources[0].url, unit.row_start

    numbers = {identity(unit): unit.number for unit in b}
    return [(unit.number, numbers[identity(unit)]) for unit in a if identity(unit) in numbers]


def compare_units(runs: TwoRuns, pairs: Sequence[tuple[int, int]], classes: Classes) -> Iterator[Drift]:
    """Yields the drift of each pair of finished units, several at a time."""
    for first in range(0, len(pairs), 8 * AT_ONCE):  # results wait in memory only within such a group
        group = pairs[first : first + 8 * AT_ONCE]
        yield from map_threads(lambda pair: compare_unit(runs, pair, classes), group, AT_ONCE)


def compare_unit(runs: TwoRuns, pair: tuple[int, int], classes: Classes) -> Drift:
    """Compares the images of one unit in both runs; images are matched by key and, where a key repeats, by order."""
    images_a, images_b = (labeled_images(run.files, unit) for run, unit in zip(runs, pair, strict=True))
    segments = [segments_by_image(run.files, unit) for run, unit in zip(runs, pair, strict=True)]
    drift = Drift(np.zeros([len(classes.names)] * 2, np.int64), missing=len(images_a.keys() ^ images_b.keys()))
    for key, image in images_a.items():
        other = images_b.get(key)
        if other and (image.height, image.width) == (other.height, other.width):
            add_image(drift, image, other, class_maps(runs, classes, segments, (image, other)))
        elif other:
            drift.missing += 1
    return drift


def labeled_images(files: RunFiles, unit: int) -> dict[tuple[str, int], ImageRef]:
    """The labeled images of a unit, by key and by how often the key came before."""
    labeled, seen = {}, Counter[str]()
    for image in image_refs(files.table("images", unit, columns_of(ImageRef), LABELED)):
        labeled[image.key, seen[image.key]] = image
        seen[image.key] += 1
    return labeled


def class_maps(runs: TwoRuns, classes: Classes, segments: Sequence[UnitSegments], images: TwoImages) -> list[ClassMap]:
    """The label maps of an image in A and in B, from the segments of its unit in A and in B."""
    maps = []
    for run, indices, own, image in zip(runs, classes.indices, segments, images, strict=True):
        table = np.full(run.names.ignore + 1, classes.ignored, np.int64)
        table[list(indices)] = list(indices.values())
        maps.append(table[label_map(own[image.image_id], image.height, image.width, run.names)])
    return maps


def add_image(drift: Drift, image: ImageRef, other: ImageRef, maps: Sequence[ClassMap]) -> None:
    """Adds one image, with its maps of class indices in A and in B, to a unit's drift."""
    values, counts = np.unique(maps[0] * len(drift.matrix) + maps[1], return_counts=True)
    drift.matrix.ravel()[values] += counts  # a view: the matrix of 4,095 classes is not copied for every image
    share = float(np.mean(maps[0] != maps[1]))
    drift.compared, drift.equal = drift.compared + 1, drift.equal + (share == 0)
    if share:
        drift.images = heapq.nlargest(KEPT, [*drift.images, ChangedImage(share, image, other)])

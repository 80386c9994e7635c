"""Pictures of chosen images: photos from the run's input, drawn with the label maps of the run.

    painter = RunPainter(files=files, names=names)
    pictures, notes = draw_pictures(choices, units, painter.open_unit, DecodeConfig(exif="apply"), truth="seg.png")

A painter makes the pictures of one kind of page: of a run, of an evaluation, or of two runs compared. A shard is read
from its first chosen image to its last one. An image that cannot be shown leaves a note instead of a picture.
"""

import functools
import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scclip.categories import Categories, Labels, ignore_value
from scclip.pipeline.annotations.label_map import label_map
from scclip.pipeline.annotations.png import read_plane
from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.evaluation.scoring import Scoring
from scclip.pipeline.evaluation.truth import read_truth
from scclip.pipeline.inputs.decoding import DecodeConfig, DecodeError, decode_image
from scclip.pipeline.inputs.readers.unit import read_rows
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.review.drawing import mask_png, photo_jpeg, shrink, thumbnail_size, truth_map
from scclip.pipeline.review.drift import ChangedImage, Classes, ComparedRun, class_map
from scclip.pipeline.review.images import IMAGE_REF_COLUMNS, ImageRef, image_refs
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.storage.retries import redact
from scclip.pipeline.storage.threads import map_threads

CHANGED_COLOUR = 1  # category whose colour marks changed pixels

RGB = npt.NDArray[np.uint8]  # (H, W, 3)


class Chosen(Protocol):
    """An image that is chosen to be shown, for a reason that its type tells."""

    @property
    def image(self) -> ImageRef: ...


ChosenT = TypeVar("ChosenT", bound=Chosen)
PictureT = TypeVar("PictureT")
Draw = Callable[[ChosenT, RGB, bytes | None], PictureT]  # a picture from photo and truth file (None: there is none)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An image chosen for one of its segments."""

    image: ImageRef
    category: int
    confidence: float
    """Mean confidence of that segment, 0..1."""
    area: float
    """Share of the image's pixels."""


@dataclass(frozen=True, order=True)
class WorstImage:
    """An image chosen because its labels are far from the truth."""

    mean_iou: float
    """Over the classes of its truth and its labels, 0..1."""
    image: ImageRef


@dataclass(frozen=True, kw_only=True)
class Share:
    """A category's part of one picture."""

    category: int
    area: float
    """Share of the image's pixels; 0 where only the truth has the category."""
    confidence: float | None = None
    """Mean confidence, 0..1; None for background, for what only the truth has, and where none is known."""


@dataclass(frozen=True, kw_only=True)
class Picture(Generic[ChosenT]):
    """An image with its labels and, where there is one, its truth."""

    choice: ChosenT
    size: tuple[int, int]
    """Width and height of the thumbnails in pixels."""
    photo: bytes
    """JPEG."""
    labels: bytes
    """PNG with transparent ignored pixels, as `truth`."""
    truth: bytes | None
    shares: tuple[Share, ...]
    """Categories of the labels, largest first, then those that only the truth has."""
    ignored: float
    """Share of pixels without a class."""
    agreement: float | None
    """Share of the truth's pixels that have the same label; None without truth."""


@dataclass(frozen=True, kw_only=True)
class ChangedPicture:
    """An image with the labels of two runs."""

    choice: ChangedImage
    size: tuple[int, int]
    """Width and height of the thumbnails in pixels."""
    photo: bytes
    """JPEG."""
    masks: tuple[bytes, ...]
    """PNGs: labels of A, labels of B, and the pixels that changed."""
    areas: tuple[tuple[int, float, float], ...]
    """Class, its share of the image in A and in B, for classes whose share changed: the largest change first."""


def draw_pictures(
    chosen: Sequence[ChosenT],
    units: Sequence[Unit],
    open_unit: Callable[[int, Sequence[ChosenT]], Draw[ChosenT, PictureT]],
    decode: DecodeConfig,
    truth: str | None = None,
) -> tuple[list[PictureT], list[str]]:
    """Draws chosen images of a run.

    Args:
        units: the run's units, in any order.
        open_unit: reads what a unit keeps of these images, and returns what draws one of them: a painter's method.
        decode: how the run decoded its images.
        truth: extension (tar, files) or column (Parquet) of the ground truth in the input; None: there is none.

    Returns:
        The pictures in the order of `chosen`, and one note for every reason why some are missing.
    """
    by_number, by_unit = {unit.number: unit for unit in units}, defaultdict(list)
    for choice in chosen:
        by_unit[choice.image.unit].append(choice)
    drawn, missing = dict[ImageRef, PictureT](), Counter[str]()
    for number, choices in by_unit.items():
        pictures, reason = draw_unit(by_number[number], choices, open_unit, decode, truth)
        drawn |= pictures
        missing[reason] += len(choices) - len(pictures)
    notes = [f"{n} of {len(chosen)} chosen pictures cannot be shown: {reason}" for reason, n in missing.items() if n]
    return [drawn[choice.image] for choice in chosen if choice.image in drawn], notes


def draw_unit(
    unit: Unit,
    chosen: Sequence[ChosenT],
    open_unit: Callable[[int, Sequence[ChosenT]], Draw[ChosenT, PictureT]],
    decode: DecodeConfig,
    truth: str | None,
) -> tuple[dict[ImageRef, PictureT], str]:
    """The pictures of a unit's chosen images, and the reason why some are missing."""
    by_index, pictures = {choice.image.index: choice for choice in chosen}, dict[ImageRef, PictureT]()
    reason = f"the images are no longer those that were labeled in {redact(unit.url)}"
    try:
        draw = open_unit(unit.number, chosen)
        for row in read_rows(unit, sorted(by_index), truth):
            if row["status"] in (Status.MISSING, Status.CHANGED):
                reason = str(row["error"])
            choice = by_index.get(row["index"])
            if choice and choice.image.key == row["key"]:
                rgb = decode_labeled(row["data"], choice.image, decode)
                pictures |= {} if rgb is None else {choice.image: draw(choice, rgb, row["truth"])}
    except Exception as error:  # of any storage library: a page without pictures is better than none
        reason = f"{redact(unit.url)} cannot be read ({type(error).__name__}: {' '.join(redact(str(error)).split())})"
    return pictures, reason


def decode_labeled(data: bytes | None, image: ImageRef, decode: DecodeConfig) -> RGB | None:
    """The pixels of an image file; None where it is not the image that was labeled."""
    try:
        rgb = None if data is None else decode_image(data, decode).rgb
    except DecodeError:
        return None
    return rgb if rgb is not None and rgb.shape[:2] == (image.height, image.width) else None


@dataclass(frozen=True, kw_only=True)
class RunPainter:
    """Draws the labels of a run from its segments, and the truth where the input holds one in its categories."""

    files: RunFiles
    names: Categories
    """Category index → name."""
    side: int = 480
    """Pixels of a picture's longer side."""

    def open_unit(self, unit: int, chosen: Sequence[Choice]) -> Draw[Choice, Picture[Choice]]:
        """Reads the segments of the chosen images."""
        return functools.partial(self.draw, read_segments(self.files, unit, [choice.image for choice in chosen]))

    def draw(self, segments: pa.Table, choice: Choice, rgb: RGB, truth: bytes | None) -> Picture[Choice]:
        """One picture."""
        own = segments.filter(pc.equal(segments["image_id"], choice.image.image_id))
        labels = label_map(own.to_pylist(), choice.image.height, choice.image.width, self.names)
        confidence = dict(zip(own["category_id"].to_pylist(), own["mean_confidence"].to_pylist(), strict=True))
        plane = truth_map(truth, labels.shape, self.names) if truth else None
        return labeled_picture(choice, rgb, labels, plane, self.names, self.side, confidence)


@dataclass(frozen=True, kw_only=True)
class EvaluationPainter:
    """Draws the labels that an evaluation keeps of its worst images, and their truth."""

    files: RunFiles
    scoring: Scoring
    side: int = 480
    """Pixels of a picture's longer side."""

    def open_unit(self, unit: int, chosen: Sequence[WorstImage]) -> Draw[WorstImage, Picture[WorstImage]]:
        """Reads the kept labels."""
        ids = [choice.image.image_id for choice in chosen]
        kept = self.files.table("images", unit, ["image_id", "labels_png"], [("image_id", "in", ids)])
        pngs = dict(zip(kept["image_id"].to_pylist(), kept["labels_png"].to_pylist(), strict=True))
        return functools.partial(self.draw, pngs)

    def draw(self, pngs: Mapping[int, bytes], choice: WorstImage, rgb: RGB, truth: bytes | None) -> Picture[WorstImage]:
        """One picture."""
        labels = read_plane(pngs[choice.image.image_id]).astype(self.scoring.categories.dtype)
        plane = read_truth(truth, labels.shape, self.scoring.truth, self.scoring.categories)
        return labeled_picture(choice, rgb, labels, plane, self.scoring.categories, self.side, {})


def worst_images(files: RunFiles, units: Sequence[Unit], scoring: Scoring, count: int) -> list[WorstImage]:
    """The `count` images with the lowest mean IoU of the first variant, the lowest first.

    A unit keeps the labels of its `scoring.worst` worst images only, so that it adds no more than these.
    """

    def worst_of(unit: Unit) -> list[WorstImage]:
        images = files.table("images", unit.number, [*IMAGE_REF_COLUMNS, "mean_iou"])
        images = images.filter(pc.is_valid(pc.list_element(images["mean_iou"], 0)))
        scores = pc.list_element(images["mean_iou"], 0).to_pylist()
        return heapq.nsmallest(min(count, scoring.worst), map(WorstImage, scores, image_refs(images)))

    return heapq.nsmallest(count, itertools.chain.from_iterable(map_threads(worst_of, units)))


@dataclass(frozen=True, kw_only=True)
class ComparisonPainter:
    """Draws the labels of two runs, and where they differ."""

    runs: tuple[ComparedRun, ComparedRun]
    classes: Classes
    side: int = 360
    """Pixels of a picture's longer side."""

    def open_unit(self, unit: int, chosen: Sequence[ChangedImage]) -> Draw[ChangedImage, ChangedPicture]:
        """Reads the segments of the chosen images in both runs."""
        sides = zip(*((choice.image, choice.other) for choice in chosen), strict=True)
        segments = [
            read_segments(run.files, images[0].unit, images) for run, images in zip(self.runs, sides, strict=True)
        ]
        return functools.partial(self.draw, segments)

    def draw(self, segments: Sequence[pa.Table], choice: ChangedImage, rgb: RGB, truth: bytes | None) -> ChangedPicture:
        """One picture; there is no truth."""
        maps = []
        for rows, image, run, indices in zip(
            segments, (choice.image, choice.other), self.runs, self.classes.indices, strict=True
        ):
            own = rows.filter(pc.equal(rows["image_id"], image.image_id)).to_pylist()
            maps.append(class_map(own, image, run.names, indices, self.classes.ignored))
        difference = np.where(maps[0] != maps[1], CHANGED_COLOUR, ignore_value(np.uint16)).astype(np.uint16)
        colours = np.array([*self.classes.colours.values(), ignore_value(np.uint16)], np.uint16)
        masks = (mask_png(shrink(plane, self.side)) for plane in (colours[maps[0]], colours[maps[1]], difference))
        height, width = thumbnail_size(choice.image.height, choice.image.width, self.side)
        return ChangedPicture(
            choice=choice,
            size=(width, height),
            photo=photo_jpeg(rgb, self.side),
            masks=tuple(masks),
            areas=changed_areas(maps, len(self.classes.names)),
        )


def read_segments(files: RunFiles, unit: int, images: Sequence[ImageRef]) -> pa.Table:
    """Rows of segments/ of some images of a unit."""
    return files.table("segments", unit, filters=[("image_id", "in", [image.image_id for image in images])])


def labeled_picture(
    choice: ChosenT,
    rgb: RGB,
    labels: Labels,
    truth: Labels | None,
    names: Mapping[int, str],
    side: int,
    confidence: Mapping[int, float],
) -> Picture[ChosenT]:
    """A picture from planes (H, W); `confidence` is the mean of each category, where it is known."""
    height, width = thumbnail_size(choice.image.height, choice.image.width, side)
    return Picture(
        choice=choice,
        size=(width, height),
        photo=photo_jpeg(rgb, side),
        labels=mask_png(shrink(labels, side)),
        truth=None if truth is None else mask_png(shrink(truth, side)),
        shares=shares(labels, truth, names, confidence),
        ignored=float(np.mean(labels == ignore_value(labels.dtype))),
        agreement=None if truth is None else agreement(labels, truth),
    )


def agreement(labels: Labels, truth: Labels) -> float | None:
    """Share of the truth's pixels with the same label; None where the truth ignores all."""
    counted = truth != ignore_value(truth.dtype)
    return float(np.mean(labels[counted] == truth[counted])) if counted.any() else None


def shares(
    labels: Labels, truth: Labels | None, names: Mapping[int, str], confidence: Mapping[int, float]
) -> tuple[Share, ...]:
    """The legend: categories of the labels, largest first, then those of the truth alone."""
    values, counts = np.unique(labels, return_counts=True)
    areas = {value: count / labels.size for value, count in zip(values.tolist(), counts.tolist(), strict=True)}
    present = sorted((category for category in areas if category in names), key=lambda category: -areas[category])
    missed = [] if truth is None else sorted({*np.unique(truth).tolist()} & {*names} - {*present})
    return (
        *(Share(category=category, area=areas[category], confidence=confidence.get(category)) for category in present),
        *(Share(category=category, area=0.0) for category in missed),
    )


def changed_areas(maps: Sequence[npt.NDArray[np.int64]], classes: int) -> tuple[tuple[int, float, float], ...]:
    """Class, share in A and in B of the classes whose share differs, the largest difference first."""
    a, b = ((np.bincount(plane.ravel(), minlength=classes) / plane.size).tolist() for plane in maps)
    changed = (index for index in range(classes) if a[index] != b[index])
    return tuple((index, a[index], b[index]) for index in sorted(changed, key=lambda index: -abs(a[index] - b[index])))

"""Pictures of chosen images: photos from the run's input, drawn with the label maps of the run.

    pictures, notes = RunPainter(run=run, truth="seg.png").pictures(choices)

A painter makes the pictures of one kind of page: of a run, of an evaluation, or of two runs compared. A shard is read
from its first chosen image to its last one. An image that cannot be shown leaves a note instead of a picture.
"""

import functools
import heapq
import itertools
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from scclip.categories import Labels, ignore_value
from scclip.pipeline.annotations.label_map import label_map
from scclip.pipeline.annotations.png import read_plane
from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.evaluation.scoring import Scoring
from scclip.pipeline.evaluation.truth import read_truth
from scclip.pipeline.inputs.decoding import DecodeConfig, DecodeError, decode_image
from scclip.pipeline.inputs.readers.unit import read_encoded, retimed
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.review.drawing import mask_png, photo_jpeg, shrink, thumbnail_size, truth_map
from scclip.pipeline.review.drift import ChangedImage, Classes, ClassMap, UnitSegments, class_maps
from scclip.pipeline.review.images import ImageRef, ReviewedRun, columns_of, image_refs
from scclip.pipeline.run.files import RunFiles, segments_by_image
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
Draw = Callable[[ChosenT, RGB, bytes | memoryview | None], PictureT]  # a picture from photo and file of the truth


@dataclass(frozen=True)
class Choice:
    """An image chosen for one of its segments."""

    image: ImageRef
    category: int
    confidence: float
    """Mean confidence of that segment, 0..1."""
    area: float
    """Share of the image's pixels."""


@dataclass(frozen=True, order=True)
class WholeImage:
    """An image that is shown for itself."""

    mean_confidence: float
    """Of all pixels, 0..1."""
    image: ImageRef


Shown = Choice | WholeImage  # on the page of a run


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


@dataclass(frozen=True, kw_only=True)
class Painter(ABC, Generic[ChosenT, PictureT]):
    """Draws chosen images of a run."""

    run: ReviewedRun
    truth: str | None = None
    """Extension (tar, files) or column (Parquet) of the ground truth in the input; None: there is none."""
    side: int = 480
    """Pixels of a picture's longer side."""

    @abstractmethod
    def open_unit(self, unit: int, chosen: Sequence[ChosenT]) -> Draw[ChosenT, PictureT]:
        """Reads what a unit keeps of the chosen images, and returns what draws one of them."""

    def pictures(self, chosen: Sequence[ChosenT]) -> tuple[list[PictureT], list[str]]:
        """The pictures in the order of `chosen`, and one note for every reason why some are missing."""
        units, by_unit = {unit.number: unit for unit in self.run.units}, defaultdict(list)
        for choice in chosen:
            by_unit[choice.image.unit].append(choice)
        drawn, missing = dict[ImageRef, PictureT](), Counter[str]()
        for number, choices in by_unit.items():
            pictures, reason = self.unit_pictures(units[number], choices)
            drawn |= pictures
            missing[reason] += len(choices) - len(pictures)
        notes = [f"{n} of {len(chosen)} chosen pictures cannot be shown: {why}" for why, n in missing.items() if n]
        return [drawn[choice.image] for choice in chosen if choice.image in drawn], notes

    def unit_pictures(self, unit: Unit, chosen: Sequence[ChosenT]) -> tuple[dict[ImageRef, PictureT], str]:
        """The pictures of a unit's chosen images, and the reason why some are missing."""
        by_index, pictures = {choice.image.index: choice for choice in chosen}, dict[ImageRef, PictureT]()
        url = redact(unit.url)
        if not self.run.may_read(unit):
            return {}, f"{url} lies elsewhere than the run, whose plan was not made here; --trust-plan shows them"
        reason = f"the images are no longer those that were labeled in {url}"
        try:
            draw = self.open_unit(unit.number, chosen)
            for image in read_encoded(retimed(unit), sorted(by_index), self.truth):
                if image.status in (Status.MISSING, Status.CHANGED):
                    reason = str(image.error)
                choice = by_index.get(image.index)
                if choice and choice.image.key == image.key:
                    rgb = decode_labeled(image.data, choice.image, self.run.decode)
                    pictures |= {} if rgb is None else {choice.image: draw(choice, rgb, image.truth)}
        except Exception as error:  # of any storage library: a page without pictures is better than none
            reason = f"{url} cannot be read ({type(error).__name__}: {' '.join(redact(str(error)).split())})"
        return pictures, reason


def decode_labeled(data: bytes | memoryview | None, image: ImageRef, decode: DecodeConfig) -> RGB | None:
    """The pixels of an image file; None where it is not the image that was labeled."""
    try:
        rgb = None if data is None else decode_image(bytes(data), decode).rgb
    except DecodeError:
        return None
    return rgb if rgb is not None and rgb.shape[:2] == (image.height, image.width) else None


@dataclass(frozen=True, kw_only=True)
class RunPainter(Painter[Shown, Picture[Shown]]):
    """Draws the labels of a run from its segments, and the truth where the input holds one in its categories."""

    def open_unit(self, unit: int, chosen: Sequence[Shown]) -> Draw[Shown, Picture[Shown]]:
        """Reads the segments of the chosen images."""
        segments = segments_by_image(self.run.files, unit, [choice.image.image_id for choice in chosen])

        def draw(choice: Shown, rgb: RGB, truth: bytes | memoryview | None) -> Picture[Shown]:
            own, names = segments[choice.image.image_id], self.run.names
            labels = label_map(own, choice.image.height, choice.image.width, names)
            plane = truth_map(truth, labels.shape, names) if truth else None
            confidence = {segment.category_id: segment.mean_confidence for segment in own}
            return labeled_picture(
                choice,
                rgb,
                labels,
                plane,
                shares(labels, plane, names, confidence),
                self.side,
                outlined=choice.category if isinstance(choice, Choice) else None,
            )

        return draw


@dataclass(frozen=True, kw_only=True)
class EvaluationPainter(Painter[WorstImage, Picture[WorstImage]]):
    """Draws the labels that an evaluation keeps of its worst images, and their truth."""

    scoring: Scoring

    def open_unit(self, unit: int, chosen: Sequence[WorstImage]) -> Draw[WorstImage, Picture[WorstImage]]:
        """Reads the kept labels."""
        ids, names = [choice.image.image_id for choice in chosen], self.scoring.categories
        kept = self.run.files.table("images", unit, ["image_id", "labels_png"], [("image_id", "in", ids)])
        pngs = dict(zip(kept["image_id"].to_pylist(), kept["labels_png"].to_pylist(), strict=True))

        def draw(choice: WorstImage, rgb: RGB, truth: bytes | memoryview | None) -> Picture[WorstImage]:
            labels = read_plane(pngs[choice.image.image_id]).astype(names.dtype)
            plane = read_truth(truth, labels.shape, self.scoring.truth, names)
            return labeled_picture(choice, rgb, labels, plane, shares(labels, plane, names, {}), self.side)

        return draw


def worst_images(files: RunFiles, units: Sequence[Unit], scoring: Scoring, count: int) -> list[WorstImage]:
    """The `count` images with the lowest mean IoU of the first variant, the lowest first.

    A unit keeps the labels of its `scoring.worst` worst images only, so that it adds no more than these.
    """

    def worst_of(unit: Unit) -> list[WorstImage]:
        images = files.table("images", unit.number, [*columns_of(ImageRef), "mean_iou"])
        images = images.filter(pc.is_valid(pc.list_element(images["mean_iou"], 0)))
        scores = pc.list_element(images["mean_iou"], 0).to_pylist()
        return heapq.nsmallest(min(count, scoring.worst), map(WorstImage, scores, image_refs(images)))

    return heapq.nsmallest(count, itertools.chain.from_iterable(map_threads(worst_of, units)))


@dataclass(frozen=True, kw_only=True)
class ComparisonPainter(Painter[ChangedImage, ChangedPicture]):
    """Draws the labels of two runs, and where they differ."""

    other: ReviewedRun
    """B; `run` is A."""
    classes: Classes
    side: int = 360
    """Pixels of a picture's longer side."""

    def open_unit(self, unit: int, chosen: Sequence[ChangedImage]) -> Draw[ChangedImage, ChangedPicture]:
        """Reads the segments of the chosen images in both runs."""
        ids = ([choice.image.image_id for choice in chosen], [choice.other.image_id for choice in chosen])
        units = (unit, chosen[0].other.unit)
        segments = list(map(segments_by_image, (self.run.files, self.other.files), units, ids))
        return functools.partial(self.draw, segments)

    def draw(self, segments: Sequence[UnitSegments], choice: ChangedImage, rgb: RGB, _: object) -> ChangedPicture:
        """One picture."""
        maps = class_maps((self.run, self.other), self.classes, segments, (choice.image, choice.other))
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


def labeled_picture(
    choice: ChosenT,
    rgb: RGB,
    labels: Labels,
    truth: Labels | None,
    legend: tuple[Share, ...],
    side: int,
    outlined: int | None = None,
) -> Picture[ChosenT]:
    """A picture from planes (H, W), at most `side` pixels each way; the labels of `outlined` have a white edge."""
    height, width = thumbnail_size(choice.image.height, choice.image.width, side)
    return Picture(
        choice=choice,
        size=(width, height),
        photo=photo_jpeg(rgb, side),
        labels=mask_png(shrink(labels, side), outlined),
        truth=None if truth is None else mask_png(shrink(truth, side)),
        shares=legend,
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
    """The legend: categories of the labels, largest first, then those of the truth alone.

    `confidence` is the mean of each category, where it is known.
    """
    values, counts = np.unique(labels, return_counts=True)
    areas = {value: count / labels.size for value, count in zip(values.tolist(), counts.tolist(), strict=True)}
    present = sorted((category for category in areas if category in names), key=lambda category: -areas[category])
    missed = [] if truth is None else sorted({*np.unique(truth).tolist()} & {*names} - {*present})
    return (
        *(Share(category=category, area=areas[category], confidence=confidence.get(category)) for category in present),
        *(Share(category=category, area=0.0) for category in missed),
    )


def changed_areas(maps: Sequence[ClassMap], classes: int) -> tuple[tuple[int, float, float], ...]:
    """Class, share in A and in B of the classes whose share differs, the largest difference first."""
    a, b = ((np.bincount(plane.ravel(), minlength=classes) / plane.size).tolist() for plane in maps)
    changed = (index for index in range(classes) if a[index] != b[index])
    return tuple((index, a[index], b[index]) for index in sorted(changed, key=lambda index: -abs(a[index] - b[index])))

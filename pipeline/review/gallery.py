"""The report's pictures: chosen images read from their shards, with labels and truth from run and shard.

    pictures, notes = draw_pictures(files, run, units, chosen, limits, names, truth="seg.png")

A shard is read from its first chosen image to its last, and a unit's segments only for these. Whatever cannot be read
leaves a note instead of a picture.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from scclip.categories import Labels, ignore_value
from scclip.pipeline.annotations.label_map import label_map
from scclip.pipeline.inputs.decoding import DecodeConfig, DecodeError, decode_image
from scclip.pipeline.inputs.readers.unit import read_rows
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.review.drawing import mask_png, photo_jpeg, shrink, thumbnail_size, truth_map
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.manifest import RunManifest
from scclip.pipeline.storage.files import read_bytes
from scclip.pipeline.storage.retries import redact


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An image to show, and the segment it was chosen for."""

    image_id: int
    unit: int
    index: int
    key: str
    width: int
    height: int
    category: int
    confidence: float
    """Mean confidence of that segment, 0..1."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """A category's part in one picture."""

    category: int
    area: float
    """Share of the image's pixels; 0 where only the truth has it."""
    confidence: float | None = None
    """Mean confidence, 0..1; None for background and for what only the truth has."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image of the gallery."""

    choice: Choice
    size: tuple[int, int]
    """Width and height of the thumbnails in pixels."""
    photo: bytes
    """JPEG."""
    labels: bytes
    """PNG with transparent ignored pixels, as `truth`."""
    truth: bytes | None
    shares: tuple[Share, ...]
    """Of the labels, largest first, then what only the truth has."""
    ignored: float
    """Share of pixels without a class."""
    agreement: float | None
    """Share of the truth's pixels that have the same label; None without truth."""


class Limits(Protocol):
    """The fields of ReportLimits that pictures obey."""

    @property
    def side(self) -> int: ...
    @property
    def picture_bytes(self) -> int: ...


@dataclass(frozen=True)
class Frame:
    """What is the same for all pictures of a run."""

    names: Mapping[int, str]
    decode: DecodeConfig
    side: int


def draw_pictures(
    files: RunFiles,
    run: RunManifest,
    units: Sequence[Unit],
    chosen: Sequence[Choice],
    limits: Limits,
    names: Mapping[int, str],
    truth: str | None,
) -> tuple[list[Picture], list[str]]:
    """The pictures of the chosen images, in their order, and one note for every reason why some are missing."""
    frame = Frame(names, DecodeConfig(exif=run.options.exif), limits.side)
    by_number, by_unit = {unit.number: unit for unit in units}, defaultdict(list)
    for choice in chosen:
        by_unit[choice.unit].append(choice)
    drawn: dict[int, Picture] = {}
    missing: dict[str, int] = defaultdict(int)
    for number, choices in by_unit.items():
        found, reason = draw_unit(files, by_number[number], choices, frame, truth)
        drawn |= {picture.choice.image_id: picture for picture in found}
        if len(found) < len(choices):
            missing[reason] += len(choices) - len(found)
    notes = [f"{count} of {len(chosen)} chosen pictures cannot be shown: {why}" for why, count in missing.items()]
    ordered = [drawn[choice.image_id] for choice in chosen if choice.image_id in drawn]
    return within_bytes(ordered, limits.picture_bytes), notes


def within_bytes(pictures: Sequence[Picture], limit: int) -> list[Picture]:
    """As many as fit, taken evenly from the list."""
    size = sum(len(picture.photo) + len(picture.labels) + len(picture.truth or b"") for picture in pictures)
    if size <= limit:
        return list(pictures)
    count = min(len(pictures) - 1, len(pictures) * limit // size)
    places = np.linspace(0, len(pictures) - 1, count).round().astype(int).tolist()
    return within_bytes([pictures[place] for place in places], limit)


def draw_unit(
    files: RunFiles, unit: Unit, choices: Sequence[Choice], frame: Frame, truth: str | None
) -> tuple[list[Picture], str]:
    """A unit's pictures, and why some are missing."""
    wanted = {choice.index: choice for choice in choices}
    pictures, reason = [], f"the images are no longer those that were labeled in {redact(unit.url)}"
    try:
        segments = read_segments(files, unit.number, [choice.image_id for choice in choices])
        for row in read_rows(unit, sorted(wanted), truth):
            if row["status"] in ("missing", "changed"):
                reason = str(row["error"])
            choice = wanted.get(row["index"])
            if choice and (picture := draw(choice, row, segments.get(choice.image_id, []), frame)):
                pictures.append(picture)
    except Exception as error:  # of any storage library: a report without pictures is better than none
        reason = f"{redact(unit.url)} cannot be read ({type(error).__name__}: {' '.join(redact(str(error)).split())})"
    return pictures, reason


def read_segments(files: RunFiles, unit: int, image_ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """Rows of segments/ of some images, by image id."""
    source = pa.BufferReader(read_bytes(files.unit_file("segments", unit)))
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in pq.read_table(source, filters=[("image_id", "in", list(image_ids))]).to_pylist():
        found[row["image_id"]].append(row)
    return dict(found)


def draw(choice: Choice, row: Mapping[str, Any], segments: Sequence[Mapping[str, Any]], frame: Frame) -> Picture | None:
    """One picture; None where the image is not the one that was labeled."""
    if row["key"] != choice.key or row["data"] is None:
        return None
    try:
        rgb = decode_image(row["data"], frame.decode).rgb
    except DecodeError:
        return None
    if rgb.shape[:2] != (choice.height, choice.width):
        return None
    labels = label_map(segments, choice.height, choice.width, frame.names)
    return compose(choice, rgb, labels, read_truth(row["truth"], labels.shape, frame.names), segments, frame)


def compose(
    choice: Choice,
    rgb: npt.NDArray[np.uint8],
    labels: Labels,
    truth: Labels | None,
    segments: Sequence[Mapping[str, Any]],
    frame: Frame,
) -> Picture:
    """A picture from its planes, all (H, W); `segments` add confidences to the legend."""
    height, width = thumbnail_size(choice.height, choice.width, frame.side)
    return Picture(
        choice=choice,
        size=(width, height),
        photo=photo_jpeg(rgb, frame.side),
        labels=mask_png(shrink(labels, frame.side)),
        truth=None if truth is None else mask_png(shrink(truth, frame.side)),
        shares=shares(labels, truth, segments, frame.names),
        ignored=float(np.mean(labels == ignore_value(labels.dtype))),
        agreement=None if truth is None else agreement(labels, truth),
    )


def read_truth(data: bytes | None, shape: tuple[int, ...], names: Mapping[int, str]) -> Labels | None:
    """The truth of an image of this shape; None where there is none of use."""
    try:
        truth = truth_map(data, names) if data else None
    except (OSError, ValueError):
        return None
    return truth if truth is not None and truth.shape == shape else None


def agreement(labels: Labels, truth: Labels) -> float | None:
    """Share of the truth's pixels with the same label; None where the truth ignores all."""
    counted = truth != ignore_value(truth.dtype)
    return float(np.mean(labels[counted] == truth[counted])) if counted.any() else None


def shares(
    labels: Labels, truth: Labels | None, segments: Sequence[Mapping[str, Any]], names: Mapping[int, str]
) -> tuple[Share, ...]:
    """The legend: categories of the labels, largest first, then those of the truth alone."""
    confidence = {segment["category_id"]: segment["mean_confidence"] for segment in segments}
    values, counts = np.unique(labels, return_counts=True)
    found = [(int(value), int(count) / labels.size) for value, count in zip(values, counts, strict=True)]
    known = [Share(category=value, area=area, confidence=confidence.get(value)) for value, area in found]
    known = sorted((share for share in known if share.category in names), key=lambda share: -share.area)
    present = {share.category for share in known}
    missed = sorted(set(np.unique(truth).tolist()) & set(names) - present) if truth is not None else []
    return (*known, *(Share(category=value, area=0.0) for value in missed))

"""Gathers what a report shows of a run: totals, histograms, failures and a bounded sample of pictures.

    content = gather(files, ReportLimits(), truth="seg.png")

Totals are exact. Histograms, failures and pictures come from a sample of the finished units, spread over the run, so
that a report of ten thousand shards reads as much as one of a hundred.
"""

import io
import itertools
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scclip.pipeline.annotations.schemas import labeled_rows, rows_of
from scclip.pipeline.inputs.passed_over import PassedOver
from scclip.pipeline.review import curation
from scclip.pipeline.review.curation import Curation, CurationSums, MeasuredImage
from scclip.pipeline.review.gallery import Choice, Picture, RunPainter, Shown, WholeImage
from scclip.pipeline.review.images import FailedImage, ImageRef, ReviewedRun, columns_of, failed_images, image_refs
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.fingerprint import existing_run
from scclip.pipeline.run.totals import Totals, unit_totals
from scclip.pipeline.storage.files import exists, join, read_bytes
from scclip.pipeline.storage.threads import map_threads

BINS = 200  # of a confidence histogram over 0..1: fine, because many classes share one softmax
SMALLEST = 0.01  # share of the image: smaller segments are pictured only where a class has no other

Counts = npt.NDArray[np.int64]
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class ReportLimits:
    """Keeps a report small, however large the run is."""

    units: int = 64
    """Units whose tables are read."""
    failures: int = 60
    """Failed images that are listed."""
    pictures: int = 36
    """Images that are shown, each as photo, labels and (where there is one) truth."""
    picture_units: int = 12
    """Units whose shards are opened for them."""
    first_images: int = 256
    """Only so many images at the start of a unit are pictured: a tar is read from its start."""
    side: int = 480
    """Pixels of a picture's longer side."""
    picture_bytes: int = 4 * 2**20
    """All pictures together, as JPEG and PNG."""
    whole: bool = False
    """Show the images for themselves, the least confident first, not for one of their classes."""
    keep: float = 0.8
    """Share of every class's pixels that the suggested thresholds keep."""


@dataclass(kw_only=True)
class ReportContent:
    """Everything a page tells about a run."""

    run: ReviewedRun
    """With all units that are planned."""
    finished: int
    """Units that are committed."""
    sampled: int
    """Units whose tables were read."""
    totals: Totals
    """Of all finished units."""
    confidence: dict[int, Counts] = field(default_factory=dict)
    """Category → (BINS,) segments of the sample by their mean confidence."""
    failures: list[FailedImage] = field(default_factory=list)
    """Failed images of the sample."""
    pictures: list[Picture[Shown]] = field(default_factory=list)
    """By category, the least confident first; or all by confidence."""
    notes: list[str] = field(default_factory=list)
    """Why pictures are missing."""
    curation: Curation | None = None
    """What the sample's statistics say about the labels; None where nothing is finished."""
    passed_over: PassedOver = field(default_factory=PassedOver)
    """What the input holds besides shards and images, as the last start of the run found it."""


def gather(
    files: RunFiles, limits: ReportLimits, truth: str | None = "seg.png", trusted: bool = False
) -> ReportContent:
    """Reads what a report needs. Where the input cannot be read, only pictures are missing, and a note says why.

    Args:
        truth: extension (tar, files) or column (Parquet) of the ground truth in the input; None: there is none.
        trusted: whether the plan is followed to any file that it names.

    Raises:
        UserError: there is no run, or the run is an evaluation, which keeps no labels.
    """
    run = ReviewedRun(files, *existing_run(files, "OUTPUT", labels=True), trusted)
    by_unit = unit_totals(files, sorted(files.finished()))
    summary = join(files.output, "summary.json")
    passed = json.loads(read_bytes(summary)).get("passed_over", {}) if exists(summary) else {}
    sample = sample_units({unit: totals.failed for unit, totals in by_unit.items()}, limits)
    content = ReportContent(run=run, finished=len(by_unit), sampled=len(sample), totals=sum(by_unit.values(), Totals()))
    content.passed_over = PassedOver.from_json(passed)
    pictured = set(spread(sample, limits.picture_units))
    candidates, images, sums = list[Choice](), list[WholeImage](), CurationSums()
    for one in map_threads(lambda unit: sample_unit(files, unit, limits, unit in pictured), sample, 4):
        content.confidence = curation.added(content.confidence, one.confidence)
        content.failures += one.failures[: limits.failures - len(content.failures)]
        candidates += one.candidates
        images += one.images
        sums += one.curation
    if sample:
        queries, url = curation.vocabulary_queries(run.manifest.vocabulary), join(files.output, "text_features.npy")
        features = np.load(io.BytesIO(read_bytes(url))) if exists(url) else None  # (Q, E)
        content.curation = curation.conclude(sums, run.names, content.totals, queries, features, limits.keep)
    painter = RunPainter(run=run, truth=truth, side=limits.side)
    chosen = choose(candidates, content.totals, limits.pictures)
    pictures, content.notes = painter.pictures(sorted(images)[: limits.pictures] if limits.whole else chosen)
    content.pictures = within_bytes(pictures, limits.picture_bytes)
    return content


def spread(items: Sequence[Item], at_most: int) -> list[Item]:
    """At most so many of the items, evenly spaced, first and last among them."""
    if len(items) <= at_most:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, at_most).round().astype(int).tolist()]


def sample_units(failed: Mapping[int, int], limits: ReportLimits) -> list[int]:
    """Units to read, ascending: spread over the run, an eighth of them kept for units with failures."""
    bad = spread([unit for unit in sorted(failed) if failed[unit]], max(1, limits.units // 8))
    return sorted({*bad, *spread(sorted(failed), max(1, limits.units - len(bad)))})


def within_bytes(pictures: Sequence[Picture[Shown]], limit: int) -> list[Picture[Shown]]:
    """As many pictures as fit into `limit` bytes, taken evenly from the list."""
    size = sum(len(picture.photo) + len(picture.labels) + len(picture.truth or b"") for picture in pictures)
    if size <= limit:
        return list(pictures)
    return within_bytes(spread(pictures, min(len(pictures) - 1, len(pictures) * limit // size)), limit)


@dataclass(frozen=True)
class UnitSample:
    """What one unit adds to a report."""

    confidence: dict[int, Counts]
    failures: list[FailedImage]
    candidates: list[Choice]
    images: list[WholeImage]
    curation: CurationSums


def sample_unit(files: RunFiles, unit: int, limits: ReportLimits, pictured: bool) -> UnitSample:
    """Reads a unit's images and segments, without metadata and RLEs."""
    names = {name for record in (MeasuredImage, ImageRef, FailedImage) for name in columns_of(record)}
    images = files.table("images", unit, sorted(names))
    labeled = labeled_rows(images) if limits.whole else images.slice(0, 0)
    whole = map(WholeImage, labeled["mean_confidence"].to_pylist(), image_refs(labeled))
    segments = files.table("segments", unit, [*curation.SEGMENT_COLUMNS, "image_id", "area_fraction"])
    return UnitSample(
        confidence=segment_histograms(segments),
        failures=failed_images(images, limits.failures),
        candidates=picture_candidates(images, segments, limits) if pictured and not limits.whole else [],
        images=list(whole),
        curation=curation.unit_curation(images, segments),
    )


def segment_histograms(segments: pa.Table) -> dict[int, Counts]:
    """Category → (BINS,) int64 counts of segments by their mean confidence."""
    category = segments["category_id"].to_numpy()
    level = np.minimum((segments["mean_confidence"].to_numpy() * BINS).astype(int), BINS - 1)
    return {value: np.bincount(level[category == value], minlength=BINS) for value in np.unique(category).tolist()}


def picture_candidates(images: pa.Table, segments: pa.Table, limits: ReportLimits) -> list[Choice]:
    """The segments of a unit's first images; of each class those that are large enough to see, if there are any."""
    labeled = labeled_rows(images.filter(pc.field("index") < limits.first_images))
    refs = {image.image_id: image for image in image_refs(labeled)}
    own = segments.filter(pc.is_in(segments["image_id"], pa.array(list(refs), pa.int64())))
    rows = rows_of(own, "image_id", "category_id", "mean_confidence", "area_fraction")
    choices = [Choice(refs[image_id], *measures) for image_id, *measures in rows]
    visible = {choice.category for choice in choices if choice.area >= SMALLEST}
    return [choice for choice in choices if choice.area >= SMALLEST or choice.category not in visible]


def choose(candidates: Sequence[Choice], totals: Totals, pictures: int) -> list[Choice]:
    """Chooses the images to show, each of them once.

    Takes one image of each class in turn: the least confident one, the most confident one, the second least confident
    one, and so on. Classes with more pixels come first, which matters where there are more classes than pictures.

    Returns:
        At most `pictures` choices, by class in that order, the least confident first.
    """
    ranked: dict[int, list[Choice]] = defaultdict(list)
    for choice in sorted(candidates, key=lambda c: (c.confidence, c.image.image_id)):
        ranked[choice.category].append(choice)
    order = sorted(ranked, key=lambda category: (-totals.class_pixels[category], category))
    ends = {category: itertools.cycle((0, -1)) for category in order}
    taken: dict[ImageRef, Choice] = {}
    while any(ranked.values()) and len(taken) < pictures:
        for category in order:
            ranked[category] = [choice for choice in ranked[category] if choice.image not in taken]
            if ranked[category] and len(taken) < pictures:
                choice = ranked[category].pop(next(ends[category]))
                taken[choice.image] = choice
    rank = {category: number for number, category in enumerate(order)}
    return sorted(taken.values(), key=lambda c: (rank[c.category], c.confidence, c.image.image_id))

"""Reads a finished unit again for an export: its images in order, with segments, maps and (if wanted) pictures.

    for image in unit_images(job, unit): labels = image.labels(job)

Label maps are made from the RLEs, or from the saved class and confidence where the rules need them. Nothing of the
model is used.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scclip.categories import Labels
from scclip.pipeline.annotations.label_map import label_map
from scclip.pipeline.annotations.png import read_plane
from scclip.pipeline.annotations.schemas import (
    IMAGES_SCHEMA,
    MASK_SUFFIXES,
    ImageError,
    ImageRecord,
    SegmentRecord,
    Status,
    records_of,
    rows_of,
)
from scclip.pipeline.export.filter import parse_filter, split_of
from scclip.pipeline.export.job import ExportJob
from scclip.pipeline.export.names import FileNames, NameRules, hash_of
from scclip.pipeline.export.pictures import copied
from scclip.pipeline.export.transform import Quantised, refine, rethreshold
from scclip.pipeline.inputs.decoding import DecodeConfig, decode_image
from scclip.pipeline.inputs.headers import header_size
from scclip.pipeline.inputs.readers.tar import members
from scclip.pipeline.inputs.readers.unit import read_encoded, retimed
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.run.files import RunFiles, segments_by_image
from scclip.pipeline.run.names import tar_names
from scclip.pipeline.storage.files import info, open_stream
from scclip.pipeline.storage.retries import redact
from scclip.pipeline.storage.threads import map_threads

LABELED = [("status", "==", Status.OK)]  # pyarrow's filter for rows of images/


class ExportError(Exception):
    """What the export needs cannot be read; one line with unit and reason."""


@dataclass(kw_only=True)
class ExportImage(ImageRecord):
    """A labeled image, and what was read with it."""

    image_id: int
    width: int
    height: int
    split: str
    """train or val."""
    segments: Sequence[SegmentRecord]
    """Its rows of segments/."""
    argmax: Labels | None = None
    """Class before thresholds, where the rules need it."""
    confidence: Quantised | None = None
    """Confidence of `argmax`."""
    name: str
    """Name of its files, without extension: a relative path that no other image of the run has."""
    tar_name: str
    """Its name in a tar, which no other image of the unit has."""
    data: bytes | None = None
    """The picture's file, where pictures are copied."""
    extension: str = ""
    """What a copy of the picture ends in."""

    @property
    def picture_name(self) -> str:
        """Name of the copied picture where pictures are copied, else the name in the run."""
        return self.file_name if self.data is None else f"{self.name}.{self.extension}"

    def labels(self, job: ExportJob) -> Labels:
        """The label map (H, W) of the export."""
        if job.rules.thresholds is None:
            labels = label_map(self.segments, *self.shape, job.target.source)
        else:
            assert self.argmax is not None and self.confidence is not None
            labels = rethreshold(self.argmax, self.confidence, job.rules.thresholds, job.target)
        return refine(labels, self.confidence, job.target, job.rules)


def unit_images(job: ExportJob, unit: Unit, rules: NameRules) -> Iterator[ExportImage]:
    """Yields the unit's labeled images that pass the condition, in the input's order. Raises ExportError."""
    labeled = job.files.table("images", unit.number, filters=LABELED)
    kept = labeled.filter(parse_filter(job.condition, IMAGES_SCHEMA.names)) if job.condition else labeled
    if not len(kept):
        return
    segments, in_tar = segments_by_image(job.files, unit.number), tar_names(labeled)
    names = FileNames(rules=rules, repeated=job.repeated)
    images = records_of(kept.select(IMAGES_SCHEMA.names), ImageRecord)
    maps = saved_maps(job.files, unit.number, labeled, kept) if job.rules.needs_confidence else repeat((None, None))
    pictures = unit_pictures(unit, images, job) if job.pictures else repeat(None)
    for image, (argmax, confidence), data in zip(images, maps, pictures, strict=False):
        picture, extension = (None, "") if data is None else copied(data, image, rules, job.upright)
        yield ExportImage.of(
            image,
            split=split_of(image.key, job.val),
            segments=segments[image.image_id],
            argmax=argmax,
            confidence=confidence,
            name=names.of(image),
            tar_name=in_tar[image.index],
            data=picture,
            extension=extension,
        )


def saved_maps(files: RunFiles, unit: int, labeled: pa.Table, kept: pa.Table) -> Iterator[tuple[Labels, Quantised]]:
    """Yields class before thresholds and confidence of the kept images; masks/ holds those of all labeled ones."""
    url, wanted, names = files.unit_file("masks", unit), set(kept["index"].to_pylist()), tar_names(labeled)
    size = info(url).size
    with open_stream(url, size=size) as stream:
        tar = iter(members(stream, size))
        for index, key in rows_of(labeled, "index", "key"):
            stems = key, names[index]  # older runs wrote the key itself
            columns = {f"{stem}.{suffix}": column for stem in stems for column, suffix in MASK_SUFFIXES.items()}
            planes: dict[str, bytes] = {}
            while len(planes) < 2:
                member = next(tar, None)
                if member is None or member.name not in columns:
                    raise ExportError(f"unit {unit}: masks/ has no argmax and confidence of {key!r}; run verify")
                if (column := columns[member.name]) != "labels_png":
                    planes[column] = stream.read(member.size)
            if index in wanted:
                yield read_plane(planes["argmax_png"]), read_plane(planes["confidence_png"])


def unit_pictures(unit: Unit, kept: Sequence[ImageRecord], job: ExportJob) -> Iterator[bytes]:
    """Yields the files of the kept images, from the run's input. ExportError where they are not there."""
    waiting, now = {image.index: image for image in kept}, retimed(unit)
    for image in read_encoded(now, list(waiting)):
        if image.index not in waiting:
            continue
        labeled = waiting.pop(image.index)
        if image.data is None or image.key != labeled.key:
            raise input_changed(unit, image.error or f"image {image.index} is {image.key!r} now")
        data = bytes(image.data)
        if now is not unit and (size := header_size(data)) and sorted(size) != sorted(labeled.shape):
            raise input_changed(unit, f"{image.file_name} has {size[0]} × {size[1]} pixels now")
        if job.foreign and not is_labeled(data, labeled, job.upright):
            raise input_changed(unit, f"{labeled.key!r} is not the picture that was labeled")
        yield data
    if waiting:
        raise input_changed(unit, f"{len(waiting):,} of the labeled images are gone")


def is_labeled(data: bytes, labeled: ImageRecord, upright: bool) -> bool:
    """Whether a file decodes as a picture of the size that was labeled."""
    try:
        rgb = decode_image(data, DecodeConfig(exif="apply" if upright else "ignore")).rgb
    except ImageError:
        return False
    return rgb.shape[:2] == labeled.shape


def input_changed(unit: Unit, reason: str) -> ExportError:
    """The error for pictures that cannot be read again."""
    remedy = "leave --images out, or bring back the input that was labeled"
    return ExportError(f"unit {unit.number}: {redact(unit.url)}: {reason}; {remedy}")


def repeated_names(files: RunFiles, units: Sequence[Unit], rules: NameRules) -> npt.NDArray[np.uint64]:
    """Sorted hashes of the names that several labeled images would have; in memory are eight bytes an image.

    Ray's tasks share an array and do not copy it.
    """

    def hashes(unit: Unit) -> npt.NDArray[np.uint64]:
        rows = rows_of(files.table("images", unit.number, ["key", "file_name"], LABELED), "key", "file_name")
        return np.array([hash_of(rules.name(*row)) for row in rows], np.uint64)

    distinct, counts = np.unique(np.concatenate(list(map_threads(hashes, units, threads=8))), return_counts=True)
    return distinct[counts > 1]


def repeated_ids(files: RunFiles, units: Sequence[Unit], shown: int) -> tuple[int, list[str]]:
    """How many image ids several labeled images share, and the first of them: "ID (units 1 and 3)"."""

    def ids(unit: Unit) -> npt.NDArray[np.int64]:
        return files.table("images", unit.number, ["image_id"], LABELED)["image_id"].to_numpy()

    by_unit = list(map_threads(ids, units, threads=8))
    distinct, counts = np.unique(np.concatenate(by_unit), return_counts=True)
    repeated = distinct[counts > 1]
    named = []
    for value in repeated[:shown].tolist():
        numbers = [str(unit.number) for unit, own in zip(units, by_unit, strict=True) if value in own]
        named.append(f"{value} (units {' and '.join(numbers[:3])})")
    return len(repeated), named

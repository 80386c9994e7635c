"""Reads a finished unit again for an export: its images in order, with segments, maps and (if wanted) pictures.

    for image in unit_images(job, unit): labels = image.labels(job)

Label maps are made from the RLEs, or from the saved class and confidence where the rules need them. Nothing of the
model is used.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import pyarrow as pa

from scclip.categories import Labels
from scclip.pipeline.annotations.label_map import label_map
from scclip.pipeline.annotations.png import read_plane
from scclip.pipeline.annotations.schemas import (
    IMAGES_SCHEMA,
    MASK_SUFFIXES,
    ImageRecord,
    SegmentRecord,
    Status,
    records_of,
)
from scclip.pipeline.export.filter import parse_filter, split_of
from scclip.pipeline.export.job import ExportJob
from scclip.pipeline.export.transform import Quantised, refine, rethreshold
from scclip.pipeline.inputs.names import IMAGE_EXTENSIONS, split_name
from scclip.pipeline.inputs.readers.tar import members
from scclip.pipeline.inputs.readers.unit import read_encoded
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.run.files import RunFiles, segments_by_image
from scclip.pipeline.storage.files import info, open_stream
from scclip.pipeline.storage.retries import redact
from scclip.pipeline.storage.threads import map_threads

MAGIC = {b"\x89PNG": "png", b"\xff\xd8": "jpg", b"RIFF": "webp", b"GIF8": "gif", b"BM": "bmp", b"II*": "tif"}
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
    data: bytes | None = None
    """The picture's file as it was read, where pictures are copied."""

    @property
    def stem(self) -> str:
        """The key as a relative path that cannot leave its folder: `../a` → `_/a`."""
        key = self.key.replace("\\", "_").replace(":", "_")  # no part may mean the folder above, a root or a drive
        parts = [part if part.strip(". ") else "_" for part in key.split("/")]
        return "".join(character if character.isprintable() else "_" for character in "/".join(parts))

    @property
    def extension(self) -> str:
        """What a copy of the picture ends in: its name's extension, else by its first bytes."""
        extension = split_name(self.file_name)[1]
        if extension in IMAGE_EXTENSIONS:
            return extension
        return next((kind for magic, kind in MAGIC.items() if (self.data or b"").startswith(magic)), "jpg")

    @property
    def picture_name(self) -> str:
        """Name of the copied picture where pictures are copied, else the name in the run."""
        return self.file_name if self.data is None else f"{self.stem}.{self.extension}"

    def labels(self, job: ExportJob) -> Labels:
        """The label map (H, W) of the export."""
        if job.rules.thresholds is None:
            labels = label_map(self.segments, *self.shape, job.target.source)
        else:
            assert self.argmax is not None and self.confidence is not None
            labels = rethreshold(self.argmax, self.confidence, job.rules.thresholds, job.target)
        return refine(labels, self.confidence, job.target, job.rules)


def unit_images(job: ExportJob, unit: Unit) -> Iterator[ExportImage]:
    """Yields the unit's labeled images that pass the condition, in the input's order. Raises ExportError."""
    labeled = job.files.table("images", unit.number, filters=LABELED)
    kept = labeled.filter(parse_filter(job.condition, IMAGES_SCHEMA.names)) if job.condition else labeled
    if not len(kept):
        return
    segments = segments_by_image(job.files, unit.number)
    needed = job.rules.needs_confidence
    maps = saved_maps(job.files, unit.number, labeled, kept) if needed else repeat((None, None))
    pictures = unit_pictures(unit, kept) if job.pictures else repeat(None)
    images = records_of(kept.select(IMAGES_SCHEMA.names), ImageRecord)
    for image, (argmax, confidence), data in zip(images, maps, pictures, strict=False):
        own, split = segments[image.image_id], split_of(image.key, job.val)
        yield ExportImage.of(image, segments=own, split=split, argmax=argmax, confidence=confidence, data=data)


def saved_maps(files: RunFiles, unit: int, labeled: pa.Table, kept: pa.Table) -> Iterator[tuple[Labels, Quantised]]:
    """Yields class before thresholds and confidence of the kept images; masks/ holds those of all labeled ones."""
    url, wanted = files.unit_file("masks", unit), set(kept["index"].to_pylist())
    suffixes = MASK_SUFFIXES["argmax_png"], MASK_SUFFIXES["confidence_png"]
    size = info(url).size
    with open_stream(url, size=size) as stream:
        tar = iter(members(stream, size))
        for index, key in zip(labeled["index"].to_pylist(), labeled["key"].to_pylist(), strict=True):
            planes: dict[str, bytes] = {}
            while len(planes) < len(suffixes):
                member = next(tar, None)
                if member is None or not member.name.startswith(f"{key}."):
                    raise ExportError(f"unit {unit}: masks/ has no argmax and confidence of {key!r}; run verify")
                if (suffix := member.name[len(key) + 1 :]) in suffixes:
                    planes[suffix] = stream.read(member.size)
            if index in wanted:
                yield read_plane(planes[suffixes[0]]), read_plane(planes[suffixes[1]])


def unit_pictures(unit: Unit, kept: pa.Table) -> Iterator[bytes]:
    """Yields the files of the kept images, from the run's input. ExportError where they are not there."""
    keys = dict(zip(kept["index"].to_pylist(), kept["key"].to_pylist(), strict=True))
    for image in read_encoded(unit, list(keys)):
        if image.index not in keys:
            continue
        if image.data is None or image.key != keys.pop(image.index):
            raise input_changed(unit, image.error or f"image {image.index} is {image.key!r} now")
        yield bytes(image.data)
    if keys:
        raise input_changed(unit, f"{len(keys):,} of the labeled images are gone")


def input_changed(unit: Unit, reason: str) -> ExportError:
    """The error for pictures that cannot be read again."""
    remedy = "leave --images out, or bring back the input that was labeled"
    return ExportError(f"unit {unit.number}: {redact(unit.url)}: {reason}; {remedy}")


def repeated_values(files: RunFiles, units: Sequence[Unit], column: str) -> list[str]:
    """Values of a column of images/ that several labeled images share: "KEY (units 1 and 3)".

    Of each image only a hash, eight bytes, stays in memory; values of equal hashes are looked up again.
    """

    def values(unit: Unit) -> list[Hashable]:
        return files.table("images", unit.number, [column, "status"], LABELED)[column].to_pylist()

    hashes = map_threads(lambda unit: np.array(list(map(hash, values(unit))), np.int64), units, threads=8)
    distinct, counts = np.unique(np.concatenate(list(hashes)), return_counts=True)
    suspects = set(distinct[counts > 1].tolist())
    numbers: dict[Hashable, list[int]] = defaultdict(list)
    for unit in units if suspects else ():
        for value in values(unit):
            if hash(value) in suspects:
                numbers[value].append(unit.number)
    shared = {value: units for value, units in numbers.items() if len(units) > 1}
    return [f"{value} (units {' and '.join(map(str, units[:3]))})" for value, units in shared.items()]

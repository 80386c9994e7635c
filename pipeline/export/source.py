"""A finished unit read again for an export: its images in order, with segments, maps and (if wanted) pictures.

    for image in unit_images(source, unit): labels = image.labels(target, rules)

Label maps are made from the RLEs, or from the saved class and confidence where the rules need them. Nothing of the
model is used.
"""

import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from scclip.categories import Categories, Labels
from scclip.pipeline.annotations.label_map import label_map
from scclip.pipeline.annotations.schemas import IMAGES_SCHEMA, SEGMENTS_SCHEMA, Status
from scclip.pipeline.export.filter import parse_filter, split_of
from scclip.pipeline.export.transform import Planes, Quantised, Rules, Target, refine
from scclip.pipeline.inputs.names import IMAGE_EXTENSIONS, split_name
from scclip.pipeline.inputs.readers.tar import members
from scclip.pipeline.inputs.readers.unit import read_rows
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.run.files import MASK_SUFFIXES, RunFiles, read_images
from scclip.pipeline.storage.files import info, open_stream, read_bytes
from scclip.pipeline.storage.retries import redact

MAGIC = (
    (b"\x89PNG", "png"),
    (b"\xff\xd8", "jpg"),
    (b"RIFF", "webp"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*", "tif"),
)


class ExportError(Exception):
    """What the export needs cannot be read; one line with unit and reason."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Which images of a run are read, and how."""

    files: RunFiles
    """Where the run lies."""
    categories: Categories
    """Of the run."""
    condition: str = ""
    """Expression over the columns of images/; empty keeps all."""
    val: float = 0.0
    """Fraction of the keys that go to the split `val`."""
    pictures: bool = False
    """Read the pictures too, from the run's input."""
    confidence: bool = False
    """Read class before thresholds and confidence from masks/."""


@dataclass(kw_only=True)
class Exported:
    """One labeled image of an export."""

    row: Mapping[str, Any]
    """Its row of images/."""
    segments: list[dict[str, Any]]
    """Its rows of segments/."""
    categories: Categories
    """Of the run."""
    split: str
    """train or val."""
    argmax: Labels | None = None
    confidence: Quantised | None = None
    data: bytes | None = None
    """The picture's file as it was read."""
    extension: str = ""
    """Of the picture, in lower case without a dot."""
    _labels: Labels | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Height, width."""
        return self.row["height"], self.row["width"]

    @property
    def stem(self) -> str:
        """The key as a relative path that cannot leave its folder."""
        return safe_path(self.row["key"])

    def labels(self, target: Target, rules: Rules) -> Labels:
        """The label map (H, W) of the export; made once."""
        if self._labels is None:
            plain = (
                np.empty(0) if rules.thresholds is not None else label_map(self.segments, *self.shape, self.categories)
            )
            self._labels = refine(Planes(plain, self.argmax, self.confidence), target, rules)
        return self._labels


def safe_path(key: str) -> str:
    """A key whose parts cannot mean the folder above, a root or a drive: `../a` → `_/a`."""
    parts = [part if part.strip(". ") else "_" for part in key.replace("\\", "_").replace(":", "_").split("/")]
    return "/".join("".join(character if character.isprintable() else "_" for character in part) for part in parts)


def unit_images(source: Source, unit: Unit) -> Iterator[Exported]:
    """The unit's labeled images that pass the condition, in the input's order. Raises ExportError."""
    images = labeled_images(source, unit.number)
    if not len(images):
        return
    by_image = segments_by_image(source.files, unit.number)
    maps = saved_maps(source, unit.number, images) if source.confidence else None
    pictures = unit_pictures(unit, images) if source.pictures else None
    kept = images.filter(parse_filter(source.condition, IMAGES_SCHEMA.names)) if source.condition else images
    for row in kept.to_pylist():
        image = Exported(
            row=row,
            segments=by_image.get(row["image_id"], []),
            categories=source.categories,
            split=split_of(row["key"], source.val),
        )
        if maps is not None:
            image.argmax, image.confidence = next(pair for index, *pair in maps if index == row["index"])
        if pictures is not None:
            image.data = next(data for index, data in pictures if index == row["index"])
            image.extension = picture_extension(row["file_name"], image.data)
        yield image


def labeled_images(source: Source, unit: int) -> pa.Table:
    """Rows of images/ with status ok."""
    images = read_images(source.files, unit)
    return images.filter(pc.equal(images["status"], Status.OK))


def segments_by_image(files: RunFiles, unit: int) -> dict[int, list[dict[str, Any]]]:
    """Rows of segments/ by image id."""
    table = pq.read_table(pa.BufferReader(read_bytes(files.unit_file("segments", unit))))
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in table.replace_schema_metadata(None).cast(SEGMENTS_SCHEMA).to_pylist():
        found[row["image_id"]].append(row)
    return found


def saved_maps(source: Source, unit: int, images: pa.Table) -> Iterator[tuple[int, Labels, Quantised]]:
    """Index, class before thresholds and confidence of every labeled image, from masks/ in its order."""
    url = source.files.unit_file("masks", unit)
    wanted = {MASK_SUFFIXES["argmax_png"]: 0, MASK_SUFFIXES["confidence_png"]: 1}
    size = info(url).size
    with open_stream(url, size=size) as stream:
        found = iter(members(stream, size))
        for index, key in zip(images["index"].to_pylist(), images["key"].to_pylist(), strict=True):
            planes: dict[int, Labels] = {}
            while len(planes) < len(wanted):
                member = next(found, None)
                if member is None or not member.name.startswith(f"{key}."):
                    raise ExportError(f"unit {unit}: masks/ has no argmax and confidence of {key!r}; run verify")
                if (place := wanted.get(member.name[len(key) + 1 :])) is not None:
                    planes[place] = read_plane(stream.read(member.size))
            yield index, planes[0], planes[1]


def read_plane(data: bytes) -> Labels:
    """A greyscale PNG of 8 or 16 bits as uint8 or uint16 (H, W)."""
    plane = np.asarray(Image.open(io.BytesIO(data)))
    return plane if plane.dtype == np.uint8 else plane.astype(np.uint16)


def unit_pictures(unit: Unit, images: pa.Table) -> Iterator[tuple[int, bytes]]:
    """Index and file of the unit's labeled images, from the run's input. ExportError where they are not there."""
    keys = dict(zip(images["index"].to_pylist(), images["key"].to_pylist(), strict=True))
    for row in read_rows(unit, sorted(keys), None):
        if row["index"] in keys:
            if row["data"] is None or row["key"] != keys[row["index"]]:
                why = row["error"] or "another image stands at its place"
                raise ExportError(f"unit {unit.number}: {redact(unit.url)}: {why}; the input is not what was labeled")
            yield row["index"], row["data"]
        elif row["status"] in (Status.MISSING, Status.CHANGED) and row["index"] == 0:
            raise ExportError(f"unit {unit.number}: {row['error']}; leave --images out, or bring the input back")


def picture_extension(file_name: str, data: bytes) -> str:
    """What a copy of the picture is to end in: its name's extension, else by its first bytes."""
    extension = split_name(file_name)[1]
    if extension in IMAGE_EXTENSIONS:
        return extension
    return next((kind for magic, kind in MAGIC if data.startswith(magic)), "jpg")


def metadata(row: Mapping[str, Any]) -> bytes:
    """What a trainer may want of images/ beside picture and labels, as JSON."""
    names = ("image_id", "file_name", "width", "height", "coverage", "mean_confidence", "entropy", "categories")
    return json.dumps({"key": row["key"], **{name: row[name] for name in names}}, sort_keys=True).encode()


def is_untouched(target: Target, rules: Rules) -> bool:
    """Whether the run's own segments can be written as they are."""
    plain = not rules.needs_confidence and rules.min_area <= 1 and not rules.components
    return plain and target.identity

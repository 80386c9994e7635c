"""A chunk's part and a finished unit's files.

    commit_chunk(labeled, files, options)     # _parts/UUUUUUU/CCCCC.parquet, created once and whole
    finish_unit(unit, chunks, files, info)    # coco/, segments/, masks/, then images/: its existence commits the unit

No lock and no database: two listings say what is done. A writer that loses a race leaves everything alone.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scclip.pipeline.annotations import coco, schemas
from scclip.pipeline.annotations.label_map import LabeledImage
from scclip.pipeline.annotations.png import png
from scclip.pipeline.annotations.schemas import ImageRecord, PartImage, Status, records_of, rows_of
from scclip.pipeline.annotations.statistics import failed_record, labeled_record, part_table, split_part
from scclip.pipeline.inputs.chunks import Chunk, ResumePoint
from scclip.pipeline.inputs.readers.tar import tar_bytes
from scclip.pipeline.run.files import DIGESTS_KEY, SMALL, TOTALS_KEY, Metadata, RunFiles, parquet_bytes, read_table
from scclip.pipeline.run.names import tar_names
from scclip.pipeline.run.totals import totals
from scclip.pipeline.storage.files import create, exists, read_bytes, remove, replace

RESUME_KEY = b"resume"  # Parquet metadata of a part: where reading goes on after it


@dataclass(frozen=True, kw_only=True)
class CommitOptions:
    """What a part holds beside statistics and RLEs."""

    masks: bool = False
    """PNG masks."""
    image_ids: str = "plan"
    """plan (unit · 2^20 + index) or key (the key's own digits)."""
    dtype: npt.DTypeLike = np.uint8
    """Of the maps that hold categories: uint8 or uint16."""


def commit_chunk(labeled: Chunk, files: RunFiles, options: CommitOptions) -> pa.Table:
    """Writes the part of a labeled chunk, once, and returns its PART_SCHEMA table."""
    part = part_table(part_record(image, options) for image in records_of(labeled.images, LabeledImage))
    write_part(labeled, files, part, {})
    return part


def write_part(chunk: Chunk, files: RunFiles, part: pa.Table, metadata: Metadata) -> None:
    """Creates a chunk's part, with what `resume_after` needs and these keys in its metadata, unless it exists."""
    resume = {RESUME_KEY: chunk.resume.to_json().encode()} if chunk.resume else {}
    compression = "zstd" if part.nbytes > SMALL else "none"
    create(files.part(chunk.unit, chunk.number), parquet_bytes(part, {**metadata, **resume}, compression))


def part_record(image: LabeledImage, options: CommitOptions) -> PartImage:
    """An image as its part holds it: with id, statistics, RLEs and masks; or why it has none."""
    by_key = options.image_ids == "key"
    image.image_id = coco.key_image_id(image.key) if by_key else coco.image_id(image.unit, image.index)
    if image.status != Status.OK:
        return failed_record(image, image.status, image.error)
    if image.image_id is None:
        error = f"key {image.key!r} is no COCO image id: digits below 2^41 are; use --image-ids plan"
        return failed_record(image, Status.BAD_ID, error)
    summary = image.summary(options.dtype)
    wanted = {"labels_png": summary.labels} if options.masks else {}
    planes = wanted | {"argmax_png": summary.argmax, "confidence_png": summary.confidence}
    return labeled_record(image, summary, **{name: png(plane) for name, plane in planes.items() if plane is not None})


def read_parts(
    files: RunFiles, unit: int, chunks: int, schema: pa.Schema = schemas.PART_SCHEMA
) -> tuple[pa.Table, list[Metadata]] | None:
    """All parts of a unit as one table of this schema, and the metadata of each.

    None where another writer has finished the unit meanwhile: then what is left of its parts is removed.
    Raises FileNotFoundError where a part is missing and the unit is not finished.
    """
    try:
        parts = [read_table(files.part(unit, chunk)) for chunk in range(chunks)]
    except FileNotFoundError:
        if not exists(files.unit_file("images", unit)):
            raise
        remove_parts(files, unit, chunks)
        return None
    tables = [part.replace_schema_metadata(None).cast(schema) for part in parts]
    return pa.concat_tables([schema.empty_table(), *tables]), [part.schema.metadata or {} for part in parts]


def remove_parts(files: RunFiles, unit: int, chunks: int) -> None:
    """Removes all parts of a unit, and their folder."""
    remove((files.part(unit, chunk) for chunk in range(chunks)), prune=True)


def resume_after(files: RunFiles, unit: int, done: Iterable[int]) -> ResumePoint | None:
    """Where reading goes on after the unbroken run of parts from chunk 0; None: at the start."""
    present, unbroken = set(done), 0
    while unbroken in present:
        unbroken += 1
    if unbroken == 0:
        return None
    metadata = pq.read_schema(pa.BufferReader(read_bytes(files.part(unit, unbroken - 1)))).metadata or {}
    return ResumePoint.from_json(metadata[RESUME_KEY].decode()) if RESUME_KEY in metadata else None


def finish_unit(unit: int, chunks: int, files: RunFiles, categories: list[coco.Entry], info: coco.Entry) -> None:
    """Turns a unit's parts into its files, images/ last, then removes the parts.

    A unit that another writer finished meanwhile is left as it is. The parts must be complete: chunks 0 … `chunks` − 1.
    """
    if (parts := read_parts(files, unit, chunks)) is None:
        return
    part = refuse_repeated_ids(parts[0])
    images, segments = split_part(part)
    contents = {
        "coco": coco.dump(coco.document(images, segments, categories=categories, info=info)),
        "segments": parquet_bytes(segments, {}),
    }
    if any(part[name].null_count < len(part) for name in schemas.MASK_SUFFIXES):
        contents["masks"] = mask_tar(part)
    for kind, data in contents.items():
        create_anew(files.unit_file(kind, unit), data)
    digests = {kind: hashlib.sha256(data).hexdigest() for kind, data in contents.items()}
    sums = json.dumps(vars(totals(images, segments)), sort_keys=True)
    metadata = {DIGESTS_KEY: json.dumps(digests, sort_keys=True).encode(), TOTALS_KEY: sums.encode()}
    create(files.unit_file("images", unit), parquet_bytes(images, metadata))
    remove_parts(files, unit, chunks)


def create_anew(url: str, data: bytes) -> None:
    """Creates a file of an uncommitted unit; one that an interrupted writer left with other bytes is replaced."""
    if not create(url, data) and read_bytes(url) != data:
        replace(url, data)


def refuse_repeated_ids(part: pa.Table) -> pa.Table:
    """The part with every image whose id came before in the unit turned into a `bad_id` row (--image-ids key)."""
    labeled = np.flatnonzero(pc.equal(part["status"], Status.OK))
    _, first = np.unique(part["image_id"].take(labeled), return_index=True)
    repeated = np.delete(labeled, first)
    if not repeated.size:
        return part
    failed = []
    for image in records_of(part.select(schemas.IMAGES_SCHEMA.names).take(repeated), ImageRecord):
        error = f"image id {image.image_id} of key {image.key!r} occurs before in this unit; use --image-ids plan"
        failed.append(failed_record(image, Status.BAD_ID, error))
    order = np.arange(len(part))
    order[repeated] = len(part) + np.arange(repeated.size)
    return pa.concat_tables([part, part_table(failed)]).take(order)


def mask_tar(part: pa.Table) -> bytes:
    """`NAME.seg.png` and, where saved, `NAME.argmax.png` and `NAME.conf.png` of every labeled image, as a plain tar."""
    names = tar_names(part)
    return tar_bytes(
        (f"{names[index]}.{suffix}", data)
        for index, *planes in rows_of(part, "index", *schemas.MASK_SUFFIXES)
        for suffix, data in zip(schemas.MASK_SUFFIXES.values(), planes, strict=True)
        if data is not None
    )

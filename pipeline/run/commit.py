"""A chunk's part, a finished unit's files, and what a run already holds.

    commit_chunk(labeled, files, options)     # _parts/UUUUUUU/CCCCC.parquet, created once and whole
    finish_unit(unit, chunks, files, info)    # coco/, segments/, masks/, then images/: its existence commits the unit

No lock and no database: two listings say what is done. A writer that loses a race leaves everything alone.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from scclip.pipeline.annotations import coco
from scclip.pipeline.annotations.label_map import LabelMaps, label_maps
from scclip.pipeline.annotations.png import png
from scclip.pipeline.annotations.schemas import MASK_COLUMNS, PART_SCHEMA, Status
from scclip.pipeline.annotations.statistics import ImageIdentity, failed_row, labeled_row, part_table, split_part
from scclip.pipeline.inputs.chunks import Chunk, ResumePoint
from scclip.pipeline.inputs.readers.tar import tar_bytes
from scclip.pipeline.run.files import (
    DIGESTS_KEY,
    MASK_SUFFIXES,
    RESUME_KEY,
    TOTALS_KEY,
    Metadata,
    RunFiles,
    parquet_bytes,
    read_images,
)
from scclip.pipeline.run.totals import totals
from scclip.pipeline.storage.files import (
    create,
    exists,
    read_bytes,
    remove,
    remove_abandoned,
    replace,
)

ABANDONED = 3600  # seconds after which a temporary file has no writer any more: writing one takes seconds


@dataclass(frozen=True, kw_only=True)
class CommitOptions:
    """What a part holds beside statistics and RLEs."""

    masks: bool = False
    """PNG masks."""
    save_confidence: bool = False
    """PNGs of the class before thresholds and of its confidence."""
    image_ids: str = "plan"
    """plan (unit · 2^20 + index) or key (the key's own digits)."""
    dtype: npt.DTypeLike = np.uint8
    """Of the maps that hold categories: uint8 or uint16."""


def commit_chunk(labeled: Chunk, files: RunFiles, options: CommitOptions) -> pa.Table:
    """Writes the part of a labeled chunk, once, and returns its PART_SCHEMA table."""
    part = part_table([part_row(labeled.unit, row, options) for row in labeled.images.to_pylist()])
    write_part(labeled, files, part, {})
    return part


def write_part(chunk: Chunk, files: RunFiles, part: pa.Table, metadata: Metadata) -> None:
    """Creates a chunk's part, with what `resume_after` needs and these keys in its metadata, unless it exists."""
    resume = {RESUME_KEY: chunk.resume.to_json().encode()} if chunk.resume else {}
    create(files.part(chunk.unit, chunk.number), parquet_bytes(part, {**metadata, **resume}))


def part_row(unit: int, row: dict[str, Any], options: CommitOptions) -> dict[str, Any]:
    """A labeled image's row of a part: statistics, RLEs and masks; or its failure."""
    by_key = options.image_ids == "key"
    image_id = coco.key_image_id(row["key"]) if by_key else coco.image_id(unit, row["index"])
    names = ("key", "file_name", "index", "width", "height", "orientation", "metadata")
    identity = ImageIdentity(image_id=image_id, unit=unit, **{name: row[name] for name in names})
    if row["status"] != Status.OK:
        return failed_row(identity, status=row["status"], error=row["error"], seconds=row["seconds"])
    if image_id is None:
        error = f"key {row['key']!r} is no COCO image id: digits below 2^41 are; use --image-ids plan"
        return failed_row(identity, status=Status.BAD_ID, error=error, seconds=row["seconds"])
    result = label_maps(row, options.dtype)
    return labeled_row(identity, result, seconds=row["seconds"], masks=mask_pngs(result, options))


def mask_pngs(result: LabelMaps, options: CommitOptions) -> dict[str, bytes]:
    """The PNGs asked for, by part column."""
    wanted = {"labels_png": result.labels} if options.masks else {}
    if options.save_confidence:
        wanted |= {"argmax_png": result.argmax, "confidence_png": result.confidence}
    return {name: png(plane) for name, plane in wanted.items()}


def read_part(files: RunFiles, unit: int, chunk: int, schema: pa.Schema = PART_SCHEMA) -> tuple[pa.Table, Metadata]:
    """A part of this schema and its metadata."""
    table = pq.read_table(pa.BufferReader(read_bytes(files.part(unit, chunk))))
    return table.replace_schema_metadata(None).cast(schema), table.schema.metadata or {}


def read_parts(
    files: RunFiles, unit: int, chunks: int, schema: pa.Schema = PART_SCHEMA
) -> list[tuple[pa.Table, Metadata]] | None:
    """All parts of a unit; None where another writer has finished it meanwhile: then what is left of them is removed.

    Raises FileNotFoundError where a part is missing and the unit is not finished.
    """
    try:
        return [read_part(files, unit, chunk, schema) for chunk in range(chunks)]
    except FileNotFoundError:
        if not exists(files.unit_file("images", unit)):
            raise
        remove((files.part(unit, chunk) for chunk in range(chunks)), prune=True)
        return None


def resume_after(files: RunFiles, unit: int, done: Iterable[int]) -> ResumePoint | None:
    """Where reading goes on after the unbroken run of parts from chunk 0; None: at the start."""
    present, last = set(done), -1
    while last + 1 in present:
        last += 1
    if last < 0:
        return None
    metadata = pq.read_schema(pa.BufferReader(read_bytes(files.part(unit, last)))).metadata or {}
    return ResumePoint.from_json(metadata[RESUME_KEY].decode()) if RESUME_KEY in metadata else None


def finish_unit(
    unit: int, chunks: int, files: RunFiles, categories: list[dict[str, Any]], info: Mapping[str, Any]
) -> pa.Table:
    """Turns a unit's parts into its files, images/ last, then removes the parts; returns the images table.

    A unit that another writer finished meanwhile is left as it is. The parts must be complete: chunks 0 … `chunks` − 1.
    """
    parts = read_parts(files, unit, chunks)
    if parts is None:
        return read_images(files, unit)
    part = refuse_repeated_ids(pa.concat_tables([PART_SCHEMA.empty_table(), *(table for table, _ in parts)]))
    images, segments = split_part(part)
    contents = {
        "coco": coco.dump(coco.document(images.to_pylist(), segments.to_pylist(), categories=categories, info=info)),
        "segments": parquet_bytes(segments, {}),
    }
    if any(part[name].null_count < len(part) for name in MASK_COLUMNS):
        contents["masks"] = mask_tar(part)
    for kind, data in contents.items():
        create_anew(files.unit_file(kind, unit), data)
    digests = {kind: hashlib.sha256(data).hexdigest() for kind, data in contents.items()}
    sums = json.dumps(totals(images, segments).to_dict(), sort_keys=True)
    metadata = {DIGESTS_KEY: json.dumps(digests, sort_keys=True).encode(), TOTALS_KEY: sums.encode()}
    create(files.unit_file("images", unit), parquet_bytes(images, metadata))
    remove((files.part(unit, chunk) for chunk in range(chunks)), prune=True)
    return images


def create_anew(url: str, data: bytes) -> None:
    """Creates a file of an uncommitted unit; one that an interrupted attempt left with other bytes is replaced."""
    if not create(url, data) and read_bytes(url) != data:
        replace(url, data)


def refuse_repeated_ids(part: pa.Table) -> pa.Table:
    """The part with every image whose id came before in the unit turned into a `bad_id` row (--image-ids key)."""
    ids, seen, repeated = part["image_id"].to_pylist(), set[int](), list[int]()
    for place, (image_id, status) in enumerate(zip(ids, part["status"].to_pylist(), strict=True)):
        if status == Status.OK and image_id in seen:
            repeated.append(place)
        elif status == Status.OK:
            seen.add(image_id)
    if not repeated:
        return part
    rows = part.to_pylist()
    for place in repeated:
        identity = ImageIdentity(**{name: rows[place][name] for name in ImageIdentity.__dataclass_fields__})
        error = f"image id {ids[place]} of key {rows[place]['key']!r} occurs before in this unit; use --image-ids plan"
        rows[place] = failed_row(identity, status=Status.BAD_ID, error=error, seconds=rows[place]["seconds"])
    return part_table(rows)


def mask_tar(part: pa.Table) -> bytes:
    """`key.seg.png` and, where saved, `key.argmax.png` and `key.conf.png` of every labeled image, as a plain tar."""
    rows = part.select(["key", *MASK_COLUMNS]).to_pylist()
    return tar_bytes(
        (f"{row['key']}.{MASK_SUFFIXES[name]}", row[name])
        for row in rows
        for name in MASK_COLUMNS
        if row[name] is not None
    )


def uncommit(files: RunFiles, units: Iterable[int]) -> None:
    """Takes back finished units so that they are labeled again (--retry-failed): images/ first, then the rest."""
    for unit in units:
        remove([files.unit_file("images", unit)])
        remove(files.unit_file(kind, unit) for kind in ("segments", "coco", "masks"))


def tidy(files: RunFiles, finished: Collection[int]) -> None:
    """Removes what killed writers left behind: parts of finished units, and temporaries older than an hour."""
    stale = [files.part(unit, chunk) for unit, chunks in files.parts().items() if unit in finished for chunk in chunks]
    if stale:
        remove(stale, prune=True)
    remove_abandoned(files.output, ABANDONED)

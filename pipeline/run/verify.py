"""Checks a run from its files alone: is it whole, and do the files of every unit agree.

    for report in verify_units(files, units, run): ...   # one per finished unit, several at a time; flat memory

Nothing is taken from the code that wrote the files where it can be had twice: RLEs are decoded here by a reader of our
own, areas are summed up, documents are made again from the tables and compared byte by byte.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scclip.pipeline.annotations import coco
from scclip.pipeline.annotations.schemas import IMAGES_SCHEMA, SEGMENTS_SCHEMA, Status
from scclip.pipeline.inputs.readers.tar import TarError, members
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.run.files import DIGESTS_KEY, TOTALS_KEY, RunFiles
from scclip.pipeline.run.totals import Totals, totals
from scclip.pipeline.storage.files import list_files, read_bytes

AT_ONCE = 4  # units in memory
SHOWN = 3  # examples of one kind of mistake


@dataclass(frozen=True)
class UnitReport:
    """What was found in one finished unit."""

    unit: int
    problems: list[str]
    """One line each, empty for a sound unit."""
    totals: Totals
    ids: np.ndarray
    """(N,) int64 image ids of its labeled images."""


class Broken(Exception):
    """A file that cannot be read as what it should be."""


def verify_units(files: RunFiles, units: Sequence[Unit], run: Mapping[str, Any]) -> Iterator[UnitReport]:
    """Reports on finished units, in order; `run` is the content of run.json. Raises StorageError."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for first in range(0, len(units), 8 * AT_ONCE):  # results wait in memory only within such a group
            yield from threads.map(verify_unit, repeat(files), units[first : first + 8 * AT_ONCE], repeat(run))


def verify_unit(files: RunFiles, unit: Unit, run: Mapping[str, Any]) -> UnitReport:
    """One finished unit's files against each other and against the plan."""
    try:
        images, metadata = read_table(files, "images", unit.number, IMAGES_SCHEMA)
        digests, sums = json.loads(metadata[DIGESTS_KEY]), Totals.from_json(metadata[TOTALS_KEY])
    except (Broken, KeyError, ValueError, TypeError) as error:
        return UnitReport(unit.number, [f"images/: {reason(error)}"], Totals(), np.empty(0, np.int64))
    problems = [*images_problems(images, unit, run), *options_problems(digests, run)]
    for kind, digest in digests.items():
        problems += digest_problems(files, kind, unit.number, digest)
    if not problems:  # what follows reads the other files, which are those that images/ was written with
        problems = [*segments_problems(files, unit.number, images, sums), *masks_problems(files, unit, images, digests)]
    ids = images.filter(pc.equal(images["status"], Status.OK))["image_id"].to_numpy()
    return UnitReport(unit.number, problems, sums, ids.astype(np.int64))


def read_table(files: RunFiles, kind: str, unit: int, schema: pa.Schema) -> tuple[pa.Table, dict[bytes, bytes]]:
    """A unit's table of `schema` and its file's metadata; Broken where it is none."""
    try:
        table = pq.read_table(pa.BufferReader(read_bytes(files.unit_file(kind, unit))))
        return table.replace_schema_metadata(None).cast(schema), table.schema.metadata or {}
    except FileNotFoundError:
        raise Broken("is missing") from None
    except (pa.ArrowException, ValueError) as error:
        raise Broken(f"cannot be read: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def images_problems(images: pa.Table, unit: Unit, run: Mapping[str, Any]) -> Iterator[str]:
    """Rows: every index once and in order, ids as the run makes them, a reason for every failure."""
    index, failed = images["index"].to_pylist(), images.filter(pc.not_equal(images["status"], Status.OK))
    if index != list(range(len(index))):
        yield f"images/: {len(index)} rows whose indices are not 0 to {len(index) - 1}: images are missing or repeated"
    if set(images["unit"].to_pylist()) - {unit.number}:
        yield "images/: holds rows of another unit"
    if run["options"]["image_ids"] == "plan":
        pairs = zip(images["image_id"].to_pylist(), index, strict=True)
        wrong = [str(found) for found, place in pairs if found != coco.image_id(unit.number, place)]
        yield from some("images/: image ids that are not unit·2^20 + index", wrong)
    if failed["error"].null_count:
        yield f"images/: {failed['error'].null_count} failed images without a reason"


def options_problems(digests: Mapping[str, str], run: Mapping[str, Any]) -> Iterator[str]:
    """Which files belong to a unit is said by the run's options."""
    for kind in ("coco", "segments"):
        if kind not in digests:
            yield f"images/: names no {kind}/ file"
    if "masks" in digests and run["options"]["masks"] == "none" and not run["options"]["save_confidence"]:
        yield "images/: names a masks/ file, and the run writes none"


def digest_problems(files: RunFiles, kind: str, unit: int, digest: str) -> Iterator[str]:
    """A file whose bytes are not those that the unit was committed with."""
    try:
        found = hashlib.sha256(read_bytes(files.unit_file(kind, unit))).hexdigest()
    except FileNotFoundError:
        yield f"{kind}/: is missing"
        return
    if found != digest:
        yield f"{kind}/: its SHA-256 is {found[:12]}…, images/ says {digest[:12]}…: it was changed after the commit"


def segments_problems(files: RunFiles, unit: int, images: pa.Table, sums: Totals) -> Iterator[str]:
    """Counts, areas and RLEs of the segments; the document against the tables."""
    try:
        segments, _ = read_table(files, "segments", unit, SEGMENTS_SCHEMA)
        found = json.loads(read_bytes(files.unit_file("coco", unit)))
        again = coco.document(images, segments, categories=found["categories"], info=found["info"])
        rows = segments.to_pylist()
    except (Broken, ValueError, KeyError, TypeError) as error:
        yield f"segments/ or coco/: {reason(error)}"
        return
    if found != again:
        yield "coco/: its images and annotations are not those of the tables"
    if totals(images, segments) != sums:
        yield "images/: its totals are not the sums over its rows and segments"
    sizes = {row["image_id"]: (row["height"], row["width"]) for row in images.to_pylist() if row["status"] == Status.OK}
    yield from some(
        "segments/: RLEs that do not decode to their area", [bad for row in rows for bad in bad_rle(row, sizes)]
    )
    yield from covered_problems(images, rows)


def bad_rle(row: Mapping[str, Any], sizes: Mapping[int, tuple[int, int]]) -> Iterator[str]:
    """Image and category of a segment whose RLE is not what it says."""
    size, name = tuple(row["rle"]["size"]), f"{row['image_id']}/{row['category_id']}"
    try:
        counts = run_lengths(row["rle"]["counts"])
    except ValueError as error:
        yield f"{name} ({error})"
        return
    whole = bool((counts >= 0).all()) and int(counts.sum()) == size[0] * size[1]
    if not whole or size != sizes.get(row["image_id"]) or int(counts[1::2].sum()) != row["area"]:
        yield name


def run_lengths(text: str) -> np.ndarray:
    """(R,) int64 run lengths, zeros first, of COCO's compressed counts; ValueError where the text is none."""
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    if codes.size == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("no compressed counts")
    last = np.flatnonzero(codes & 32 == 0)  # of each number: 5 bits a character, lowest first, 32 where more follow
    first = np.append(0, last[:-1] + 1)
    length = last - first + 1
    if length.max() > 7:
        raise ValueError("a count of more than 35 bits")
    shift = 5 * (np.arange(codes.size) - np.repeat(first, length))
    values = np.add.reduceat((codes & 31) << shift, first)
    values -= np.where(codes[last] & 16, np.int64(1) << 5 * length, 0)  # the top bit is the sign
    values[1::2] = np.cumsum(values[1::2])  # each number is a difference to the one two before
    values[2::2] = np.cumsum(values[2::2])
    return values


def covered_problems(images: pa.Table, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Segments, background and ignored pixels of a labeled image are its pixels, each once."""
    areas: dict[int, int] = {}
    for row in rows:
        areas[row["image_id"]] = areas.get(row["image_id"], 0) + row["area"]
    wrong = []
    for row in images.select(
        ["image_id", "status", "width", "height", "background_fraction", "ignored_fraction"]
    ).to_pylist():
        if row["status"] == Status.OK:
            pixels = row["width"] * row["height"]
            rest = (row["background_fraction"] + row["ignored_fraction"]) * pixels
            wrong += [str(row["image_id"])] if areas.pop(row["image_id"], 0) + round(rest) != pixels else []
    yield from some("segments/: images whose segments do not add up to their pixels", wrong)
    yield from some("segments/: images that images/ does not have as labeled", list(map(str, areas)))


def masks_problems(files: RunFiles, unit: Unit, images: pa.Table, digests: Mapping[str, str]) -> Iterator[str]:
    """The mask tar is whole and has every labeled image the same number of times."""
    if "masks" not in digests:
        return
    data, labeled = read_bytes(files.unit_file("masks", unit.number)), images["status"].to_pylist().count(Status.OK)
    try:
        count = sum(1 for _ in members(io.BytesIO(data), len(data)))
    except TarError as error:
        yield f"masks/: {error}"
        return
    if labeled and (count % labeled or not count):
        yield f"masks/: {count} files for {labeled} labeled images"


def some(what: str, names: Sequence[str]) -> Iterator[str]:
    """One line for all mistakes of a kind, the first few by name."""
    if names:
        more = ", …" if len(names) > SHOWN else ""
        yield f"{what}: {len(names)} ({', '.join(names[:SHOWN])}{more})"


@dataclass(frozen=True)
class Leftovers:
    """What is not in its final place."""

    begun: dict[int, int]
    """Parts of units that are not finished: a rerun goes on from them."""
    stale: dict[int, int]
    """Parts of finished units: a rerun removes them."""
    halves: list[str]
    """Files of units that are not committed: a rerun writes them again or finds them right."""
    temporaries: list[str]
    """Names that a killed writer never published."""
    strangers: list[str]
    """Files of units that the plan does not have."""


def leftovers(files: RunFiles, units: Sequence[Unit]) -> Leftovers:
    """What a crash, or somebody else, left in the run's folders."""
    finished, planned, parts = files.finished(), {unit.number for unit in units}, files.parts()
    halves, temporaries, strangers = [], [], []
    for file in list_files(files.output):
        folder, name = file.url.rsplit("/", 2)[1:]
        inside = f"{folder}/{name}"
        stem = name.split(".")[0]
        if name.startswith(".") and name.endswith(".tmp"):
            temporaries.append(inside)
        elif folder in ("coco", "segments", "masks", "images") and stem.isdigit():
            if int(stem) not in planned:
                strangers.append(inside)
            elif int(stem) not in finished:
                halves.append(inside)
    begun = {unit: len(chunks) for unit, chunks in parts.items() if unit not in finished}
    stale = {unit: len(chunks) for unit, chunks in parts.items() if unit in finished}
    return Leftovers(begun, stale, halves, temporaries, strangers)

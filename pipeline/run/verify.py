"""Checks a run by its files alone: that it is complete, and that the files of every unit agree.

    for report in verify_units(files, units, run): ...   # one per finished unit, several at a time; flat memory

As little as possible is shared with the code that wrote the files: RLEs have a decoder of their own here, areas are
summed up anew, COCO documents are made again from the tables and compared.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scclip.errors import one_line
from scclip.pipeline.annotations import coco
from scclip.pipeline.annotations.schemas import IMAGES_SCHEMA, SEGMENTS_SCHEMA, Status, labeled_rows, rows_of
from scclip.pipeline.inputs.readers.tar import TarError, members
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.run.files import DIGESTS_KEY, TOTALS_KEY, RunFiles
from scclip.pipeline.run.manifest import RunManifest
from scclip.pipeline.run.totals import Totals, totals
from scclip.pipeline.storage.files import list_files, read_bytes
from scclip.wording import counted

AT_ONCE = 4  # units in memory
SHOWN = 3  # examples of one kind of mistake


@dataclass(frozen=True)
class UnitReport:
    """The result for one finished unit."""

    unit: int
    problems: list[str]
    """One line each, empty for a sound unit."""
    totals: Totals
    ids: np.ndarray
    """(N,) int64 image ids of its labeled images."""


class Broken(Exception):
    """A file is missing or cannot be read as what it should be."""


def verify_units(files: RunFiles, units: Sequence[Unit], run: RunManifest) -> Iterator[UnitReport]:
    """Reports on finished units, in order; `run` is its manifest. Raises StorageError."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for first in range(0, len(units), 8 * AT_ONCE):  # results wait in memory only within such a group
            yield from threads.map(verify_unit, repeat(files), units[first : first + 8 * AT_ONCE], repeat(run))


def verify_unit(files: RunFiles, unit: Unit, run: RunManifest) -> UnitReport:
    """Compares one finished unit's files with each other and with the plan."""
    try:
        images, metadata = read_table(files, "images", unit.number, IMAGES_SCHEMA)
        digests, sums = json.loads(metadata[DIGESTS_KEY]), Totals.from_json(metadata[TOTALS_KEY])
    except (Broken, KeyError, ValueError, TypeError) as error:
        return UnitReport(unit.number, [f"images/: {one_line(error)}"], Totals(), np.empty(0, np.int64))
    labeled = labeled_rows(images)
    problems = [*images_problems(images, unit, run), *options_problems(digests, run)]
    for kind, digest in digests.items():
        problems += digest_problems(files, kind, unit.number, digest)
    if not problems:  # what follows reads the other files, which are those that images/ was written with
        problems += segments_problems(files, unit.number, images, sums)
        problems += masks_problems(files, unit, len(labeled)) if "masks" in digests else []
    return UnitReport(unit.number, problems, sums, labeled["image_id"].to_numpy().astype(np.int64))


def read_table(files: RunFiles, kind: str, unit: int, schema: pa.Schema) -> tuple[pa.Table, dict[bytes, bytes]]:
    """Reads a unit's table of `schema` and its file's metadata; Broken where that fails."""
    try:
        table = files.table(kind, unit)
        return table.replace_schema_metadata(None).cast(schema), table.schema.metadata or {}
    except FileNotFoundError:
        raise Broken("is missing") from None
    except (pa.ArrowException, ValueError) as error:
        raise Broken(f"cannot be read: {one_line(error)}") from None


def images_problems(images: pa.Table, unit: Unit, run: RunManifest) -> Iterator[str]:
    """Checks the rows: every index once and in order, ids as the run makes them, a reason for every failure."""
    index, failed = images["index"].to_pylist(), images.filter(pc.not_equal(images["status"], Status.OK))
    if index != list(range(len(index))):
        rows = f"{counted(len(index), 'row')} whose indices are not 0 to {len(index) - 1}"
        yield f"images/: {rows}: images are missing or repeated"
    if set(images["unit"].to_pylist()) - {unit.number}:
        yield "images/: holds rows of another unit"
    if run.options.image_ids == "plan":
        ids = rows_of(images, "image_id", "index")
        wrong = [str(given) for given, position in ids if given != coco.image_id(unit.number, position)]
        yield from some("images/: image ids that are not unit·2^20 + index", wrong)
    if failed["error"].null_count:
        yield f"images/: {counted(failed['error'].null_count, 'failed image')} without a reason"


def options_problems(digests: Mapping[str, str], run: RunManifest) -> Iterator[str]:
    """Checks that the unit has the files that the run's options ask for."""
    for kind in ("coco", "segments"):
        if kind not in digests:
            yield f"images/: names no {kind}/ file"
    if "masks" in digests and run.options.masks == "none" and not run.options.save_confidence:
        yield "images/: names a masks/ file, and the run writes none"


def digest_problems(files: RunFiles, kind: str, unit: int, digest: str) -> Iterator[str]:
    """Checks that a file's bytes are those that the unit was committed with."""
    try:
        actual = hashlib.sha256(read_bytes(files.unit_file(kind, unit))).hexdigest()
    except FileNotFoundError:
        yield f"{kind}/: is missing"
        return
    if actual != digest:
        yield f"{kind}/: its SHA-256 is {actual[:12]}…, images/ says {digest[:12]}…: it was changed after the commit"


def segments_problems(files: RunFiles, unit: int, images: pa.Table, sums: Totals) -> Iterator[str]:
    """Checks counts, areas and RLEs of the segments, and the COCO document against the tables."""
    try:
        segments, _ = read_table(files, "segments", unit, SEGMENTS_SCHEMA)
        written = json.loads(read_bytes(files.unit_file("coco", unit)))
        expected = coco.document(images, segments, categories=written["categories"], info=written["info"])
    except (Broken, ValueError, KeyError, TypeError) as error:
        yield f"segments/ or coco/: {one_line(error)}"
        return
    if written != expected:
        yield "coco/: its images and annotations are not those of the tables"
    if totals(images, segments) != sums:
        yield "images/: its totals are not the sums over its rows and segments"
    labeled = labeled_rows(images)
    yield from some("segments/: RLEs that do not decode to their area", list(bad_rles(labeled, segments)))
    yield from covered_problems(labeled, segments)


def bad_rles(labeled: pa.Table, segments: pa.Table) -> Iterator[str]:
    """Yields IMAGE/CATEGORY of every segment whose RLE does not have its image's size or its area."""
    sizes = {image: [height, width] for image, height, width in rows_of(labeled, "image_id", "height", "width")}
    for image, category, area, rle in rows_of(segments, "image_id", "category_id", "area", "rle"):
        try:
            counts = run_lengths(rle["counts"])
        except ValueError as error:
            yield f"{image}/{category} ({error})"
            continue
        size = rle["size"]
        whole = bool((counts >= 0).all()) and int(counts.sum()) == size[0] * size[1]
        if not whole or size != sizes.get(image) or int(counts[1::2].sum()) != area:
            yield f"{image}/{category}"


def run_lengths(text: str) -> np.ndarray:
    """Returns (R,) int64 run lengths, zeros first, of COCO's compressed counts; ValueError for other text."""
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


def covered_problems(labeled: pa.Table, segments: pa.Table) -> Iterator[str]:
    """Checks that segments, background and ignored pixels of a labeled image add up to its pixels."""
    sums = segments.group_by("image_id", use_threads=False).aggregate([("area", "sum")])
    areas = dict(rows_of(sums, "image_id", "area_sum"))
    columns = rows_of(labeled, "image_id", "width", "height", "background_fraction", "ignored_fraction")
    wrong = [
        str(image)
        for image, width, height, *rest in columns
        if areas.pop(image, 0) + round(sum(rest) * (width * height)) != width * height
    ]
    yield from some("segments/: images whose segments do not add up to their pixels", wrong)
    yield from some("segments/: images that images/ does not have as labeled", list(map(str, areas)))


def masks_problems(files: RunFiles, unit: Unit, labeled: int) -> Iterator[str]:
    """Checks that the mask tar is complete and holds the same number of files for every labeled image."""
    data = read_bytes(files.unit_file("masks", unit.number))
    try:
        count = sum(1 for _ in members(io.BytesIO(data), len(data)))
    except TarError as error:
        yield f"masks/: {error}"
        return
    if labeled and (count % labeled or not count):
        yield f"masks/: {counted(count, 'file')} for {counted(labeled, 'labeled image')}"


def some(what: str, names: Sequence[str]) -> Iterator[str]:
    """Yields one line for all mistakes of a kind, which names the first few."""
    if names:
        more = ", …" if len(names) > SHOWN else ""
        yield f"{what}: {len(names)} ({', '.join(names[:SHOWN])}{more})"


@dataclass(frozen=True)
class Leftovers:
    """Files of a run that are not final."""

    begun: dict[int, int]
    """Parts of units that are not finished: a rerun goes on from them."""
    stale: dict[int, int]
    """Parts of finished units: a rerun removes them."""
    uncommitted: list[str]
    """Files of units that are not committed: a rerun writes them again or finds them right."""
    temporaries: list[str]
    """Temporary files of killed writers."""
    unexpected: list[str]
    """Files of units that are not in the plan."""


def leftovers(files: RunFiles, units: Sequence[Unit]) -> Leftovers:
    """Lists what a crash, or another program, left in the run's folders."""
    finished, planned, parts = files.finished(), {unit.number for unit in units}, files.parts()
    uncommitted, temporaries, unexpected = [], [], []
    for file in list_files(files.output):
        folder, name = file.url.rsplit("/", 2)[1:]
        inside, stem = f"{folder}/{name}", name.split(".")[0]
        if name.startswith(".") and name.endswith(".tmp"):
            temporaries.append(inside)
        elif folder in ("coco", "segments", "masks", "images") and stem.isdigit():
            if int(stem) not in planned:
                unexpected.append(inside)
            elif int(stem) not in finished:
                uncommitted.append(inside)
    begun = {unit: len(chunks) for unit, chunks in parts.items() if unit not in finished}
    stale = {unit: len(chunks) for unit, chunks in parts.items() if unit in finished}
    return Leftovers(begun, stale, uncommitted, temporaries, unexpected)

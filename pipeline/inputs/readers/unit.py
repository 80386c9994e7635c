"""Reads a unit, a shard or a group of image files, as chunks of encoded images, the same ones on every call.

>>> for chunk in read_unit(unit, ChunkLimits(images=256), done=frozenset(), resume=None): ...
"""

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar

from scclip.pipeline.annotations.schemas import Status, records_of
from scclip.pipeline.inputs.chunks import Chunk, ChunkLimits, EncodedImage, ResumePoint, chunked, encoded_chunk
from scclip.pipeline.inputs.readers.registry import READERS
from scclip.pipeline.inputs.units import MAX_IMAGES, PlannedFile, Unit, difference
from scclip.pipeline.storage.files import info, is_local
from scclip.pipeline.storage.retries import StorageError

PlannedT = TypeVar("PlannedT", Unit, PlannedFile)


def read_unit(
    unit: Unit,
    limits: ChunkLimits,
    done: Collection[int] = frozenset(),
    resume: ResumePoint | None = None,
    truth: str | None = None,
    careful: Callable[[int | None], str | None] | None = None,
) -> Iterator[Chunk]:
    """Reads the chunks of a unit that are not in `done`, in order, then the unit's end; the same on every call.

    A shard that is gone or is not the planned one is not read: one row `missing` or `changed` stands for all images
    that are not done yet.

    Args:
        unit: a unit of a plan.
        limits: where chunks close.
        done: numbers of the chunks that exist.
        resume: where to go on; all chunks before `resume.chunk` must be in `done`. None: at the start.
        truth: extension (tar, image files) or column (tables) of the ground truth that goes into the images' `truth`.
        careful: where a process died over this unit: called with the index of every image before it is read, with None
            afterwards. A reason means that a file, or a shard from there on, is one row `killed_worker` instead.

    Raises:
        StorageError: the storage fails for good; the data may be fine.
    """
    start = resume or ResumePoint()
    problem = None if unit.files else difference(unit)
    if problem:
        yield from _refused(unit, *problem, done, start)
        return
    ends = list[tuple[int, str]]()
    if careful and unit.files:
        reading = _careful_files(unit, start, truth, careful)
    elif careful:
        reading = _careful_rows(unit, start, truth, careful, ends)
    else:
        reading = READERS[unit.kind].read(unit, start, truth)
    rows = iter(()) if start.end else _unchanged(_within(_opened(unit, start, reading), unit), unit)
    for chunk in chunked(unit.number, rows, limits, done, start):
        if chunk.last and ends:
            index, reason = ends[0]
            rest = ResumePoint(chunk=chunk.number, index=index)
            yield from _refused(unit, Status.KILLED_WORKER, reason, done, rest)
        else:
            yield chunk


def _refused(unit: Unit, status: Status, reason: str, done: Collection[int], start: ResumePoint) -> Iterator[Chunk]:
    """The row that says why, in the first chunk that is missing; further gaps before done chunks become empty."""
    number = next(number for number in range(start.chunk, len(done) + start.chunk + 1) if number not in done)
    chunks = max([number, *done]) + 1
    if not start.end:
        end = ResumePoint(chunk=chunks, index=start.index + 1, end=True)
        row = EncodedImage.failed_shard(unit.url, start.index, reason, status)
        yield encoded_chunk(unit.number, number, [row], end)
        for gap in sorted(set(range(number + 1, chunks)).difference(done)):
            yield encoded_chunk(unit.number, gap, [], end)
    yield encoded_chunk(unit.number, start.chunk if start.end else chunks, last=True)


def _careful_rows(
    unit: Unit,
    start: ResumePoint,
    truth: str | None,
    watch: Callable[[int | None], str | None],
    ends: list[tuple[int, str]],
) -> Iterator[EncodedImage]:
    """The rows of a shard, each announced before it is read; ends before the one to blame and notes it in `ends`."""
    rows, index = READERS[unit.kind].read(unit, start, truth), start.index
    while not (reason := watch(index)):
        row = next(rows, None)
        watch(None)
        if row is None:
            return
        yield row
        index = row.index + 1
    ends.append((index, reason))


def _careful_files(
    unit: Unit, start: ResumePoint, truth: str | None, watch: Callable[[int | None], str | None]
) -> Iterator[EncodedImage]:
    """The rows of a group of files, one file at a time, each announced; those to blame are not opened."""
    for index, file in enumerate(unit.files[start.index :], start.index):
        if reason := watch(index):
            name, status = file.file_name, Status.KILLED_WORKER
            row = EncodedImage(index=index, key=file.key, file_name=name, status=status, error=reason)
        else:
            alone = dataclasses.replace(unit, files=unit.files[: index + 1])
            (row,) = READERS[unit.kind].read(alone, ResumePoint(index=index), truth)
            watch(None)
        yield row


def _opened(unit: Unit, start: ResumePoint, rows: Iterator[EncodedImage]) -> Iterator[EncodedImage]:
    """The rows of a unit; one that says why where a local shard may not be read (a store's rights are of all files)."""
    try:
        first = next(rows, None)
    except PermissionError as error:
        if not is_local(unit.url):
            raise
        first = EncodedImage.failed_shard(unit.url, start.index, str(error), Status.UNREADABLE)
    return itertools.chain([first] if first else [], rows)


def _unchanged(rows: Iterator[EncodedImage], unit: Unit) -> Iterator[EncodedImage]:
    """The rows; StorageError after the last one where the shard was replaced meanwhile: it must not be committed."""
    yield from rows
    if problem := None if unit.files else difference(unit):
        raise StorageError(f"while it was being read, {problem[1]}; run the same command again")


def _within(rows: Iterator[EncodedImage], unit: Unit) -> Iterator[EncodedImage]:
    """The rows up to the unit's limit; all images above MAX_IMAGES become one row that says so."""
    for row in rows:
        if unit.image_limit is not None and row.index >= unit.image_limit:
            return
        if row.index == MAX_IMAGES - 1 and next(rows, None):
            row.data, row.truth, row.status = None, None, Status.BAD_SHARD
            row.error = (
                f"more than {MAX_IMAGES:,} images in one shard; this one and those after it were not read: split it"
            )
            yield row
            return
        yield row


def retimed(unit: Unit) -> Unit:
    """The unit with the times that its local files have now, where they differ from the plan in nothing but their time.

    Whoever reads it compares keys and pictures with what is known of them. Elsewhere a version stands for the content,
    so that the unit stays as it was planned, and `read_unit` refuses what has changed. So does what has another size.
    """
    if not unit.files:
        return _retimed(unit)
    files = tuple(map(_retimed, unit.files))
    return unit if files == unit.files else dataclasses.replace(unit, files=files)


def _retimed(planned: PlannedT) -> PlannedT:
    if not is_local(planned.url):
        return planned
    try:
        now = info(planned.url)
    except OSError:
        return planned  # reading it says what is wrong
    if now.size != planned.size or now.version == planned.version:
        return planned
    return dataclasses.replace(planned, version=now.version)


def read_encoded(unit: Unit, indices: Sequence[int], truth: str | None = None) -> Iterator[EncodedImage]:
    """Reads the encoded images of a unit from the first of `indices` to the last."""
    limits = ChunkLimits(images=8)
    for chunk in read_unit(unit, limits, resume=ResumePoint(index=indices[0]), truth=truth):
        if chunk.last:
            return
        images = records_of(chunk.images, EncodedImage)
        yield from images
        if images[-1].index >= indices[-1]:
            return

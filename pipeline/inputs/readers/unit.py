"""Reading a unit: a shard or a group of files as deterministic chunks of encoded images (sections 2 and 6).

>>> for chunk in read_unit(unit, ChunkLimits(images=256), done=frozenset(), resume=None): ...
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.inputs.chunks import (
    Chunk,
    ChunkLimits,
    EncodedImage,
    ResumePoint,
    chunked,
    encoded_chunk,
    unit_end,
)
from scclip.pipeline.inputs.names import normalize_extension, split_name
from scclip.pipeline.inputs.readers import parquet, webdataset
from scclip.pipeline.inputs.units import PlannedFile, Unit
from scclip.pipeline.storage import files as storage
from scclip.pipeline.storage.retries import StorageError, redact

MAX_IMAGES = 2**20  # of a unit: the index's share of an image id
FILES_AHEAD = 16  # small remote files in flight: latency, not bandwidth, is what they cost


def read_unit(
    unit: Unit,
    limits: ChunkLimits,
    done: Collection[int] = frozenset(),
    resume: ResumePoint | None = None,
    truth: str | None = None,
) -> Iterator[Chunk]:
    """The chunks of a unit that are not in `done`, in order, then the unit's end; the same on every call.

    Args:
        limits: where chunks close.
        done: numbers of the chunks that exist; `resume` may be given if all those before `resume.chunk` are among them.
        truth: extension (tar, files) or column (Parquet) of the ground truth that goes into the images' `truth`.

    A shard that vanished or is not the planned one is not read: one row `missing` or `changed` stands for what is not
    done yet. Raises StorageError where reading fails for good; then nothing is wrong with the data.
    """
    start = resume or ResumePoint()
    problem = _difference(unit)
    if problem:
        yield from _refused(unit, *problem, done, start)
        return
    rows = iter(()) if start.end else _unchanged(_within(_rows(unit, start, truth), unit), unit)
    yield from chunked(unit.number, rows, limits, done, start)


def _difference(unit: Unit) -> tuple[Status, str] | None:
    """(status, reason) where the shard is not what was planned, None where it is (files are looked at one by one)."""
    return None if unit.kind == "files" else _compare(unit.url, unit.size, unit.version)


def _compare(url: str, size: int, version: str) -> tuple[Status, str] | None:
    planned = f"planned with {size:,} bytes, version {version!r}"
    if size < 0:
        return Status.MISSING, f"{redact(url)} did not exist when the run was planned"
    try:
        found = storage.info(url)
    except FileNotFoundError:
        return Status.MISSING, f"{redact(url)} is gone; {planned}"
    if (found.size, found.version) == (size, version):
        return None
    return (
        Status.CHANGED,
        f"{redact(url)} has changed: {planned}; found {found.size:,} bytes, version {found.version!r}",
    )


def _refused(unit: Unit, status: Status, reason: str, done: Collection[int], start: ResumePoint) -> Iterator[Chunk]:
    """The row that says why, in the first chunk that is missing; further gaps before done chunks become empty."""
    number = next(number for number in range(start.chunk, len(done) + start.chunk + 1) if number not in done)
    chunks = max([number, *done]) + 1
    name = unit.url.rpartition("/")[2]
    if not start.end:
        row = EncodedImage(index=start.index, key=name, file_name=name, status=status, error=reason)
        yield encoded_chunk(unit.number, number, [row], ResumePoint(chunk=chunks, index=start.index + 1, end=True))
        for gap in (gap for gap in range(number + 1, chunks) if gap not in done):
            yield encoded_chunk(unit.number, gap, [], ResumePoint(chunk=chunks, index=start.index + 1, end=True))
    yield unit_end(unit.number, start.chunk if start.end else chunks)


def _unchanged(rows: Iterator[EncodedImage], unit: Unit) -> Iterator[EncodedImage]:
    """Looks again once all is read: a shard that was replaced meanwhile must not be committed."""
    yield from rows
    if problem := _difference(unit):
        raise StorageError(f"while it was being read, {problem[1]}; run the same command again")


def _within(rows: Iterator[EncodedImage], unit: Unit) -> Iterator[EncodedImage]:
    """The rows up to the unit's limit; what passes MAX_IMAGES becomes one row that says so."""
    for row in rows:
        if unit.image_limit is not None and row.index >= unit.image_limit:
            return
        if row.index == MAX_IMAGES - 1 and unit.kind == "tar" and next(rows, None):
            reason = (
                f"more than {MAX_IMAGES:,} images in one shard; this one and those after it were not read: split it"
            )
            row.data, row.truth, row.status, row.error = None, None, Status.BAD_SHARD, reason
            yield row
            return
        yield row


def _rows(unit: Unit, start: ResumePoint, truth: str | None) -> Iterator[EncodedImage]:
    if unit.kind == "tar":
        return webdataset.read_rows(unit.url, unit.size, start=start, truth=truth)
    if unit.kind == "parquet":
        return parquet.read_rows(unit.url, unit.size, unit.row_start, unit.row_stop, first=start.index, truth=truth)
    return _file_rows(unit.files, start.index, truth)


def _file_rows(files: Iterable[PlannedFile], first: int, truth: str | None) -> Iterator[EncodedImage]:
    """Image files in order, remote ones read several at a time."""
    waiting: deque[Future[EncodedImage]] = deque()
    with ThreadPoolExecutor(FILES_AHEAD // 2) as threads:
        for index, file in enumerate(files):
            if index >= first:
                waiting.append(threads.submit(_file_row, index, file, truth))
            if len(waiting) == FILES_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _file_row(index: int, file: PlannedFile, truth: str | None) -> EncodedImage:
    row = EncodedImage(index=index, key=file.key, file_name=file.file_name)
    if problem := _compare(file.url, file.size, file.version):
        row.status, row.error = problem
        return row
    try:
        row.data = storage.read_bytes(file.url, expected_size=file.size)
    except PermissionError as error:
        row.status, row.error = Status.UNREADABLE, str(error)
        return row
    row.truth = _beside(file.url, truth) if truth else None
    return row


def _beside(url: str, truth: str) -> bytes | None:
    """The ground truth that lies beside an image file, None where there is none."""
    try:
        return storage.read_bytes(f"{split_name(url)[0]}.{normalize_extension(truth)}")
    except FileNotFoundError:
        return None


def read_rows(unit: Unit, indices: Sequence[int], truth: str | None) -> Iterator[dict[str, Any]]:
    """Encoded images of a unit from the first index to the last, as rows of chunks.ENCODED_SCHEMA."""
    limits = ChunkLimits(images=8)
    for chunk in read_unit(unit, limits, resume=ResumePoint(index=indices[0]), truth=truth):
        if chunk.last:
            return
        rows = chunk.images.to_pylist()
        yield from rows
        if rows[-1]["index"] >= indices[-1]:
            return

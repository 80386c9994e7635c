"""Groups of image files, remote ones read several at a time.

>>> for image in ImageFilesReader().read(unit, ResumePoint(), truth="seg.png"): ...
"""

import contextlib
import dataclasses
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.inputs.chunks import EncodedImage, ResumePoint
from scclip.pipeline.inputs.names import normalize_extension, split_name
from scclip.pipeline.inputs.refusals import MAX_BODY, too_large
from scclip.pipeline.inputs.units import PlannedFile, Unit, difference
from scclip.pipeline.storage.files import is_http, read_bytes, read_start
from scclip.pipeline.storage.retries import StorageError

FILES_PER_UNIT = 256
FILES_AHEAD, BYTES_AHEAD = 16, 2**26  # small remote files in flight: latency, not bandwidth, is what they cost


class ImageFilesReader:
    """Reads image files; a file that changed or is gone becomes an image with a status of its own."""

    endings: tuple[str, ...] = ()
    counts_by_reading = False

    def plan(self, draft: Unit) -> list[Unit]:
        units = []
        for first in range(0, len(draft.files), FILES_PER_UNIT):
            files = draft.files[first : first + FILES_PER_UNIT]
            folder, size = files[0].url.rpartition("/")[0], sum(max(file.size, 0) for file in files)
            units.append(dataclasses.replace(draft, url=folder, size=size, files=files))
        return units

    def count(self, unit: Unit, limit: int | None = None) -> int:
        return len(unit.files)

    def read(self, unit: Unit, start: ResumePoint, truth: str | None) -> Iterator[EncodedImage]:
        waiting, ahead = deque[tuple[int, Future[EncodedImage]]](), 0
        with ThreadPoolExecutor(FILES_AHEAD // 2) as threads:
            for index, file in enumerate(unit.files[start.index :], start.index):
                while waiting and (len(waiting) == FILES_AHEAD or ahead + file.size > BYTES_AHEAD):
                    size, reading = waiting.popleft()
                    ahead -= size
                    yield reading.result()
                waiting.append((file.size, threads.submit(_read_file, index, file, truth)))
                ahead += file.size
            while waiting:
                yield waiting.popleft()[1].result()

    def fraction(self, unit: Unit, point: ResumePoint) -> float:
        return min(1.0, point.index / max(1, len(unit.files)))


def _read_file(index: int, file: PlannedFile, truth: str | None) -> EncodedImage:
    image = EncodedImage(index=index, key=file.key, file_name=file.file_name)
    try:
        problem = difference(file) or too_large(file.size)
        if not problem:
            image.data = read_bytes(file.url, expected_size=file.size)
    except PermissionError as error:
        problem = Status.UNREADABLE, str(error)
    except StorageError as error:
        if not is_http(file.url):  # every file of a web server has faults of its own, those of a store are of all files
            raise
        problem = Status.UNREADABLE, str(error)
    if problem:
        image.status, image.error = problem
    elif truth:
        image.truth = _read_truth(split_name(file.url)[0], truth.lstrip("."))
    return image


def _read_truth(stem: str, ending: str) -> bytes | None:
    """The file beside an image, its ending as it was given or in one case; None where there is none to read."""
    for each in dict.fromkeys([ending, normalize_extension(ending), ending.upper()]):
        with contextlib.suppress(FileNotFoundError):
            truth = read_start(f"{stem}.{each}", MAX_BODY + 1)
            return None if too_large(len(truth)) else truth
    return None

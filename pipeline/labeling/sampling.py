"""What a run will cost, from a sample that takes the real way through every stage, into a scratch folder.

sample = take_sample(units, job)                   # job.files is a scratch folder
estimate = extrapolate(sample, images, sample.rate)
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import ray

from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.inputs.chunks import Chunk, ChunkLimits
from scclip.pipeline.inputs.decoding import decode_chunk
from scclip.pipeline.inputs.plan import count_images
from scclip.pipeline.inputs.readers.registry import READERS
from scclip.pipeline.inputs.readers.unit import read_unit
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.job import LabelJob
from scclip.pipeline.storage.files import join, list_files

UNITS, IMAGES = 4, 8  # of the sample: units, and the first images of each
KINDS = ("images", "segments", "coco", "masks")  # folders of finished units
COUNTED = 8  # shards that are read to count their images; the others are taken to be like them, by their bytes
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the sample took; seconds are sums over its images."""

    images: int
    labeled: int
    windows: int
    cpu_seconds: float
    """Reading, decoding, committing."""
    label_seconds: float | None
    """Of one actor at the pace of a run; None where no living node holds one."""
    output_bytes: int
    encoded_bytes: int = 0
    """Of the images, as they were read."""

    @property
    def rate(self) -> float | None:
        """Images per second of one actor; None where that was not measured."""
        return self.images / self.label_seconds if self.label_seconds else None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What all units will take."""

    windows: int
    cpu_hours: float
    actor_hours: float | None
    output_bytes: int


def count_all(units: Sequence[Unit]) -> tuple[int, bool]:
    """(images, whether all were counted); of shards that only reading counts, most are estimated by their bytes."""
    unread = [unit for unit in units if READERS[unit.kind].counts_by_reading]
    exact = sum(count_images(unit) for unit in units if not READERS[unit.kind].counts_by_reading)
    counted = spread(unread, COUNTED)
    images = sum(map(count_images, counted))
    if len(counted) == len(unread):
        return exact + images, True
    rest = sum(unit.size for unit in unread) / max(1, sum(unit.size for unit in counted))
    return exact + round(images * rest), False


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many items, at equal distances."""
    step = max(1.0, len(items) / most)
    return [items[int(index * step)] for index in range(min(most, len(items)))]


def images_about(units: Sequence[Unit], image_bytes: float) -> int:
    """The images of these units; of shards that only reading counts, by their bytes, if an image has so many."""
    unread = [unit for unit in units if READERS[unit.kind].counts_by_reading]
    exact = sum(count_images(unit) for unit in units if not READERS[unit.kind].counts_by_reading)
    return exact + round(sum(max(0, unit.size) for unit in unread) / image_bytes)


def take_sample(units: Sequence[Unit], job: LabelJob, images: int = IMAGES) -> Sample:
    """Runs the first `images` of a few units through every stage; writes only below `job.files`."""
    some = [replace(unit, image_limit=min(images, unit.image_limit or images)) for unit in spread(units, UNITS)]
    began = time.perf_counter()
    encoded = [chunk for unit in some for chunk in read_unit(unit, job.limits)]
    decoded = [decode_chunk(chunk, job.decode) for chunk in encoded if not chunk.last]
    before = time.perf_counter() - began
    labeled, label_seconds = label_there(decoded, job) if job.resources.fitting else ([], None)
    began = time.perf_counter()
    parts = [job.commit(chunk, job.files) for chunk in labeled]
    for end in encoded:
        if end.last and parts:
            job.finish(end.unit, end.number, job.files)
    after = time.perf_counter() - began
    statuses = [status for part in parts for status in part["status"].to_pylist()]
    return Sample(
        images=sum(len(chunk.images) for chunk in decoded),
        labeled=statuses.count(Status.OK),
        windows=sum(number or 0 for part in parts for number in part["windows"].to_pylist()),
        cpu_seconds=before + after,
        label_seconds=label_seconds,
        output_bytes=sum(file.size for kind in KINDS for file in list_files(join(job.files.output, kind))),
        encoded_bytes=sum(pc.sum(pc.binary_length(chunk.images["data"])).as_py() or 0 for chunk in encoded),
    )


def label_there(chunks: Sequence[Chunk], job: LabelJob) -> tuple[list[Chunk], float]:
    """The labeled chunks and the seconds that one actor of the run needs for them, on a node that holds one."""
    share = job.resources
    task = ray.remote(num_cpus=share.actor_cpus, num_gpus=share.gpus_per_actor, max_retries=0)(label_chunks)
    result: tuple[list[Chunk], float] = ray.get(task.remote(job.spec, list(chunks), share.calls_in_flight, job.limits))
    return result


def label_chunks(spec: Any, chunks: Sequence[Chunk], calls: int, limits: ChunkLimits) -> tuple[list[Chunk], float]:
    """The labeled chunks and the seconds they take in a run of `calls` at a time, the model's first call left out."""
    labeler = spec.start()
    labeler(chunks[0])
    began = time.perf_counter()
    labeled = [labeler(chunk) for chunk in chunks]
    seconds = time.perf_counter() - began
    return labeled, seconds if calls == 1 else seconds_together(labeler, chunks, calls, limits)


def seconds_together(
    labeler: Callable[[Chunk], Chunk], chunks: Sequence[Chunk], calls: int, limits: ChunkLimits
) -> float:
    """The seconds that the images of these chunks take in full chunks, `calls` of them at a time.

    One small chunk after the other would leave a GPU waiting, and its batches of windows half empty.
    """
    images = pa.concat_tables([chunk.images for chunk in chunks])
    repeats = min(limits.images // len(images), 3 * limits.pixels // max(1, images["rgb"].nbytes))
    full = chunks[0].with_images(pa.concat_tables([images] * repeats)) if repeats else None
    work = [full] * calls if full else chunks
    began = time.perf_counter()
    with ThreadPoolExecutor(calls) as threads:
        list(threads.map(labeler, work))
    return (time.perf_counter() - began) * len(images) / sum(len(chunk.images) for chunk in work)


def extrapolate(sample: Sample, images: int, rate: float | None) -> Estimate:
    """The sample's figures for so many images, of which an actor labels `rate` per second."""
    factor = images / max(1, sample.images)
    return Estimate(
        windows=round(sample.windows * factor),
        cpu_hours=sample.cpu_seconds * factor / 3600,
        actor_hours=None if rate is None else images / rate / 3600,
        output_bytes=round(sample.output_bytes * factor),
    )

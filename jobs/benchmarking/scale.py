"""`scclip bench scale`: the cost of Ray and the driver for up to a million images, without a model.

    scclip bench scale --images 10000 100000
    scclip bench scale --images 1000000 --workdir /data/scale
    scclip bench scale --shards 1000 10000 --shard-images 2
    scclip bench scale --shards 100000 --shard-images 2 --plan-only
    scclip bench scale --files 1000000

Tar shards of small JPEGs go through the graph of `scclip label`, with constant label maps in the place of the model's.
The shards are hard links to a few files. In the end `scclip label` itself runs on the finished output and must find
nothing to do. `--files` plans plain image files and reads 1 % of them, without Ray.
"""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from scclip.demo.scenes import scene
from scclip.encoder.config import ModelConfig
from scclip.errors import JobFailed
from scclip.jobs.benchmarking.measuring import memory_mib, report
from scclip.jobs.cli.cluster import Cluster, local_or_cluster
from scclip.jobs.cli.options import OptionParser
from scclip.jobs.options.label import LabelOptions
from scclip.jobs.setup.finished import asked_for, remember
from scclip.jobs.setup.labeling import LabelingSetup, create_run
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.pipeline.inputs.chunks import ChunkLimits
from scclip.pipeline.inputs.groups import grouped
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.readers.tar import tar_bytes
from scclip.pipeline.inputs.readers.unit import read_unit
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.graph import label_units
from scclip.pipeline.labeling.job import LabelJob
from scclip.pipeline.labeling.labeler import Labeler
from scclip.pipeline.labeling.models import find_model, load_vocabulary
from scclip.pipeline.review.drawing import encoded
from scclip.pipeline.run.generations import write_generation
from scclip.segmentation.statistics import SegmentationSummary
from scclip.segmentation.types import Segmentation, SegmentationOptions, SegmenterConfig
from scclip.wording import counted

LINKS = 10_000  # to one file, and plain files in one folder: ext4 allows 65,000 links
SAMPLE_EVERY = 8  # outcomes between two looks at the driver's memory


@dataclass(frozen=True, kw_only=True)
class BenchScaleOptions:
    """What is measured."""

    images: tuple[int, ...] = (10_000, 100_000)
    """Number of images in each run, ascending."""
    shards: tuple[int, ...] = ()
    """Number of shards in each run, each of `shard_images`; in place of `images`."""
    files: tuple[int, ...] = ()
    """Number of plain image files in each run, planned, and read to 1 %; in place of `images`."""
    shard_images: int = 10_000
    """Images in a tar shard."""
    plan_only: bool = False
    """Plan the shards and measure what that takes; label nothing."""
    side: int = 32
    """Width and height of the images in pixels."""
    chunk_size: int = 256
    """Images per chunk; 256 is the default of label on a GPU."""
    workdir: str | None = None
    """Folder in which shards and labels are written, and from which they are removed at the end [a temporary one]."""

    def __post_init__(self) -> None:
        for name in ("shard_images", "side", "chunk_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        if min((1, *self.shards, *self.files)) < 1:
            raise ValueError(f"shards {self.shards} and files {self.files} must be numbers from 1 up")
        if not self.images or min(self.images) < 1:
            raise ValueError(f"images {self.images} must be numbers from 1 up")


class StandIn:
    """Stands in for a `LabelerSpec` and its `WindowSegmenter`: every image gets the same two categories, at no cost."""

    config, device = SegmenterConfig(), torch.device("cpu")

    def start(self) -> Labeler:
        """A labeler that works without a model."""
        segmenter: Any = self
        return Labeler(segmenter)

    def summarise_variants(
        self, images: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], scores: bool
    ) -> list[tuple[SegmentationSummary, ...]]:
        """Labels images by their sizes alone."""
        return [(SegmentationSummary.of(self.halves(*size), scores),) for size in sizes]

    def halves(self, height: int, width: int) -> Segmentation:
        """Category 1 on the left half, category 2 on the right half, both with full confidence."""
        labels, other, sure = (np.full((height, width), value, np.uint8) for value in (1, 2, 255))
        labels[:, width // 2 :], other[:, width // 2 :] = 2, 1
        return Segmentation(labels, labels, sure, other, sure, entropy=0.0, anomaly_tokens=0, windows=1)


def main(argv: Sequence[str]) -> int:
    """Parses the options, measures each number of images, prints."""
    (options,) = OptionParser("bench scale", __doc__.split("\n\n")[0], [BenchScaleOptions]).parse(argv)
    images = [shards * options.shard_images for shards in options.shards]
    images = images if images or options.files else list(options.images)
    work = [(measure_files, count) for count in options.files]
    work += [(measure_plan if options.plan_only else measure, count) for count in images]
    root = Path(tempfile.mkdtemp(prefix="scclip-scale-", dir=options.workdir))
    try:
        for number, (what, count) in enumerate(work):
            figures = what(count, options, root / str(number))
            report("scale", options, figures, [list(figures), list(figures.values())], "cpu")
            shutil.rmtree(root / str(number))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return 0


def measure(count: int, options: BenchScaleOptions, root: Path) -> dict[str, float]:
    """Labels `count` images, then runs `scclip label` on the finished output; returns the figures by name."""
    shards, output = root / "shards", root / "labels"
    number = write_shards(shards, count, options)
    label = LabelOptions(inputs=(str(shards),), output=str(output), chunk_size=options.chunk_size)
    with local_or_cluster("bench", None) as cluster:
        job, units, plan_seconds = prepare(label, cluster)
        figures = follow(units, job)
    if figures["images"] != count:
        raise JobFailed(f"{figures['images']:,} of {counted(count, 'image')} came out")
    files = [path for path in output.rglob("*") if path.is_file() and path.parent != output]
    objects = sum(path.parent.name != "plan" for path in files)
    return figures | {
        "shards": number,
        "plan_bytes_per_task": plan_bytes(units),
        "plan_s": round(plan_seconds, 3),
        "objects": objects,
        "objects_per_shard": round(objects / number, 3),
        "recognise_s": round(recognise(label), 2),
    }


def measure_plan(count: int, options: BenchScaleOptions, root: Path) -> dict[str, float]:
    """Plans shards that hold `count` images, twice: as a first call does and as a call that finds nothing new."""
    number = write_shards(root / "shards", count, options)
    began = time.perf_counter()
    units = plan_units([str(root / "shards")])
    planned = time.perf_counter()
    if len(units) != number or plan_units([str(root / "shards")], units):
        raise JobFailed(f"of {number:,} shards {len(units):,} were planned")
    again = time.perf_counter()
    figures = {"shards": number, "plan_s": round(planned - began, 3), "plan_again_s": round(again - planned, 3)}
    return figures | {"plan_bytes_per_task": plan_bytes(units), "driver_mib": memory_mib("VmHWM")}


def measure_files(count: int, options: BenchScaleOptions, root: Path) -> dict[str, float]:
    """Plans `count` plain image files and reads every hundredth unit; returns the figures by name."""
    body = jpeg(scene(0, options.side, options.side)[0])
    first: Path | None = None
    for number in range(count):
        path = root / f"{number // LINKS:05d}" / f"{number:08d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if first is None or number % LINKS == 0:  # a file has a limited number of links
            first = path
            path.write_bytes(body)
        else:
            os.link(first, path)
    began = time.perf_counter()
    units = plan_units([str(root)])
    planned = time.perf_counter()
    chosen = units[::100]
    images = sum(len(chunk.images) for unit in chosen for chunk in read_unit(unit, ChunkLimits()))
    read = time.perf_counter() - planned
    if sum(len(unit.files) for unit in units) != count or images != sum(len(unit.files) for unit in chosen):
        raise JobFailed(f"of {count:,} files not all were planned, or {images:,} read")
    return {
        "files": count,
        "units": len(units),
        "plan_ms_per_file": round(1000 * (planned - began) / count, 4),
        "read_files": images,
        "read_ms_per_file": round(1000 * read / images, 4),
        "plan_bytes_per_task": plan_bytes(units),
        "driver_mib": memory_mib("VmHWM"),
    }


def plan_bytes(units: Sequence[Unit]) -> int:
    """The most bytes of the plan that a reading task is given."""
    return max(len(pickle.dumps(group)) for group in grouped(units))


def write_shards(folder: Path, count: int, options: BenchScaleOptions) -> int:
    """Writes tar shards that hold `count` images in all, full ones as links to one file; returns their number."""
    folder.mkdir(parents=True)
    full, rest = divmod(count, options.shard_images)
    bodies = [jpeg(scene(seed, options.side, options.side)[0]) for seed in range(16)]
    first: Path | None = None
    for number in range(full + bool(rest)):
        path = folder / f"{number:05d}.tar"
        if first is not None and number < full and number % LINKS:
            os.link(first, path)
            continue
        path.write_bytes(numbered_tar(bodies, options.shard_images if number < full else rest))
        first = path
    return full + bool(rest)


def numbered_tar(bodies: Sequence[bytes], count: int) -> bytes:
    """A tar archive of `count` JPEGs, the `bodies` in turn."""
    return tar_bytes((f"{index:06d}.jpg", bodies[index % len(bodies)]) for index in range(count))


def jpeg(image: np.ndarray) -> bytes:
    """Encodes an image, (H, W, 3) uint8 RGB, as JPEG."""
    return encoded(Image.fromarray(image), "JPEG", quality=90)


def prepare(label: LabelOptions, cluster: Cluster) -> tuple[LabelJob, list[Unit], float]:
    """The job and the units of `scclip label` with the stand-in as its model, and the seconds that the plan took."""
    cluster.start()
    resources = replace(cluster.divide(ComputeConfig()), threads=1)
    vocabulary = load_vocabulary(label.vocabulary)
    source = find_model(ModelConfig(), cuda=False)
    setup = LabelingSetup(label, source, SegmentationOptions(), ComputeConfig(), vocabulary, cuda=False)
    files = setup.files
    create_run(files, setup.manifest())
    remember(files, asked_for(label, ModelConfig(), SegmentationOptions(), ComputeConfig(), vocabulary))
    began = time.perf_counter()
    units = write_generation(files, [], setup.new_units([]), lambda seen: [])
    seconds = time.perf_counter() - began
    spec: Any = StandIn()
    return setup.job_of(files, resources, spec), units, seconds


def follow(units: Sequence[Unit], job: LabelJob) -> dict[str, float]:
    """Runs the graph; returns the rate from the first outcome on, and the time and memory of the driver."""
    began, images, chunks, memory = time.perf_counter(), 0, 0, [driver_memory()]
    first, first_cpu, first_images = began, time.process_time(), 0
    for number, outcome in enumerate(label_units(units, job)):
        images, chunks = images + outcome.images, chunks + (not outcome.last)
        if number == 0:
            first, first_cpu, first_images = time.perf_counter(), time.process_time(), images
        if number % SAMPLE_EVERY == 0:
            memory.append(driver_memory())
    seconds, cpu = time.perf_counter() - first, time.process_time() - first_cpu
    return {
        "images": images,
        "chunks": chunks,
        "seconds": round(time.perf_counter() - began, 2),
        "images_per_s": round((images - first_images) / seconds, 1),
        "driver_ms_per_chunk": round(1000 * cpu / max(1, chunks - 1), 3),
        "driver_ms_per_unit": round(1000 * cpu / len(units), 3),
        "ms_per_unit": round(1000 * seconds / len(units), 3),
        "driver_mib": max(resident for resident, _ in memory),
        "driver_own_mib": max(own for _, own in memory),
    }


def driver_memory() -> tuple[int, int]:
    """MiB of this process that are resident, and those of them that no other process shares."""
    return memory_mib(), memory_mib("RssAnon")


def recognise(label: LabelOptions) -> float:
    """Seconds that `scclip label` takes, with its start, to recognise that a run is finished."""
    command = [sys.executable, "-m", "scclip", "label", *label.inputs, label.output]
    began = time.perf_counter()
    done = subprocess.run([*command, "--chunk-size", str(label.chunk_size)], capture_output=True, text=True)
    if done.returncode or "nothing to do" not in done.stdout:
        raise JobFailed(f"the finished run was not recognised: {(done.stdout + done.stderr).strip()[-200:]}")
    return time.perf_counter() - began

"""`scclip bench scale`: the cost of Ray and the driver for up to a million images, without a model.

    scclip bench scale --images 10000 100000
    scclip bench scale --images 1000000 --workdir /data/scale

Tar shards of small JPEGs go through the graph of `scclip label`, with constant label maps in the place of the model's.
The shards are hard links to one file. In the end `scclip label` itself runs on the finished output and must find
nothing to do.
"""

import os
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
from scclip.jobs.setup.labeling import LabelingSetup, create_run
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.pipeline.inputs.readers.tar import tar_bytes
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.graph import label_units
from scclip.pipeline.labeling.job import LabelJob
from scclip.pipeline.labeling.labeler import Labeler
from scclip.pipeline.labeling.models import find_model, load_vocabulary
from scclip.pipeline.review.drawing import encoded
from scclip.pipeline.run.generations import write_generation
from scclip.segmentation.statistics import SegmentationSummary
from scclip.segmentation.types import Segmentation, SegmentationOptions, SegmenterConfig

SAMPLE_EVERY = 8  # outcomes between two looks at the driver's memory


@dataclass(frozen=True, kw_only=True)
class BenchScaleOptions:
    """What is measured."""

    images: tuple[int, ...] = (10_000, 100_000)
    """Number of images in each run, ascending."""
    shard_images: int = 10_000
    """Images in a tar shard."""
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
    root = Path(tempfile.mkdtemp(prefix="scclip-scale-", dir=options.workdir))
    try:
        rows: list[list[Any]] = []
        for count in options.images:
            figures = measure(count, options, root / str(count))
            head = ["images", "images/s", "driver ms/chunk", "driver MiB", "objects/shard", "plan s", "recognised s"]
            names = ("images", "images_per_s", "driver_ms_per_chunk", "driver_mib", "objects_per_shard")
            rows.append([figures[name] for name in (*names, "plan_s", "recognise_s")])
            report("scale", options, figures, [head, *rows], "cpu")
            shutil.rmtree(root / str(count))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return 0


def measure(count: int, options: BenchScaleOptions, root: Path) -> dict[str, float]:
    """Labels `count` images, then runs `scclip label` on the finished output; returns the figures by name."""
    shards, output = root / "shards", root / "labels"
    number = write_shards(shards, count, options)
    label = LabelOptions(inputs=(str(shards),), output=str(output), chunk_size=options.chunk_size)
    with local_or_cluster(None) as cluster:
        job, units, plan_seconds = prepare(label, cluster)
        figures = follow(units, job)
    if figures["images"] != count:
        raise JobFailed(f"{figures['images']:,} of {count:,} images came out")
    files = [path for path in output.rglob("*") if path.is_file() and path.parent != output]
    objects = sum(path.parent.name != "plan" for path in files)
    return figures | {
        "shards": number,
        "plan_s": round(plan_seconds, 3),
        "objects": objects,
        "objects_per_shard": round(objects / number, 3),
        "recognise_s": round(recognise(label), 2),
    }


def write_shards(folder: Path, count: int, options: BenchScaleOptions) -> int:
    """Writes tar shards that hold `count` images in all, full ones as links to one file; returns their number."""
    folder.mkdir(parents=True)
    full, rest = divmod(count, options.shard_images)
    bodies = [jpeg(scene(seed, options.side, options.side)[0]) for seed in range(16)]
    first: Path | None = None
    for number in range(full + bool(rest)):
        path = folder / f"{number:05d}.tar"
        if first is not None and number < full:
            os.link(first, path)
            continue
        path.write_bytes(numbered_tar(bodies, options.shard_images if number < full else rest))
        first = first or path
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
    began = time.perf_counter()
    units = write_generation(files, [], setup.new_units([]), lambda seen: [])
    seconds = time.perf_counter() - began
    spec: Any = StandIn()
    return setup.job_of(files, resources, spec), units, seconds


def follow(units: Sequence[Unit], job: LabelJob) -> dict[str, float]:
    """Runs the graph; returns the rate from the first outcome on, and the time and memory of the driver."""
    began, images, chunks, memory = time.perf_counter(), 0, 0, [memory_mib()]
    first, first_cpu, first_images = began, time.process_time(), 0
    for number, outcome in enumerate(label_units(units, job)):
        images, chunks = images + outcome.images, chunks + (not outcome.last)
        if number == 0:
            first, first_cpu, first_images = time.perf_counter(), time.process_time(), images
        if number % SAMPLE_EVERY == 0:
            memory.append(memory_mib())
    seconds = time.perf_counter() - first
    return {
        "images": images,
        "chunks": chunks,
        "seconds": round(time.perf_counter() - began, 2),
        "images_per_s": round((images - first_images) / seconds, 1),
        "driver_ms_per_chunk": round(1000 * (time.process_time() - first_cpu) / max(1, chunks - 1), 3),
        "driver_mib": max(memory),
    }


def recognise(label: LabelOptions) -> float:
    """Seconds that `scclip label` takes, with its start, to recognise that a run is finished."""
    command = [sys.executable, "-m", "scclip", "label", *label.inputs, label.output]
    began = time.perf_counter()
    done = subprocess.run([*command, "--chunk-size", str(label.chunk_size)], capture_output=True, text=True)
    if done.returncode or "nothing to do" not in done.stdout:
        raise JobFailed(f"the finished run was not recognised: {(done.stdout + done.stderr).strip()[-200:]}")
    return time.perf_counter() - began

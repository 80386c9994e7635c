"""`scclip bench pipeline`: the Ray job against a plain loop that does the same work.

    scclip bench pipeline --model demo
    scclip bench pipeline --model ViT-B-16 --random --pictures 96

Both read the same tar shard, decode, label, encode and write the same parts; the loop does so in one process with as
many PyTorch threads as the job's actor has. The two run in turn. Both rates count from the first committed chunk to the
last, so that the start costs neither of them.
"""

import functools
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
import torch

from scclip.categories import Categories
from scclip.encoder.config import ModelConfig
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.jobs.benchmarking.measuring import report
from scclip.jobs.benchmarking.model import BenchModelOptions as ModelOptions
from scclip.jobs.benchmarking.model import Subject, drawn_text, load_subject, picture_side, pictures
from scclip.jobs.benchmarking.scale import jpeg, numbered_tar
from scclip.jobs.cli.cluster import local_or_cluster
from scclip.jobs.cli.options import OptionParser
from scclip.pipeline.annotations import coco
from scclip.pipeline.cluster.resources import ComputeConfig, Resources
from scclip.pipeline.inputs.chunks import ChunkLimits
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.graph import label_units
from scclip.pipeline.labeling.job import LabelJob
from scclip.pipeline.labeling.labeler import LabelerSpec
from scclip.pipeline.run.commit import CommitOptions, commit_chunk, finish_unit
from scclip.pipeline.run.files import RunFiles


@dataclass(frozen=True, kw_only=True)
class BenchPipelineOptions:
    """What is measured."""

    random: bool = False
    """Use pseudo-random weights instead of trained ones: works for any open_clip ViT, without a download."""
    pictures: int = 192
    """Images in one run."""
    size: str = "640x480"
    """Size of the images, WIDTHxHEIGHT; they are drawn scenes in JPEG."""
    queries: int = 21
    """Number of queries; their text features are pseudo-random."""
    chunk_size: int = 16
    """Images per chunk; the first chunk does not count for the rate."""
    repeats: int = 5
    """Runs of the job and of the loop; the median is reported."""

    def __post_init__(self) -> None:
        picture_side(self.size)
        if self.pictures < 2 * self.chunk_size:
            raise ValueError(f"pictures {self.pictures} must fill at least two chunks of {self.chunk_size}")


def main(argv: Sequence[str]) -> int:
    """Parses the options, measures, prints."""
    groups = [BenchPipelineOptions, ModelConfig]
    options, model = OptionParser("bench pipeline", __doc__.split("\n\n")[0], groups).parse(argv)
    subject = load_subject(ModelOptions(random=options.random), model)
    with tempfile.TemporaryDirectory(prefix="scclip-pipeline-") as folder, local_or_cluster("bench", None) as cluster:
        cluster.start()
        resources = cluster.divide(ComputeConfig())
        images = pictures(8, picture_side(options.size))
        units = [write_shard(Path(folder) / "shard.tar", images, options.pictures)]
        rates: dict[str, list[float]] = {"loop": [], "ray": []}
        for number in range(options.repeats):
            for name, run in (("loop", loop_marks), ("ray", ray_marks)):
                job = make_job(f"{folder}/{name}{number}", subject, options, resources)
                rates[name].append(steady_rate(run(units, job)))
    show(subject, options, resources, rates)
    return 0


def write_shard(path: Path, images: Sequence[np.ndarray], count: int) -> Unit:
    """Writes a tar shard of `count` JPEGs, the images in turn; returns its unit."""
    path.write_bytes(numbered_tar([jpeg(image) for image in images], count))
    return plan_units([str(path)])[0]


def make_job(output: str, subject: Subject, options: BenchPipelineOptions, resources: Resources) -> LabelJob:
    """The labeling job for these images, which writes to `output`."""
    empty, arrays = SelfCalibratedCLIP(subject.clip.visual, subject.calibration).to_arrays()
    categories = Categories({index: f"class {index}" for index in range(1, options.queries + 1)})
    spec = LabelerSpec(
        empty=empty,
        arrays=arrays,
        text_features=drawn_text(options.queries, subject.clip.visual.output_dim).numpy(),
        query_category=tuple(categories),
        segmenter=subject.config,
        precision=subject.precision,
        device=resources.device,
        threads=resources.threads,
    )
    return LabelJob(
        files=RunFiles(output),
        spec=spec,
        resources=resources,
        limits=ChunkLimits(images=options.chunk_size),
        commit=functools.partial(commit_chunk, options=CommitOptions(dtype=categories.dtype)),
        finish=functools.partial(finish_unit, categories=coco.categories(categories), info={}),
    )


def loop_marks(units: Sequence[Unit], job: LabelJob) -> Iterator[tuple[float, int]]:
    """Runs the plain loop; yields time and number of images of every committed chunk."""
    for part in job.run_here(units):
        yield time.perf_counter(), len(part)


def ray_marks(units: Sequence[Unit], job: LabelJob) -> Iterator[tuple[float, int]]:
    """Runs the Ray job; yields time and number of images of every chunk when the driver hears that it is committed."""
    for outcome in label_units(units, job):
        if not outcome.last:
            yield time.perf_counter(), outcome.images


def steady_rate(marks: Iterator[tuple[float, int]]) -> float:
    """Images per second from the first committed chunk to the last."""
    times, images = zip(*marks, strict=True)
    return float(sum(images[1:]) / (times[-1] - times[0]))


def show(subject: Subject, options: BenchPipelineOptions, resources: Resources, rates: dict[str, list[float]]) -> None:
    """Prints the rates of the loop and the job and their ratio, as a table and as a line of JSON."""
    ratios = [one / other for one, other in zip(rates["ray"], rates["loop"], strict=True)]
    shown = {name: [f"{statistics.median(x):.3f}", f"{min(x):.3f}–{max(x):.3f}"] for name, x in rates.items()}
    compared = [f"{statistics.median(ratios):.3f}", f"{min(ratios):.3f}–{max(ratios):.3f}"]
    rows = [["", "images/s", "spread", "ratio", "spread"], ["loop", *shown["loop"], "", ""]]
    rows.append(["ray", *shown["ray"], *compared])
    figures = {
        "images_per_s": {name: [round(rate, 4) for rate in runs] for name, runs in rates.items()},
        "ratio": round(statistics.median(ratios), 4),
        "ratios": [round(value, 4) for value in ratios],
        "threads": resources.threads or torch.get_num_threads(),
        "ray": ray.__version__,
        "model": subject.name,
        "precision": subject.precision,
    }
    report("pipeline", options, figures, rows, subject.device)

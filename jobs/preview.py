"""`scclip preview INPUT --vocabulary …`: labels a few images, spread over the input, and shows them on one page.

    scclip preview photos/ --vocabulary words.txt --model ViT-B-16-quickgelu --pretrained openai

For the loop of writing a vocabulary: in this process, without Ray; no run is kept, and nothing is opened.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from scclip.encoder.checkpoints import load_clip
from scclip.encoder.config import ModelConfig
from scclip.jobs.cli.errors import warn
from scclip.jobs.cli.progress import duration
from scclip.jobs.cli.talk import say, tell
from scclip.jobs.options.label import LabelOptions
from scclip.jobs.options.preview import PreviewOptions
from scclip.jobs.pages.run import render_run
from scclip.jobs.setup.labeling import LabelingSetup, create_run
from scclip.pipeline.cluster.resources import ComputeConfig, Shape, divide
from scclip.pipeline.inputs.passed_over import PassedOver
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.models import find_model, load_vocabulary, load_warnings
from scclip.pipeline.labeling.sampling import spread
from scclip.pipeline.review.report import ReportLimits, gather
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.generations import write_generation
from scclip.pipeline.storage import files as storage
from scclip.segmentation.types import SegmentationOptions
from scclip.wording import counted

PAGE_BYTES = 16 * 2**20  # of all pictures: room for as many as --images allows
KEPT = "none: a preview keeps no run"


def preview(options: PreviewOptions, model: ModelConfig, segmentation: SegmentationOptions) -> int:
    """Labels, writes the page and prints its path; returns 0. UserError where options, input or output are wrong."""
    began, vocabulary, cuda = time.monotonic(), load_vocabulary(options.vocabulary), torch.cuda.is_available()
    warn(load_warnings(model, vocabulary), "preview")
    page = storage.from_root(options.output)
    with tempfile.TemporaryDirectory() as folder:
        as_label = LabelOptions(
            inputs=options.inputs, output=folder, exif=options.exif, image_column=options.image_column
        )
        compute = ComputeConfig(gpus_per_actor=float(cuda))
        setup = LabelingSetup(as_label, find_model(model, cuda), segmentation, compute, vocabulary, cuda)
        passed = PassedOver()
        units = some_of(setup.new_units([], passed), options.images)
        warn(passed.lines(), "preview")
        label_here(setup, units)
        limits = ReportLimits(
            pictures=options.images, units=len(units), picture_units=len(units), picture_bytes=PAGE_BYTES, whole=True
        )
        content = gather(setup.files, limits, truth=None)
        content.run = replace(content.run, files=RunFiles(KEPT))
        storage.replace(page, render_run(content, preview=True).encode())
    totals = content.totals
    say(
        f"{counted(totals.labeled, 'image')} labeled, {totals.failed:,} failed, "
        f"in {duration(time.monotonic() - began)}",
        sys.stderr,
    )
    tell(page)
    return 0


def some_of(units: Sequence[Unit], images: int) -> list[Unit]:
    """Units cut down to so many images together, spread over the input as evenly as reading little allows."""
    chosen = spread(units, images)
    sizes = [len(unit.files) or images for unit in chosen]
    shares = [0] * len(chosen)
    while sum(shares) < min(images, sum(sizes)):
        for index, size in enumerate(sizes):
            shares[index] += shares[index] < size and sum(shares) < images
    cut = []
    for unit, share in zip(chosen, shares, strict=True):
        files = tuple(spread(unit.files, share)) if unit.files else ()
        cut.append(replace(unit, files=files) if files else replace(unit, image_limit=share))
    return cut


def label_here(setup: LabelingSetup, units: Sequence[Unit]) -> None:
    """Labels these units into the setup's files, in this process."""
    files = setup.files
    resources = divide(setup.compute, nodes=[Shape(float(os.cpu_count() or 1), float(setup.cuda))])
    clip = load_clip(setup.source)
    warn(create_run(files, setup.manifest()), "preview")
    job = setup.job_of(files, resources, setup.actor_spec(clip, resources, files))
    for _ in job.run_here(write_generation(files, [], units, lambda known: [])):
        pass

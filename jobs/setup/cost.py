"""What a long run will cost, in two lines before it begins.

    for line in cost_lines(units, setup, job): say(line)

A run that may take more than an hour first labels a few images; one that is clearly shorter is not held up. What goes
wrong with the sample costs the two lines and nothing else: it runs in a task of its own.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace

import ray

from scclip.jobs.cli.progress import duration
from scclip.jobs.setup.dry_run import bytes_text, find_rate, hours_of, labeling_text
from scclip.jobs.setup.labeling import LabelingSetup
from scclip.jobs.setup.models import architecture
from scclip.pipeline.cluster.resources import Resources
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.job import LabelJob
from scclip.pipeline.labeling.sampling import Estimate, Sample, extrapolate, images_about, take_sample
from scclip.pipeline.run.files import RunFiles
from scclip.wording import counted

CPU_IMAGES, GPU_IMAGES = 1_000, 200_000  # per actor: ViT-B/16 takes 12 minutes for them on two cores, 5 on an H200
SAMPLED = 2  # images of each of a few units: under 1 % of a run of CPU_IMAGES
USUAL_BYTES = 100_000  # of an image in a shard, until the sample tells
LONG = 3600.0  # seconds
PATIENCE = 300.0  # seconds that the sample may take


def cost_lines(units: Sequence[Unit], setup: LabelingSetup, job: LabelJob) -> list[str]:
    """Returns two lines: time and actors, and what is written; none for a run below an hour, or that cannot be told."""
    share = job.resources
    least = (GPU_IMAGES if share.gpus_per_actor else CPU_IMAGES) * share.max_actors
    if images_about(units, USUAL_BYTES) < least or (sample := try_sample(units, job)) is None:
        return []
    images = images_about(units, max(1.0, sample.encoded_bytes / max(1, sample.images)))
    rate, source = find_rate(sample, architecture(setup.source), share)
    estimate = extrapolate(sample, images, rate)
    seconds = run_seconds(estimate, share)
    if seconds is None or seconds < LONG:
        return []
    pool = counted(share.max_actors, "actor")
    work = labeling_text(estimate, share).removeprefix("about ")
    stop = "Ctrl-C stops it, the same command again goes on"
    return [
        f"about {images:,} images will take about {duration(seconds)} with {pool} ({work}); {stop}",
        f"about {bytes_text(estimate.output_bytes)} of labels will be written; {source}",
    ]


def run_seconds(estimate: Estimate, resources: Resources) -> float | None:
    """Returns the seconds of a run with the largest pool, by its slower half; None where no rate is known."""
    if estimate.actor_hours is None:
        return None
    return 3600 * max(hours_of(estimate.actor_hours, estimate, resources))


def try_sample(units: Sequence[Unit], job: LabelJob) -> Sample | None:
    """Returns the sample's figures, by a task that may die or hang without harm; None where it does."""
    sampling = ray.remote(num_cpus=0, max_retries=0)(sample_in_scratch)
    task = sampling.remote(list(units), job)
    try:
        result: Sample = ray.get(task, timeout=PATIENCE)
    except ray.exceptions.RayError:
        ray.cancel(task, force=True, recursive=True)
        return None
    return result


def sample_in_scratch(units: Sequence[Unit], job: LabelJob) -> Sample:
    """Takes a sample into a scratch folder, which is removed."""
    with tempfile.TemporaryDirectory() as folder:
        return take_sample(units, replace(job, files=RunFiles(folder)), SAMPLED)

"""`scclip label --dry-run`: shows what a run would read, need and write; writes nothing to OUTPUT.

dry_run(units, setup, cluster)
"""

import tempfile
from collections.abc import Sequence

from scclip.jobs.cli.cluster import Cluster
from scclip.jobs.cli.talk import tell
from scclip.jobs.cli.waiting import watched_tasks
from scclip.jobs.setup.labeling import LabelingSetup
from scclip.jobs.setup.models import Architecture, architecture
from scclip.pipeline.cluster.resources import Resources
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.job import LabelJob
from scclip.pipeline.labeling.sampling import Estimate, Sample, count_all, extrapolate, take_sample
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.storage.retries import redact
from scclip.wording import counted

# Images per second of one actor with a whole GPU, 640 × 480 pixels and 171 queries, by the GPU's name and the tower.
MEASURED = {("NVIDIA H200", Architecture(layers=12, patch=16, width=768)): 712.0}  # 16 CPU cores, 2026-11-26


def dry_run(units: Sequence[Unit], setup: LabelingSetup, cluster: Cluster) -> int:
    """Prints what these units would take; returns 0. Its scratch files are removed afterwards."""
    with tempfile.TemporaryDirectory() as folder, watched_tasks("label"):
        tell(*describe(units, setup, setup.job(RunFiles(folder), cluster)).split("\n"))
    return 0


def describe(units: Sequence[Unit], setup: LabelingSetup, job: LabelJob) -> str:
    """Returns the table: what is read, needed and written, measured on a sample of these units."""
    images, exact = count_all(units)
    sample = take_sample(units, job)
    rate, rate_text = find_rate(sample, architecture(setup.source), job.resources)
    estimate = extrapolate(sample, images, rate)
    size = sum(max(0, unit.size) for unit in units)
    about = "" if exact else "about "
    rows = {
        "output": f"{redact(setup.files.output)}: nothing is written by a dry run",
        "input": f"{counted(len(units), 'unit')}, {bytes_text(size)}, {about}{counted(images, 'image')}",
        "sample": sample_text(sample),
        "actors": actors_text(job.resources),
        "windows": f"about {estimate.windows:,}" if sample.label_seconds is not None else "not known: no actor yet",
        "rate": rate_text,
        "labeling": labeling_text(estimate, job.resources),
        "other work": f"about {estimate.cpu_hours:.2g} CPU-hours to read, decode and commit",
        "time": time_text(estimate, job.resources),
        "result": result_text(estimate, sample),
        "weights": f"load: {setup.source.config.precision} on {job.resources.device}",
    }
    return "\n".join(f"{name:11} {text}" for name, text in rows.items())


def sample_text(sample: Sample) -> str:
    """Returns how many images were tried and how many windows they took."""
    if sample.label_seconds is None:
        return f"{counted(sample.images, 'image')} read and decoded; no living node holds an actor to label them"
    failed = sample.images - sample.labeled
    windows = sample.windows / max(1, sample.labeled)
    return f"{counted(sample.images, 'image')} labeled, {failed} failed, {windows:.1f} windows an image"


def find_rate(sample: Sample, tower: Architecture, resources: Resources) -> tuple[float | None, str]:
    """Returns the images per second of one actor, and in words where they are from: the sample, else the table."""
    if sample.rate is not None:
        return (
            sample.rate,
            f"{sample.rate:.3g} images/s an actor, measured on {counted(sample.images, 'image')} of the input",
        )
    for (gpu, of), rate in MEASURED.items():
        if of == tower and resources.gpus_per_actor:
            conditions = f"measured before on one {gpu}, 640 × 480 pixels, 171 queries"
            return (
                rate * resources.gpus_per_actor,
                f"{rate * resources.gpus_per_actor:.3g} images/s an actor, {conditions}",
            )
    return None, "not known: no living node holds an actor, and nothing was measured before with this model"


def actors_text(resources: Resources) -> str:
    """Returns how many actors there would be and what each of them gets."""
    share = f"GPUs: {resources.gpus_per_actor:g}, " if resources.gpus_per_actor else ""
    span = f"{resources.min_actors} to {resources.max_actors}"
    number = str(resources.min_actors) if resources.min_actors == resources.max_actors else span
    fitting = "" if resources.fitting >= resources.max_actors else f"; {resources.fitting} fit the living nodes"
    return f"{number} ({share}CPUs: {resources.actor_cpus:g} each){fitting}"


def labeling_text(estimate: Estimate, resources: Resources) -> str:
    """Returns the GPU-hours of all actors, or their CPU-hours where they use no GPU."""
    if estimate.actor_hours is None:
        return "not measured"
    each, unit = (resources.gpus_per_actor, "GPU") if resources.gpus_per_actor else (resources.threads, "CPU")
    return f"about {estimate.actor_hours * each:.2g} {unit}-hours"


def time_text(estimate: Estimate, resources: Resources) -> str:
    """Returns the hours that the largest pool takes, by the actors or by the other stages, whichever is slower."""
    if estimate.actor_hours is None:
        return "not measured"
    label, other = hours_of(estimate.actor_hours, estimate, resources)
    limit = "actors" if label >= other else "CPUs"
    return f"about {max(label, other):.2g} h with {counted(resources.max_actors, 'actor')}; the {limit} set the pace"


def hours_of(actor_hours: float, estimate: Estimate, resources: Resources) -> tuple[float, float]:
    """Returns the hours that the largest pool needs, and those that the other stages need beside it."""
    return actor_hours / resources.max_actors, estimate.cpu_hours / max(0.5, resources.spare_cpus)


def result_text(estimate: Estimate, sample: Sample) -> str:
    """Returns the size of the labels."""
    if not sample.labeled:
        return "not known"
    each = sample.output_bytes / sample.images
    return f"about {bytes_text(estimate.output_bytes)}, {bytes_text(round(each))} an image"


def bytes_text(size: float) -> str:
    """Returns a size as people read it, e.g. 3.2 MB."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and units[1:]:
        size /= 1000
        del units[0]
    return f"{size:.0f} {units[0]}" if units[0] == "bytes" or size >= 100 else f"{size:.1f} {units[0]}"

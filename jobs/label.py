"""`scclip label INPUT [INPUT …] OUTPUT`: image shards in, COCO masks and Parquet statistics out.

    scclip label s3://bucket/shards/*.tar s3://bucket/labels --vocabulary street.yaml \
        --model ViT-B-16-quickgelu --pretrained openai
"""

import functools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import ray

from jobs.cluster import Cluster, local_or_cluster
from jobs.dry_run import dry_run
from jobs.errors import JobFailed, cause, one_line
from jobs.models import SegmentationOptions, build_spec, find_model, load_vocabulary, segmenter_config
from jobs.options import OptionParser, UserError, positional
from jobs.progress import Progress, duration
from pipeline import coco
from pipeline.chunks import ChunkLimits
from pipeline.committing import CommitOptions, RunFiles, commit_chunk, finish_unit, tidy, uncommit
from pipeline.decoding import DecodeConfig
from pipeline.label import LabelJob, label_units
from pipeline.ledger import start_ledger
from pipeline.monitoring import stage_summary
from pipeline.plan import Unit, plan_units
from pipeline.preflight import check_storage, wait_for_actor
from pipeline.resources import ComputeConfig, divide
from pipeline.run import (
    compare_runs,
    library_versions,
    open_run,
    read_plan,
    read_run,
    summarise,
    unit_totals,
    write_generation,
    write_summary,
)
from pipeline.statistics import Totals
from pipeline.storage import StorageUnavailable, exists, join, read_bytes, retries_used
from scclip.segmenter import SegmenterConfig
from scclip.vocabulary import Vocabulary
from scclip.weights import ModelConfig, WeightsSource, load_clip

CPU_CHUNK, GPU_CHUNK = 32, 256  # images: a few seconds of work for one actor either way


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """Input and output."""

    inputs: tuple[str, ...] = positional("INPUT")
    """WebDataset tars, Parquet files, image folders, COCO images.json, globs, .txt lists of these; any fsspec URL."""
    output: str = positional("OUTPUT")
    """Directory of the run; the same command again goes on where it stopped."""
    vocabulary: str = "demo"
    """Built-in name (voc21, coco_stuff, cityscapes, …), a .txt with one class a line, or a .yaml."""
    masks: Literal["none", "png"] = "none"
    """png also writes masks/UUUUUUU.tar with KEY.seg.png."""
    save_confidence: bool = False
    """Also write KEY.argmax.png and KEY.conf.png, for later re-thresholding."""
    image_ids: Literal["plan", "key"] = "plan"
    """plan numbers images by unit and place; key takes the digits of the image's key (COCO's own ids)."""
    exif: Literal["apply", "ignore"] = "apply"
    """Turn pictures as their EXIF orientation says, or leave them as stored."""
    reduced_decode: bool = False
    """Decode large JPEGs at 1/2, 1/4 or 1/8 scale, never below twice the model's resolution; labels change slightly."""
    limit: int | None = None
    """Label the first N images only."""
    chunk_size: int | None = None
    """Images per chunk, the unit of work and of loss [32 on a CPU, 256 on a GPU]."""
    max_failed: float = 0.05
    """Share of images that may fail before the job ends with exit code 1."""
    dry_run: bool = False
    """Write nothing; show what the run would read, need and write, from a sample of it."""
    retry_failed: bool = False
    """Label the units that hold failed images again."""
    address: str | None = None
    """Address of a running Ray cluster [RAY_ADDRESS, else a Ray of its own on this machine]."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_failed <= 1:
            raise UserError(f"--max-failed {self.max_failed} is no share; give 0 to 1, e.g. 0.05")
        for name in ("chunk_size", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} {value} must be at least 1")


EXAMPLE = """examples:
  scclip label photos/ labels/ --vocabulary demo
  scclip label 's3://bucket/shards/*.tar' s3://bucket/labels --vocabulary street.yaml \\
      --model ViT-B-16-quickgelu --pretrained openai --actors 4
"""


def parser() -> OptionParser:
    """The verb's options."""
    groups = [LabelOptions, ModelConfig, SegmentationOptions, ComputeConfig]
    return OptionParser("label", "Label image shards: COCO masks and Parquet statistics.", groups, EXAMPLE)


def main(argv: Sequence[str]) -> int:
    """Parses the options and runs the job; returns the exit code."""
    return label(*parser().parse(argv))


def label(options: LabelOptions, model: ModelConfig, segmentation: SegmentationOptions, compute: ComputeConfig) -> int:
    """Runs a labeling job to its end; returns 0, raises JobFailed where more images failed than `max_failed`."""
    files, vocabulary = RunFiles(options.output.rstrip("/") or "/"), load_vocabulary(options.vocabulary)
    warn(vocabulary.warnings)
    with local_or_cluster(options.address) as cluster:
        source = find_model(model, cluster.cuda(compute))
        segmenter = segmenter_config(segmentation, vocabulary, source, cluster.cuda(compute))
        limits = ChunkLimits(images=options.chunk_size or (GPU_CHUNK if cluster.cuda(compute) else CPU_CHUNK))
        run = fingerprint(options, source, vocabulary, segmenter, limits)
        known = known_units(files, run)
        new = new_units(options, known, files)
        if not options.dry_run:
            tidy(files, files.finished())
        if options.retry_failed and not options.dry_run:
            retry_failed(files)
        finished = files.finished()
        if not new and all(unit.number in finished for unit in known):
            return report_nothing_to_do(files, vocabulary, options)
        cluster.start()
        check_storage(files.output, sample_inputs(new or known))
        prepared = functools.partial(prepare, options, cluster, compute, source, vocabulary, segmenter, limits, run)
        if options.dry_run:
            left = [unit for unit in [*known, *new] if unit.number not in finished]
            return dry_run(left, prepared, files.output, source.config.precision)
        job = prepared(files)
        units = write_generation(files, known, new, lambda seen: new_units(options, seen, files))
        compare_runs(read_run(files), run, files.output)  # another driver may have begun another run meanwhile
        progress = follow([unit for unit in units if unit.number not in finished], job)
    totals = sum(unit_totals(files, [unit.number for unit in units]).values(), Totals())
    summary = summarise(totals, vocabulary.category_names, progress.seconds, progress.labeled)
    summary |= {"units": len(units), "worker_deaths": progress.faults["worker_deaths"]}
    summary |= stage_summary(progress.faults["stage_seconds"], job.resources, progress.seconds)
    summary |= {"storage_retries": progress.faults["storage_retries"] + retries_used()}
    write_summary(files, summary)
    return conclude(summary, options, files)


def prepare(
    options: LabelOptions,
    cluster: Cluster,
    compute: ComputeConfig,
    source: WeightsSource,
    vocabulary: Vocabulary,
    segmenter: SegmenterConfig,
    limits: ChunkLimits,
    run: dict[str, Any],
    files: RunFiles,
) -> LabelJob:
    """Starts Ray, loads the model, claims OUTPUT with run.json: all that can be wrong is found before the plan is."""
    cluster.start()
    resources = divide(compute, **cluster.capacity())
    if not options.dry_run and wait_for_actor(resources, compute.wait_for_resources, lambda line: warn([line])):
        resources = divide(compute, **cluster.capacity())
    clip = load_clip(source)
    clip.visual()
    warn(create_run(files, run))
    categories = coco.categories(vocabulary.category_names, things(vocabulary))
    return LabelJob(
        files=files,
        spec=build_spec(clip, vocabulary, segmenter, resources, files),
        resources=resources,
        limits=limits,
        decode=DecodeConfig(exif=options.exif, reduced_side=2 * segmenter.short_side if options.reduced_decode else 0),
        commit=functools.partial(commit_chunk, options=commit_options(options, vocabulary)),
        finish=functools.partial(finish_unit, categories=categories, info=document_info(source, vocabulary)),
        done=files.parts(),
    )


def warn(lines: Sequence[str], verb: str = "label") -> None:
    """Warnings, one line each."""
    for line in lines:
        print(f"scclip {verb}: {line}", file=sys.stderr)


def follow(units: Sequence[Unit], job: LabelJob) -> Progress:
    """Runs the graph under a progress line; an interruption says how to go on."""
    ledger = start_ledger()
    with Progress(units) as progress:
        try:
            for outcome in label_units(units, job, ledger):
                progress.add(outcome)
            progress.faults = ray.get(ledger.totals.remote())
        except KeyboardInterrupt:
            done = f"{progress.images:,} images are committed"
            raise KeyboardInterrupt(f"stopped; {done}, the same command again goes on from there") from None
        except ray.exceptions.RayError as error:
            raise JobFailed(f"{cause(error)}; what is committed is kept, the same command again goes on") from error
    return progress


def fingerprint(
    options: LabelOptions,
    source: WeightsSource,
    vocabulary: Vocabulary,
    segmenter: SegmenterConfig,
    limits: ChunkLimits,
) -> dict[str, Any]:
    """Everything that changes labels, ids or chunk limits: run.json."""
    chosen = ("masks", "save_confidence", "image_ids", "exif", "reduced_decode", "limit")
    labels = {name: getattr(options, name) for name in chosen}
    config = asdict(source.config)
    names = ("model", "method", "attention", "without", "precision")
    return {
        "options": labels,
        "model": {name: config[name] for name in names}
        | {"weights_sha256": source.digest, "quick_gelu": source.quick_gelu, "calibration": source.settings},
        "segmentation": asdict(segmenter),
        "vocabulary": vocabulary.to_dict() | {"sha256": vocabulary.digest()},
        "chunk_limits": asdict(limits),
        "versions": library_versions(),
    }


def known_units(files: RunFiles, run: dict[str, Any]) -> list[Unit]:
    """Units that were planned before; RunMismatch where the run there differs, UserError where OUTPUT is unreadable."""
    try:
        units = read_plan(files)
    except StorageUnavailable:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"OUTPUT {files.output} cannot be read: {one_line(error)}; choose another") from None
    if units:
        compare_runs(read_run(files), run, files.output)
    return units


def create_run(files: RunFiles, run: dict[str, Any]) -> list[str]:
    """run.json and its warnings; UserError where OUTPUT cannot be written."""
    try:
        return open_run(files, run)
    except StorageUnavailable:
        raise
    except OSError as error:
        raise UserError(f"OUTPUT {files.output} cannot be written: {one_line(error)}; choose another") from None


def new_units(options: LabelOptions, known: Sequence[Unit], files: RunFiles) -> list[Unit]:
    """The units that the inputs have gained over those known."""
    return plan_units(options.inputs, known, limit=options.limit, exclude=[files.output])


def retry_failed(files: RunFiles) -> None:
    """Takes back the finished units that hold failed images."""
    failed = [unit for unit, totals in unit_totals(files, files.finished()).items() if totals.failed]
    uncommit(files, failed)


def sample_inputs(units: Sequence[Unit]) -> list[str]:
    """What every node must be able to open for these units: the first shard or file."""
    return [unit.files[0].url if unit.files else unit.url for unit in units[:1] if unit.size >= 0]


def report_nothing_to_do(files: RunFiles, vocabulary: Vocabulary, options: LabelOptions) -> int:
    """A finished run: says so; makes summary.json again if it is missing."""
    url = join(files.output, "summary.json")
    if not exists(url):
        totals = sum(unit_totals(files, files.finished()).values(), Totals())
        write_summary(files, summarise(totals, vocabulary.category_names, 0.0, 0))
    print(f"nothing to do: every image of the input is labeled in {files.output}")
    return exceeded(json.loads(read_bytes(url)), options)


def conclude(summary: dict[str, Any], options: LabelOptions, files: RunFiles) -> int:
    """Prints the result in two lines; returns the exit code."""
    read, failed = summary["images_read"], summary["images_failed"]
    print(
        f"{read:,} images read, {summary['images_labeled']:,} labeled, {failed:,} failed, "
        f"{summary['segments']:,} segments in {duration(summary['seconds'])}"
    )
    print(f"labels: {files.output}")
    return exceeded(summary, options)


def exceeded(summary: dict[str, Any], options: LabelOptions) -> int:
    """0, or 1 with one line where more images failed than allowed."""
    read, failed = summary["images_read"], summary["images_failed"]
    if failed <= options.max_failed * read:
        return 0
    reasons = ", ".join(f"{count:,} {status}" for status, count in summary["statuses"].items() if status != "ok")
    raise JobFailed(
        f"{failed:,} of {read:,} images failed ({reasons}), more than --max-failed {options.max_failed:g} allows; "
        "images/*.parquet tells why"
    )


def commit_options(options: LabelOptions, vocabulary: Vocabulary) -> CommitOptions:
    """What the parts hold."""
    return CommitOptions(
        masks=options.masks == "png",
        save_confidence=options.save_confidence,
        image_ids=options.image_ids,
        wide=len(vocabulary.classes) > 254,
    )


def things(vocabulary: Vocabulary) -> dict[int, bool | None]:
    """Category index → thing, stuff or not said."""
    return {index: entry.thing for index, entry in enumerate(vocabulary.classes, start=1)}


def document_info(source: WeightsSource, vocabulary: Vocabulary) -> dict[str, Any]:
    """`info` of every COCO document: what made it, without a date."""
    config = source.config
    return {
        "description": f"Pseudo-labels of {config.method} with {config.model}, vocabulary {vocabulary.name}",
        "version": library_versions()["scclip-pipeline"],
        "weights_sha256": source.digest,
        "vocabulary_sha256": vocabulary.digest(),
    }

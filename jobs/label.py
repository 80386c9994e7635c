"""`scclip label INPUT [INPUT …] OUTPUT`: image shards in, COCO masks and Parquet statistics out.

    scclip label s3://bucket/shards/*.tar s3://bucket/labels --vocabulary street.yaml \
        --model ViT-B-16-quickgelu --pretrained openai
"""

import functools
import json
import sys
from collections.abc import Sequence
from typing import Any

import ray

from scclip.encoder.checkpoints import WeightsSource, load_clip
from scclip.encoder.config import ModelConfig
from scclip.errors import JobFailed
from scclip.jobs.cli.cluster import Cluster, local_or_cluster
from scclip.jobs.cli.errors import cause
from scclip.jobs.cli.progress import Progress, duration
from scclip.jobs.options.label import LabelOptions, SegmentationOptions
from scclip.jobs.setup.dry_run import dry_run
from scclip.jobs.setup.labeling import (
    CPU_CHUNK,
    GPU_CHUNK,
    create_run,
    fingerprint,
    known_units,
    new_units,
    sample_inputs,
    with_failures,
    writers,
)
from scclip.jobs.setup.models import (
    build_spec,
    find_model,
    load_vocabulary,
    load_warnings,
    segmenter_config,
)
from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.cluster.preflight import check_storage, wait_for_actor
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.pipeline.inputs.chunks import ChunkLimits
from scclip.pipeline.inputs.decoding import DecodeConfig
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.graph import label_units
from scclip.pipeline.labeling.job import LabelJob
from scclip.pipeline.labeling.ledger import running_ledger
from scclip.pipeline.labeling.telemetry import stage_summary
from scclip.pipeline.run.commit import tidy, uncommit
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.fingerprint import compare_runs, read_run
from scclip.pipeline.run.generations import write_generation
from scclip.pipeline.run.totals import Totals, summarise, unit_totals, write_summary
from scclip.pipeline.storage.files import exists, join, read_bytes
from scclip.pipeline.storage.retries import retries_used
from scclip.segmentation.types import SegmenterConfig
from scclip.vocabulary.vocabulary import Vocabulary


def label(options: LabelOptions, model: ModelConfig, segmentation: SegmentationOptions, compute: ComputeConfig) -> int:
    """Runs a labeling job to its end; returns 0, raises JobFailed where more images failed than `max_failed`."""
    files, vocabulary = RunFiles(options.output.rstrip("/") or "/"), load_vocabulary(options.vocabulary)
    warn(load_warnings(model, vocabulary))
    with local_or_cluster(options.address) as cluster:
        source = find_model(model, cluster.cuda(compute))
        segmenter = segmenter_config(segmentation, vocabulary, source, cluster.cuda(compute))
        limits = ChunkLimits(images=options.chunk_size or (GPU_CHUNK if cluster.cuda(compute) else CPU_CHUNK))
        run = fingerprint(options, source, vocabulary, segmenter, limits)
        known = known_units(files, run)
        new = new_units(options, known, files)
        again = with_failures(files) if options.retry_failed else set()
        if not options.dry_run:
            tidy(files, files.finished())
            uncommit(files, again)
        finished = files.finished() - again
        if not new and all(unit.number in finished for unit in known):
            return report_nothing_to_do(files, vocabulary, options)
        cluster.start()
        check_storage(files.output, sample_inputs(new or known), write=not options.dry_run)
        prepared = functools.partial(prepare, options, cluster, compute, source, vocabulary, segmenter, limits, run)
        if options.dry_run:
            left = [unit for unit in [*known, *new] if unit.number not in finished]
            return dry_run(left, prepared, files.output, source.config.precision)
        job = prepared(files)
        units = write_generation(files, known, new, lambda seen: new_units(options, seen, files))
        compare_runs(read_run(files), run, files.output)  # another driver may have begun another run meanwhile
        progress = follow([unit for unit in units if unit.number not in finished], job)
    totals = sum(unit_totals(files, [unit.number for unit in units]).values(), Totals())
    summary = summarise(totals, vocabulary.categories, progress.seconds, progress.labeled)
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
    resources = cluster.divide(compute)
    if not options.dry_run and wait_for_actor(resources, compute.wait_for_resources, lambda line: warn([line])):
        resources = cluster.divide(compute)
    clip = load_clip(source)
    clip.visual()
    warn(create_run(files, run))
    commit, finish = writers(options, source, vocabulary)
    return LabelJob(
        files=files,
        spec=build_spec(clip, vocabulary, segmenter, resources, files),
        resources=resources,
        limits=limits,
        decode=DecodeConfig(exif=options.exif, reduced_side=2 * segmenter.short_side if options.reduced_decode else 0),
        commit=commit,
        finish=finish,
        done=files.parts(),
    )


def warn(lines: Sequence[str], verb: str = "label") -> None:
    """Warnings, one line each."""
    for line in lines:
        print(f"scclip {verb}: {line}", file=sys.stderr)


def follow(units: Sequence[Unit], job: LabelJob) -> Progress:
    """Runs the graph under a progress line; an interruption says how to go on."""
    with running_ledger() as ledger, Progress(units) as progress:
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


def report_nothing_to_do(files: RunFiles, vocabulary: Vocabulary, options: LabelOptions) -> int:
    """A finished run: says so; makes summary.json again if it is missing."""
    url = join(files.output, "summary.json")
    print(f"nothing to do: every image of the input is labeled in {files.output}")
    if exists(url):
        return exceeded(json.loads(read_bytes(url)), options)
    totals = sum(unit_totals(files, files.finished()).values(), Totals())
    summary = summarise(totals, vocabulary.categories, 0.0, 0)
    if not options.dry_run:
        write_summary(files, summary)
    return exceeded(summary, options)


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
    """0; JobFailed (exit code 1) where a larger share of images failed than allowed."""
    read, failed = summary["images_read"], summary["images_failed"]
    if failed <= options.max_failed * read:
        return 0
    reasons = ", ".join(f"{count:,} {status}" for status, count in summary["statuses"].items() if status != Status.OK)
    raise JobFailed(
        f"{failed:,} of {read:,} images failed ({reasons}), a larger share than --max-failed "
        f"{options.max_failed:g} allows; images/*.parquet tells why, --retry-failed tries them again"
    )

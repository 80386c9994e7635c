"""`scclip label INPUT [INPUT …] OUTPUT`: image shards in, COCO masks and Parquet statistics out.

    scclip label s3://bucket/shards/*.tar s3://bucket/labels --vocabulary street.yaml \
        --model ViT-B-16-quickgelu --pretrained openai
"""

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from scclip.encoder.config import ModelConfig
from scclip.errors import JobFailed
from scclip.jobs.cli.cluster import local_or_cluster
from scclip.jobs.cli.errors import cause, warn
from scclip.jobs.cli.progress import Progress, duration
from scclip.jobs.cli.talk import is_quiet, say
from scclip.jobs.cli.waiting import STATE_SECONDS, watched
from scclip.jobs.options.label import LabelOptions
from scclip.jobs.options.report import ReportOptions
from scclip.jobs.report import write_report
from scclip.jobs.setup.cost import cost_lines
from scclip.jobs.setup.dry_run import dry_run
from scclip.jobs.setup.labeling import LabelingSetup, known_units, with_failures
from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.pipeline.inputs.passed_over import PassedOver
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.graph import label_units
from scclip.pipeline.labeling.job import LabelJob
from scclip.pipeline.labeling.ledger import running_ledger
from scclip.pipeline.labeling.models import find_model, load_vocabulary, load_warnings
from scclip.pipeline.labeling.telemetry import stage_summary
from scclip.pipeline.run.commit import tidy, uncommit
from scclip.pipeline.run.fingerprint import check_same
from scclip.pipeline.run.generations import write_generation
from scclip.pipeline.run.totals import Summary, Totals, summarise, unit_totals, write_summary
from scclip.pipeline.storage.files import exists, join, read_bytes
from scclip.pipeline.storage.retries import retries_used
from scclip.segmentation.types import SegmentationOptions


def label(options: LabelOptions, model: ModelConfig, segmentation: SegmentationOptions, compute: ComputeConfig) -> int:
    """Runs a labeling job to its end, or goes on where an earlier call stopped.

    Returns:
        0.

    Raises:
        JobFailed: more images failed than `max_failed` allows, or Ray ended the job.
        UserError: options, input, OUTPUT or the cluster are wrong.
    """
    vocabulary = load_vocabulary(options.vocabulary)
    warn(load_warnings(model, vocabulary))
    with local_or_cluster(options.address) as cluster:
        cuda = cluster.cuda(compute)
        setup = LabelingSetup(options, find_model(model, cuda), segmentation, compute, vocabulary, cuda)
        files, manifest = setup.files, setup.manifest()
        known = known_units(files, manifest)
        passed = PassedOver()
        new = setup.new_units(known, passed)
        warn(passed.lines())
        again = with_failures(files) if options.retry_failed else set()
        if not options.dry_run:
            tidy(files, files.finished())
            uncommit(files, again)
        finished = files.finished() - again
        if not new and all(unit.number in finished for unit in known):
            return report_nothing_to_do(setup)
        cluster.start()
        samples = [source.url for unit in (new or known)[:1] for source in unit.sources if source.size >= 0][:1]
        cluster.check_storage("label", files.output, samples, write=not options.dry_run)
        if options.dry_run:
            return dry_run([unit for unit in [*known, *new] if unit.number not in finished], setup, cluster)
        job = setup.job(files, cluster)
        units = write_generation(files, known, new, setup.new_units)
        check_same(files, manifest)  # another driver may have begun another run meanwhile
        waiting = [unit for unit in units if unit.number not in finished]
        for line in [] if is_quiet() else cost_lines(waiting, setup, job):
            say(f"scclip label: {line}", sys.stderr)
        progress = follow(waiting, job, "label")
    totals = sum(unit_totals(files, [unit.number for unit in units]).values(), Totals())
    summary = summarise(totals, vocabulary.categories, progress.seconds, progress.labeled)
    faults = progress.faults
    stages = stage_summary(faults["stage_seconds"], job.resources, progress.seconds)
    summary |= {"units": len(units), "worker_deaths": faults["worker_deaths"]}
    summary |= {"stages": stages["stages"], "bottleneck": stages["bottleneck"]}
    summary |= {"storage_retries": faults["storage_retries"] + retries_used(), "passed_over": passed.to_json()}
    write_summary(files, summary)
    images = f"{totals.read:,} images read, {totals.labeled:,} labeled, {totals.failed:,} failed"
    say(f"{images}, {totals.segments:,} segments in {duration(progress.seconds)}")
    say(f"labels: {files.output}")
    report(setup)
    return check_failures(totals.statuses, options.max_failed)


def follow(units: Sequence[Unit], job: LabelJob, verb: str) -> Progress:
    """Runs the graph under a progress line; where it is interrupted, the message says how to go on."""
    with running_ledger() as ledger, Progress(units) as progress, watched(job, ledger, verb) as silence:
        try:
            for outcome in label_units(units, job, ledger):
                progress.add(outcome)
                silence.progress()
            progress.faults = ray.get(ledger.totals.remote())
            tidy(job.files, {unit.number for unit in units})  # parts committed again after their node was lost
        except KeyboardInterrupt:
            done = f"{progress.images:,} images are committed"
            raise KeyboardInterrupt(f"stopped; {done}, the same command again goes on from there") from None
        except ray.exceptions.RayError as error:
            reason = start_failure(ledger) or cause(error)
            raise JobFailed(f"{reason}; what is committed is kept, the same command again goes on") from error
    return progress


def start_failure(ledger: Any) -> str | None:
    """Why no actor could be started, and on which node; None where one was."""
    with contextlib.suppress(ray.exceptions.RayError):
        state = ray.get(ledger.now.remote(), timeout=STATE_SECONDS)
        if state["failure"] and not state["started"]:
            return f"no actor can start: {state['failure']}"
    return None


def report_nothing_to_do(setup: LabelingSetup) -> int:
    """Says that a run is finished; makes summary.json again if it is missing."""
    files = setup.files
    say(f"nothing to do: every image of the input is labeled in {files.output}")
    url = join(files.output, "summary.json")
    if exists(url):
        summary: Summary = json.loads(read_bytes(url))
    else:
        totals = sum(unit_totals(files, files.finished()).values(), Totals())
        summary = summarise(totals, setup.vocabulary.categories, 0.0, 0)
        if not setup.options.dry_run:
            write_summary(files, summary)
    report(setup)
    return check_failures(summary["statuses"], setup.options.max_failed)


def report(setup: LabelingSetup) -> None:
    """Writes the run's page where --report asks for it, and says where it is."""
    if setup.options.report and not setup.options.dry_run:
        say(f"report: {write_report(ReportOptions(output=setup.options.output))}")


def check_failures(statuses: Mapping[str, int], max_failed: float) -> int:
    """Returns 0; raises JobFailed (exit code 1) where a larger share of the images failed than allowed.

    Args:
        statuses: images by status.
        max_failed: the share that may fail, 0 to 1.
    """
    read = sum(statuses.values())
    reasons = {status: count for status, count in sorted(statuses.items()) if status != Status.OK and count}
    failed = sum(reasons.values())
    if failed <= max_failed * read:
        return 0
    named = ", ".join(f"{count:,} {status}" for status, count in reasons.items())
    what = f"{failed:,} of {read:,} images failed ({named}), a larger share than --max-failed {max_failed:g} allows"
    raise JobFailed(f"{what}; images/*.parquet tells why, --retry-failed tries them again")

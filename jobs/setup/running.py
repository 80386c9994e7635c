"""Runs a labeling job on Ray: the part of `scclip label` that a finished run does not need.

code = run_labeling(options, model, segmentation, compute, vocabulary, asked, planned)
progress = follow(units, job, "label")     # evaluation runs the same graph
"""

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

import ray

from scclip.encoder.config import ModelConfig
from scclip.errors import JobFailed
from scclip.jobs.cli.cluster import local_or_cluster
from scclip.jobs.cli.errors import cause, warn
from scclip.jobs.cli.progress import Progress, duration
from scclip.jobs.cli.steps import READING, watched_step
from scclip.jobs.cli.talk import is_quiet, say
from scclip.jobs.cli.waiting import STATE_SECONDS, watched
from scclip.jobs.options.label import LabelOptions
from scclip.jobs.options.report import ReportOptions
from scclip.jobs.report import write_report
from scclip.jobs.setup.cost import cost_lines
from scclip.jobs.setup.dry_run import dry_run
from scclip.jobs.setup.finished import Planned, check_failures, remember, report_nothing_to_do
from scclip.jobs.setup.labeling import LabelingSetup, known_units, with_failures
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.pipeline.inputs.passed_over import PassedOver
from scclip.pipeline.inputs.units import Unit, sample_urls
from scclip.pipeline.labeling.graph import label_units
from scclip.pipeline.labeling.job import LabelJob
from scclip.pipeline.labeling.ledger import running_ledger
from scclip.pipeline.labeling.models import find_model
from scclip.pipeline.labeling.telemetry import stage_summary
from scclip.pipeline.run.fingerprint import check_same
from scclip.pipeline.run.generations import write_generation
from scclip.pipeline.run.tidying import tidy, uncommit
from scclip.pipeline.run.totals import Totals, summarise, unit_totals, write_summary
from scclip.pipeline.storage.retries import retries_used
from scclip.segmentation.types import SegmentationOptions
from scclip.vocabulary.vocabulary import Vocabulary
from scclip.wording import counted


def run_labeling(
    options: LabelOptions,
    model: ModelConfig,
    segmentation: SegmentationOptions,
    compute: ComputeConfig,
    vocabulary: Vocabulary,
    asked: str | None,
    planned: Planned | None,
) -> int:
    """`scclip.jobs.label.label` from where the model is needed; returns and raises as it does.

    Args:
        asked: what `asked_for` returned for these.
        planned: what `plan_again` has found already.
    """
    with local_or_cluster("label", options.address) as cluster:
        cuda = cluster.cuda(compute)
        setup = LabelingSetup(options, find_model(model, cuda), segmentation, compute, vocabulary, cuda)
        files, manifest = setup.files, setup.manifest()
        with watched_step("label", READING):
            known = known_units(files, manifest)
        if planned and planned.known == known:
            new, passed = planned.new, planned.passed
        else:
            passed = PassedOver()
            new = setup.new_units(known, passed)
        warn(passed.lines())
        again = with_failures(files) if options.retry_failed else set()
        if not options.dry_run:
            with watched_step("label", READING):
                tidy(files, files.finished())
                uncommit(files, again)
        finished = files.finished() - again
        if not new and all(unit.number in finished for unit in known):
            if not options.dry_run:
                remember(files, asked)
            report(setup)
            return report_nothing_to_do(options, files, vocabulary)
        cluster.start()
        cluster.check_storage(files.output, sample_urls(new or known), write=not options.dry_run)
        if options.dry_run:
            return dry_run([unit for unit in [*known, *new] if unit.number not in finished], setup, cluster)
        job = setup.job(files, cluster)
        units = write_generation(files, known, new, setup.new_units)
        check_same(files, manifest)  # another driver may have begun another run meanwhile
        waiting = [unit for unit in units if unit.number not in finished]
        for line in [] if is_quiet() else cost_lines(waiting, setup, job):
            say(f"scclip label: {line}", sys.stderr)
        progress = follow(waiting, job, "label")
    with watched_step("label", READING):
        totals = sum(unit_totals(files, [unit.number for unit in units]).values(), Totals())
    summary = summarise(totals, vocabulary.categories, progress.seconds, progress.labeled)
    faults = progress.faults
    stages = stage_summary(faults["stage_seconds"], job.resources, progress.seconds)
    summary |= {"units": len(units), "worker_deaths": faults["worker_deaths"]}
    summary |= {"stages": stages["stages"], "bottleneck": stages["bottleneck"]}
    summary |= {"storage_retries": faults["storage_retries"] + retries_used(), "passed_over": passed.to_json()}
    write_summary(files, summary)
    images = f"{counted(totals.read, 'image')} read, {totals.labeled:,} labeled, {totals.failed:,} failed"
    say(f"{images}, {counted(totals.segments, 'segment')} in {duration(progress.seconds)}")
    say(f"labels: {files.output}")
    remember(files, asked)
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
            done = f"{counted(progress.images, 'image')} committed"
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


def report(setup: LabelingSetup) -> None:
    """Writes the run's page where --report asks for it, and says where it is."""
    if setup.options.report and not setup.options.dry_run:
        say(f"report: {write_report(ReportOptions(output=setup.options.output))}")

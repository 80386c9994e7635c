"""`scclip evaluate SHARDS … OUTPUT`: label shards that hold ground truth and measure the labels against it.

    scclip evaluate s3://bucket/voc20 s3://bucket/voc20-b16 --benchmark voc20 \
        --model ViT-B-16-quickgelu --pretrained openai --variants scclip maskclip clip
    scclip evaluate --labels labels/ --truth shards/
"""

import functools
import json
from collections.abc import Sequence

from scclip.encoder.config import ModelConfig
from scclip.errors import UserError
from scclip.jobs.cli.cluster import local_or_cluster
from scclip.jobs.cli.errors import warn
from scclip.jobs.cli.progress import duration
from scclip.jobs.cli.steps import LISTING, READING, watched_step
from scclip.jobs.cli.talk import json_line, notes, say, tell
from scclip.jobs.options.evaluate import EvaluateOptions
from scclip.jobs.pages.evaluation import write_page
from scclip.jobs.setup.evaluation import EvaluationSetup, labels_setup, model_setup
from scclip.jobs.setup.finished import check_failures
from scclip.jobs.setup.labeling import create_run, known_units, with_failures
from scclip.jobs.setup.running import follow
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.pipeline.evaluation.results import Evaluation, as_json, as_markdown, as_text
from scclip.pipeline.evaluation.scoring import read_scores
from scclip.pipeline.inputs.passed_over import PassedOver
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.units import Unit, sample_urls
from scclip.pipeline.run.commit import create_anew
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.fingerprint import check_same
from scclip.pipeline.run.generations import write_generation
from scclip.pipeline.run.tidying import tidy, uncommit
from scclip.pipeline.storage.files import from_root, join
from scclip.segmentation.types import SegmentationOptions
from scclip.wording import counted


def evaluate(
    options: EvaluateOptions, model: ModelConfig, segmentation: SegmentationOptions, compute: ComputeConfig
) -> int:
    """Evaluates, prints the figures and writes results.json, results.md and report.html; returns the exit code."""
    evaluation = run_evaluation(options, model, segmentation, compute)
    if options.json:
        print(json_line(json.loads(as_json(evaluation))))
    else:
        tell(*as_text(evaluation).split("\n"))
    say(f"results: {join(options.output, 'results.json')}, results.md, report.html", notes(options.json))
    return check_failures(evaluation.statuses, options.max_failed)


def run_evaluation(
    options: EvaluateOptions,
    model: ModelConfig,
    segmentation: SegmentationOptions,
    compute: ComputeConfig,
    *,
    here: bool = False,
) -> Evaluation:
    """Evaluates to the end, or goes on where an earlier call stopped; with `here` in this process, without Ray."""
    files = RunFiles(from_root(options.output))
    with local_or_cluster("evaluate", options.address) as cluster:
        if options.labels is None:
            setup = model_setup(options, model, segmentation, compute, cluster.cuda(compute))
        elif model == ModelConfig() and segmentation == SegmentationOptions():
            setup = labels_setup(options, compute)
        else:
            raise UserError("--labels has its model and settings already; leave options of model and segmentation out")
        warn(setup.warnings, "evaluate")
        with watched_step("evaluate", READING):
            known = known_units(files, setup.manifest)
        plan_more = functools.partial(
            plan_units,
            options.shards,
            truth=options.truth_extension,
            limit=options.limit,
            exclude=[files.output],
            image_column=options.image_column,
        )
        passed = PassedOver()
        with watched_step("evaluate", LISTING):
            new = plan_more(known, passed=passed)
        warn(passed.lines(), "evaluate")
        tidy(files, files.finished())
        if options.retry_failed:
            uncommit(files, with_failures(files))
        if new or {unit.number for unit in known} - files.finished():
            cluster.check_storage(files.output, sample_urls(new or known))
            job = setup.job(files, cluster, here)
            warn(create_run(files, setup.manifest), "evaluate")
            known = write_generation(files, known, new, plan_more)
            check_same(files, setup.manifest)  # another driver may have begun another meanwhile
            finished = files.finished()
            waiting = [unit for unit in known if unit.number not in finished]
            if here:
                for _ in job.run_here(waiting):
                    pass
            else:
                progress = follow(waiting, job, "evaluate")
                say(f"{counted(progress.images, 'image')} in {duration(progress.seconds)}", notes(options.json))
        elif not here:
            say(f"nothing to do: every image is evaluated in {files.output}", notes(options.json))
    return conclude(options, files, known, setup)


def conclude(options: EvaluateOptions, files: RunFiles, units: Sequence[Unit], setup: EvaluationSetup) -> Evaluation:
    """Adds up the committed matrices and writes results.json, results.md and report.html."""
    with watched_step("evaluate", READING):
        totals, matrices = read_scores(files, [unit.number for unit in units], setup.scoring)
    evaluation = setup.evaluation(totals, matrices)
    warn(evaluation.warnings, "evaluate")
    create_anew(join(files.output, "results.json"), as_json(evaluation))
    create_anew(join(files.output, "results.md"), as_markdown(evaluation).encode())
    write_page(files, units, setup.scoring, evaluation, truth=options.truth_extension, pictures=options.pictures)
    return evaluation

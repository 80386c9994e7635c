"""`scclip evaluate SHARDS … OUTPUT`: label shards that hold ground truth and measure the labels against it.

    scclip evaluate s3://bucket/voc20 s3://bucket/voc20-b16 --benchmark voc20 \
        --model ViT-B-16-quickgelu --pretrained openai --variants scclip maskclip clip
    scclip evaluate --labels labels/ --truth shards/
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scclip.encoder.config import ModelConfig
from scclip.errors import UserError
from scclip.jobs.cli.cluster import Cluster, local_or_cluster
from scclip.jobs.cli.options import OptionParser, positional
from scclip.jobs.cli.progress import duration
from scclip.jobs.label import exceeded, follow, warn
from scclip.jobs.pages.evaluation import write_page
from scclip.jobs.setup.evaluation import Setup, labels_setup, model_setup
from scclip.jobs.setup.labeling import LabelOptions, create_run, known_units, with_failures
from scclip.jobs.setup.models import SegmentationOptions
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.pipeline.evaluation.results import Evaluation, as_json, as_markdown, as_text
from scclip.pipeline.evaluation.scoring import evaluate_here, read_scores
from scclip.pipeline.evaluation.truth import TruthConfig
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.job import LabelJob
from scclip.pipeline.run.commit import create_anew, tidy, uncommit
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.fingerprint import compare_runs, read_run
from scclip.pipeline.run.generations import write_generation
from scclip.pipeline.storage.files import join


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Input and output."""

    paths: tuple[str, ...] = positional("PATH", default=())
    """SHARDS … OUTPUT: shards with ground truth, and last the directory of the results. With --labels only OUTPUT, or
    nothing: then it is RUN-evaluation."""
    benchmark: str | None = None
    """Protocol: voc21, voc20, context60, context59, coco_object, coco_stuff, cityscapes or ade20k."""
    vocabulary: str | None = None
    """Built-in name, .txt or .yaml, instead of a benchmark."""
    variants: tuple[str, ...] = ()
    """Evaluate several at once: clip, maskclip, scclip; maskclip+STEP (that step alone), scclip-STEP (without it);
    steps: anomalies, aggregation, attention, fusion, post, residual."""
    labels: str | None = None
    """Evaluate the labels of this finished run instead of a model; its vocabulary and options are taken over."""
    truth: tuple[str, ...] = ()
    """Shards with the ground truth of --labels."""
    truth_extension: str = "seg.png"
    """Extension (in Parquet: column) of the ground truth in the shards."""
    truth_indices: Literal["classes", "categories"] = "classes"
    """Values of the truth: classes count from 0 (as `scclip shard` writes), categories from 1 with background as 0."""
    truth_ignore: tuple[int, ...] = ()
    """Values of the truth to leave out beside 255 (65535 in 16 bits)."""
    exif: Literal["ignore", "apply"] = "ignore"
    """Leave pictures as stored, for that is where the truth lies, or turn them as their EXIF orientation says."""
    limit: int | None = None
    """Evaluate the first N images only."""
    chunk_size: int | None = None
    """Images per chunk, the unit of work and of loss [32 on a CPU, 256 on a GPU]."""
    max_failed: float = 0.0
    """Share of images that may fail before the job ends with exit code 1."""
    retry_failed: bool = False
    """Evaluate the units that hold failed images again."""
    pictures: int = 12
    """Worst images shown in report.html, at most 48."""
    address: str | None = None
    """Address of a running Ray cluster [RAY_ADDRESS, else a Ray of its own on this machine]."""

    def __post_init__(self) -> None:
        if self.labels is None and len(self.paths) < 2:
            raise UserError("give SHARDS and OUTPUT, or --labels RUN --truth SHARDS")
        if self.labels is not None and (len(self.paths) > 1 or not self.truth):
            raise UserError("--labels RUN takes its shards from --truth SHARDS, and at most one path, OUTPUT")
        if self.labels is None and self.truth:
            raise UserError("--truth names the shards of --labels; without it SHARDS hold truth and images")
        if self.labels is not None and (self.benchmark or self.vocabulary or self.variants):
            raise UserError("--labels has its vocabulary and method already; leave --benchmark and the like out")
        if self.labels is None and (self.benchmark is None) == (self.vocabulary is None):
            raise UserError("give either --benchmark NAME or --vocabulary NAME|FILE")
        repeated = [name for name in self.variants if self.variants.count(name) > 1]
        if repeated:
            raise UserError(f"--variants names {repeated[0]!r} twice; once is enough")
        if not 0 <= self.pictures <= 48:
            raise UserError(f"--pictures {self.pictures} must be 0 to 48: the page stays small")
        self.as_label()

    @property
    def output(self) -> str:
        """Directory of the results."""
        return (self.paths[-1] if self.paths else f"{(self.labels or '').rstrip('/')}-evaluation").rstrip("/") or "/"

    @property
    def shards(self) -> tuple[str, ...]:
        """Where images and truth are read from."""
        return self.truth if self.labels is not None else self.paths[:-1]

    def as_label(self) -> LabelOptions:
        """What labeling calls the same options."""
        names = ("exif", "limit", "chunk_size", "max_failed", "retry_failed", "address")
        same: dict[str, Any] = {name: getattr(self, name) for name in names}
        return LabelOptions(inputs=self.shards, output=self.output, **same)

    def truth_config(self, background: bool) -> TruthConfig:
        """What the values mean for a vocabulary with or without a background."""
        offset = 0 if background or self.truth_indices == "categories" else 1
        return TruthConfig(offset=offset, ignore=self.truth_ignore)


EXAMPLE = """examples:
  scclip evaluate shards/ade20k ade20k-b16 --benchmark ade20k --model ViT-B-16-quickgelu --pretrained openai
  scclip evaluate camvid.tar camvid --vocabulary street.yaml --truth-ignore 11 \\
      --model ViT-B-16-quickgelu --pretrained openai --variants scclip maskclip clip
  scclip evaluate --labels labels/ --truth shards/
"""


def parser() -> OptionParser:
    """The verb's options."""
    groups = [EvaluateOptions, ModelConfig, SegmentationOptions, ComputeConfig]
    return OptionParser("evaluate", "Measure labels against ground truth in shards.", groups, EXAMPLE)


def main(argv: Sequence[str]) -> int:
    """Evaluates, prints the figures and writes results.json, results.md and report.html; returns the exit code."""
    options, model, segmentation, compute = parser().parse(argv)
    evaluation = evaluate(options, model, segmentation, compute)
    print(as_text(evaluation))
    print(f"results: {join(options.output, 'results.json')}, results.md, report.html")
    statuses = dict(sorted(evaluation.statuses.items()))
    read = {"images_read": sum(statuses.values()), "images_failed": evaluation.failed, "statuses": statuses}
    return exceeded(read, options.as_label())


def evaluate(
    options: EvaluateOptions,
    model: ModelConfig,
    segmentation: SegmentationOptions,
    compute: ComputeConfig,
    *,
    here: bool = False,
) -> Evaluation:
    """Evaluates to the end, or goes on where an earlier call stopped; `here` does it in this process, without Ray."""
    files = RunFiles(options.output)
    with local_or_cluster(options.address) as cluster:
        setup = choose_setup(options, model, segmentation, compute, cluster)
        warn(setup.warnings, "evaluate")
        known = known_units(files, setup.run)
        new = plan_more(options, known, files)
        tidy(files, files.finished())
        if options.retry_failed:
            uncommit(files, with_failures(files))
        if new or {unit.number for unit in known} - files.finished():
            job = setup.job(files, cluster, here)
            warn(create_run(files, setup.run), "evaluate")
            known = write_generation(files, known, new, lambda seen: plan_more(options, seen, files))
            compare_runs(read_run(files), setup.run, files.output)  # another driver may have begun another meanwhile
            work(known, job, here)
        elif not here:
            print(f"nothing to do: every image is evaluated in {files.output}")
    return conclude(options, files, known, setup)


def choose_setup(
    options: EvaluateOptions,
    model: ModelConfig,
    segmentation: SegmentationOptions,
    compute: ComputeConfig,
    cluster: Cluster,
) -> Setup:
    """What is evaluated: a model, or the labels of a run; UserError where the options are of the other."""
    if options.labels is None:
        return model_setup(options, model, segmentation, compute, cluster.cuda(compute))
    if model != ModelConfig() or segmentation != SegmentationOptions():
        raise UserError("--labels has its model and settings already; leave options of model and segmentation out")
    return labels_setup(options, compute)


def plan_more(options: EvaluateOptions, known: Sequence[Unit], files: RunFiles) -> list[Unit]:
    """The units that the shards have gained over those known."""
    return plan_units(options.shards, known, truth=options.truth_extension, limit=options.limit, exclude=[files.output])


def work(units: Sequence[Unit], job: LabelJob, here: bool) -> None:
    """Evaluates what is not finished yet."""
    finished = job.files.finished()
    waiting = [unit for unit in units if unit.number not in finished]
    if here:
        evaluate_here(waiting, job)
        return
    progress = follow(waiting, job)
    print(f"{progress.images:,} images in {duration(progress.seconds)}")


def conclude(options: EvaluateOptions, files: RunFiles, units: Sequence[Unit], setup: Setup) -> Evaluation:
    """Adds up the committed matrices and writes results.json, results.md and report.html."""
    totals, matrices = read_scores(files, [unit.number for unit in units], setup.scoring)
    evaluation = setup.evaluation(totals, matrices)
    create_anew(join(files.output, "results.json"), as_json(evaluation))
    create_anew(join(files.output, "results.md"), as_markdown(evaluation).encode())
    write_page(files, units, setup.scoring, evaluation, truth=options.truth_extension, pictures=options.pictures)
    return evaluation

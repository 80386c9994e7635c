"""Settles what is evaluated: a model under a benchmark's protocol, a model with a vocabulary, or the labels of a run.

setup = model_setup(options, model, segmentation, compute, cuda=False)
job = setup.job(files, cluster, here=False)
"""

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from scclip.categories import Categories
from scclip.encoder.calibration import published_depth
from scclip.encoder.checkpoints import WeightsSource, load_clip, published_digests
from scclip.encoder.config import ModelConfig
from scclip.encoder.variants import VARIANTS, variant
from scclip.errors import UserError
from scclip.jobs.cli.cluster import Cluster
from scclip.jobs.cli.errors import hint
from scclip.jobs.cli.steps import LOADING, watched_step
from scclip.jobs.cli.waiting import Teller
from scclip.jobs.options.evaluate import EvaluateOptions
from scclip.jobs.setup.labeling import LabelingSetup, chunk_limits
from scclip.jobs.setup.models import Architecture, architecture
from scclip.pipeline.annotations.numbering import find_numbering
from scclip.pipeline.benchmarks.protocols import BACKBONES, BENCHMARKS, Backbone, Benchmark
from scclip.pipeline.cluster.resources import ComputeConfig, Resources, Shape, divide
from scclip.pipeline.evaluation.predictions import find_labels
from scclip.pipeline.evaluation.results import Evaluation
from scclip.pipeline.evaluation.scoring import IntArray, Scoring, commit_scores, finish_scores, truth_warnings
from scclip.pipeline.evaluation.truth import TruthConfig
from scclip.pipeline.evaluation.variants import VariantsSpec
from scclip.pipeline.inputs.decoding import DecodeConfig
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.resolve import Search, resolve
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.job import LabelJob
from scclip.pipeline.labeling.models import find_model, load_vocabulary, load_warnings
from scclip.pipeline.run.files import DIGESTS_KEY, RunFiles
from scclip.pipeline.run.fingerprint import existing_run, library_versions
from scclip.pipeline.run.generations import read_plan
from scclip.pipeline.run.manifest import OptionsRecord, RunManifest
from scclip.pipeline.run.totals import Totals, unit_metadata
from scclip.pipeline.storage.files import from_root
from scclip.pipeline.storage.secrets import public_url
from scclip.pipeline.storage.threads import map_threads
from scclip.segmentation.types import SegmentationOptions, SegmenterConfig
from scclip.wording import counted

TOWERS: dict[Backbone, Architecture] = {"ViT-B/16": Architecture(12, 16, 768), "ViT-L/14": Architecture(24, 14, 1024)}


@dataclass(frozen=True, kw_only=True)
class EvaluationSetup:
    """Everything that does not depend on the images."""

    manifest: RunManifest
    """run.json."""
    scoring: Scoring
    """How labels are compared with the truth."""
    title: str
    """Benchmark or vocabulary."""
    model: str
    """What the labels come from, in words."""
    spec: Callable[[RunFiles, Resources], Any]
    """Loads what an actor holds."""
    truth: str
    """Extension (in Parquet: column) of the ground truth."""
    compute: ComputeConfig
    benchmark: Benchmark | None = None
    published: float | None = None
    deviations: tuple[str, ...] = ()
    """The differences between these settings and the protocol's."""
    warnings: tuple[str, ...] = ()

    def job(self, files: RunFiles, cluster: Cluster, here: bool) -> LabelJob:
        """Loads what the actors hold and returns the job for the labeling graph; starts Ray unless it runs `here`."""
        if not here:
            cluster.start()
        if here:
            resources = divide(self.compute, nodes=[Shape(cpus=1, gpus=0)])
        else:
            resources = cluster.reserve(self.compute, Teller("evaluate", files))
        with watched_step("evaluate", LOADING):
            spec = self.spec(files, resources)
        return LabelJob(
            files=files,
            spec=spec,
            resources=resources,
            limits=self.manifest.chunk_limits,
            decode=DecodeConfig(exif=self.manifest.options.exif),
            commit=functools.partial(commit_scores, scoring=self.scoring),
            finish=functools.partial(finish_scores, scoring=self.scoring),
            done=files.parts(),
            truth=self.truth,
        )

    def evaluation(self, totals: Totals, matrices: IntArray) -> Evaluation:
        """Returns the figures, given the sums over all images."""
        deviations = None if self.benchmark is None else self.deviations
        if self.benchmark and totals.labeled != self.benchmark.images:
            deviations = (*self.deviations, f"{counted(totals.labeled, 'image')}, not {self.benchmark.images:,}")
        return Evaluation(
            title=self.title,
            model=self.model,
            names=self.scoring.categories,
            matrices=dict(zip(self.scoring.variants, matrices, strict=True)),
            statuses=dict(totals.statuses),
            published=self.published,
            deviations=deviations,
            warnings=truth_warnings(totals, matrices[0], self.scoring.truth),
        )


def model_setup(
    options: EvaluateOptions, model: ModelConfig, segmentation: SegmentationOptions, compute: ComputeConfig, cuda: bool
) -> EvaluationSetup:
    """Sets up the evaluation of a model's variants under a protocol or with a vocabulary."""
    variants = variant_names(options.variants, model)
    if options.benchmark and options.benchmark not in BENCHMARKS:
        raise UserError(f"--benchmark {options.benchmark!r} is unknown; {hint(options.benchmark, BENCHMARKS)}")
    benchmark = BENCHMARKS[options.benchmark] if options.benchmark else None
    vocabulary = load_vocabulary(options.vocabulary or str(options.benchmark))
    source, weights = find_model(model, cuda), public_url(model.pretrained or "")
    backbone = find_backbone(source) if benchmark else None
    if benchmark and backbone:
        segmentation = protocol_options(benchmark, backbone, segmentation)
    labeling = LabelingSetup(options.as_label(), source, segmentation, compute, vocabulary, cuda)

    def spec(files: RunFiles, resources: Resources) -> VariantsSpec:
        clip = load_clip(source)
        own = clip.visual().calibration  # without names there is one variant, as the model's own flags describe it
        base = labeling.actor_spec(clip, resources, files)
        if benchmark:
            base = replace(base, segmenter=in_levels(base.segmenter))
        return VariantsSpec(base=base, calibrations=tuple(variant(own, name) for name in options.variants) or (own,))

    search, said = Search(truth=options.truth_extension, exclude=[from_root(options.output)]), options.truth_indices
    shards = [] if said else [draft for name in options.shards for draft in resolve(name, search)]
    scoring = scoring_of(options, vocabulary.categories, variants, shards)
    facts = scoring_facts(scoring, options) | {"benchmark": options.benchmark}
    manifest = replace(labeling.manifest(), evaluation=facts)
    setup = EvaluationSetup(
        manifest=replace(manifest, segmentation=in_levels(manifest.segmentation)) if benchmark else manifest,
        scoring=scoring,
        title=options.benchmark or vocabulary.name,
        model=f"{model.model}{f' ({weights})' if weights else ''}, {source.config.precision}",
        spec=spec,
        truth=options.truth_extension,
        compute=compute,
        warnings=load_warnings(model, vocabulary),
    )
    if not benchmark or not backbone:
        return setup
    published = benchmark.published_miou(backbone) if architecture(source) == TOWERS[backbone] else None
    differences = tuple(deviations(benchmark, backbone, labeling))
    return replace(setup, benchmark=benchmark, published=published, deviations=differences)


def labels_setup(options: EvaluateOptions, compute: ComputeConfig) -> EvaluationSetup:
    """Sets up the evaluation of a finished run's labels."""
    source = RunFiles(from_root(str(options.labels)))
    run, units = finished_run(source)
    truth, column = options.truth_extension, options.image_column
    shards = plan_units(options.shards, truth=truth, limit=options.limit, image_column=column)
    scoring = scoring_of(options, run.categories, (run.model.method,), shards)
    digests = map_threads(lambda unit: unit_metadata(source, unit.number)[DIGESTS_KEY], units)
    digest = hashlib.sha256(b"\n".join(digests)).hexdigest()
    labels = {"benchmark": None, "labels": public_url(source.output), "labels_sha256": digest}
    return EvaluationSetup(
        manifest=replace(
            run,
            options=OptionsRecord(exif=run.options.exif, limit=options.limit, image_ids="plan", image_column=column),
            chunk_limits=chunk_limits(options.chunk_size, cuda=False),
            versions=library_versions(),
            evaluation=scoring_facts(scoring, options) | labels,
        ),
        scoring=scoring,
        title=run.vocabulary.name,
        model=f"{run.model.model}, {run.model.precision}, labels of {public_url(source.output)}",
        spec=lambda files, resources: find_labels(source, read_plan(files) or shards),
        truth=options.truth_extension,
        compute=replace(compute, gpus_per_actor=0),
    )


def finished_run(files: RunFiles) -> tuple[RunManifest, list[Unit]]:
    """Returns manifest and units of a labeling run; UserError where there is none or it is not complete."""
    run, units = existing_run(files, "--labels", labels=True)
    left = {unit.number for unit in units} - files.finished()
    if left or not units:
        what = f"is not complete: {len(left):,} of {counted(len(units), 'unit')} missing"
        raise UserError(f"--labels {files.output} {what}; run the same scclip label again")
    return run, units


def scoring_of(
    options: EvaluateOptions, categories: Categories, variants: tuple[str, ...], shards: Sequence[Unit]
) -> Scoring:
    """Returns how labels are compared; UserError where the shards say that their numbers mean other classes."""
    truth = TruthConfig(offset=truth_offset(options, categories, shards), ignore=options.truth_ignore)
    return Scoring(categories=categories, variants=variants, truth=truth)


def truth_offset(options: EvaluateOptions, categories: Categories, shards: Sequence[Unit]) -> int:
    """Returns what a number of the truth lacks to the category that it means.

    Where the user says nothing, the categories.json of an export does; shards without one count classes from 0, unless
    there is a background, which is 0 then.
    """
    urls = (source.url for unit in shards for source in unit.sources[:1])
    numbering = None if options.truth_indices else find_numbering(urls)
    if numbering is None:
        return 0 if 0 in categories or options.truth_indices == "categories" else 1
    offset = 1 - numbering.first
    for number, name in numbering.meanings.items():
        if categories.get(number + offset) != name:
            other = categories.get(number + offset, "no class")
            what = f"by its categories.json {number} is {name!r} in the truth, in the labels it is {other!r}"
            remedy = "take a truth of the same classes, or give --truth-indices to compare by number alone"
            raise UserError(f"{' '.join(options.shards)}: {what}; {remedy}")
    return offset


def scoring_facts(scoring: Scoring, options: EvaluateOptions) -> dict[str, object]:
    """Returns what run.json records of the comparison: everything that changes the matrices."""
    truth = {"extension": options.truth_extension, "offset": scoring.truth.offset, "ignore": list(scoring.truth.ignore)}
    return {"variants": list(scoring.variants), "truth": truth, "worst": scoring.worst}


def variant_names(wanted: Sequence[str], model: ModelConfig) -> tuple[str, ...]:
    """Returns the variants' names; UserError where --variants is mixed with the flags of a single variant."""
    switched = (model.method, model.attention, model.without) != ("scclip", None, ())
    if wanted and switched:
        raise UserError("--variants names whole variants; leave --method, --attention and --without out")
    for name in wanted:
        if name not in VARIANTS:
            raise UserError(f"--variants {name!r} is unknown; choose {', '.join(VARIANTS)}")
    attention = f" with {model.attention}" if model.attention else ""
    return tuple(wanted) or ("-".join([model.method, *model.without]) + attention,)


def find_backbone(source: WeightsSource) -> Backbone:
    """Returns the backbone whose settings a model takes, chosen by its depth."""
    return BACKBONES[published_depth(architecture(source).layers)]


def protocol_options(benchmark: Benchmark, backbone: Backbone, given: SegmentationOptions) -> SegmentationOptions:
    """Fills in the protocol's settings where none are given."""
    protocol = protocol_config(benchmark, backbone)
    names = ("logit_scale", "confidence_threshold", "area_threshold", "short_side")
    return replace(given, **{name: getattr(protocol, name) for name in names if getattr(given, name) is None})


def protocol_config(benchmark: Benchmark, backbone: Backbone) -> SegmenterConfig:
    """Returns how the protocol cuts images, scores pixels and sets thresholds."""
    settings = benchmark.settings(backbone)
    return SegmenterConfig(
        short_side=benchmark.short_side,
        logit_scale=settings.logit_scale,
        confidence_threshold=settings.threshold,
        area_threshold=settings.area_threshold,
    )


def in_levels(config: SegmenterConfig) -> SegmenterConfig:
    """Rounds mean and deviation as the published configurations do: in levels of 0 to 255, to three decimals."""
    return replace(config, mean=_rounded(config.mean), std=_rounded(config.std))


def _rounded(values: tuple[float, float, float]) -> tuple[float, float, float]:
    red, green, blue = (round(255 * value, 3) / 255 for value in values)
    return red, green, blue


def deviations(benchmark: Benchmark, backbone: Backbone, labeling: LabelingSetup) -> list[str]:
    """Returns the differences between these settings and the protocol's, each in a few words."""
    protocol, source = protocol_config(benchmark, backbone), labeling.source
    fixed = [field.name for field in fields(protocol) if field.metadata.get("protocol", True)]
    pairs = [(name, getattr(labeling.segmenter, name), getattr(protocol, name)) for name in fixed]
    differences = [f"{name.replace('_', ' ')} {ours}, not {theirs}" for name, ours, theirs in pairs if ours != theirs]
    sizes = architecture(source)
    if sizes != TOWERS[backbone]:
        differences.append(f"a tower of {sizes.layers} blocks, patch {sizes.patch}, width {sizes.width}, no {backbone}")
    elif source.config.pretrained != "openai" and source.digest not in published_digests():
        differences.append("not OpenAI's weights")
    if source.settings:
        differences.append("a calibration file")
    if labeling.options.exif == "ignore":
        differences.append("EXIF orientation ignored")
    return differences

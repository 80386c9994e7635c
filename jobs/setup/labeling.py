"""Settles what a labeling job is made of: options, weights, vocabulary, segmentation; makes its manifest and its job.

setup = LabelingSetup(options, find_model(model, cuda), SegmentationOptions(), compute, vocabulary, cuda)
job = setup.job(setup.files, cluster)
"""

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scclip.encoder.checkpoints import LoadedCLIP, WeightsSource, load_clip
from scclip.errors import UserError, one_line
from scclip.jobs.cli.cluster import Cluster
from scclip.jobs.cli.errors import warn
from scclip.jobs.cli.options import recorded
from scclip.jobs.cli.steps import ENCODING, LOADING, watched_step
from scclip.jobs.cli.waiting import Teller
from scclip.jobs.options.label import LabelOptions
from scclip.jobs.setup.finished import new_units
from scclip.jobs.setup.models import architecture, calibration_note, wanted_threads
from scclip.pipeline.annotations import coco
from scclip.pipeline.cluster.resources import ComputeConfig, Resources
from scclip.pipeline.inputs.chunks import ChunkLimits
from scclip.pipeline.inputs.decoding import DecodeConfig
from scclip.pipeline.inputs.passed_over import PassedOver
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.job import ActorSpec, LabelJob
from scclip.pipeline.labeling.labeler import LabelerSpec
from scclip.pipeline.labeling.text_features import text_features
from scclip.pipeline.run.commit import CommitOptions, commit_chunk, finish_unit
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.fingerprint import check_same, library_versions, open_run
from scclip.pipeline.run.generations import read_plan
from scclip.pipeline.run.manifest import ModelRecord, OptionsRecord, RunManifest, VocabularyRecord, record
from scclip.pipeline.run.totals import unit_totals
from scclip.pipeline.storage.files import create, exists, from_root, join, read_bytes
from scclip.pipeline.storage.retries import StorageUnavailable
from scclip.segmentation.settings import segmenter_config
from scclip.segmentation.types import SegmentationOptions, SegmenterConfig
from scclip.vocabulary.vocabulary import Vocabulary

CPU_CHUNK, GPU_CHUNK = 32, 256  # images: some 20 seconds of work for ViT-B/16 on two cores


@dataclass(frozen=True)
class LabelingSetup:
    """Everything that does not depend on the images."""

    options: LabelOptions
    source: WeightsSource
    """The weights, not loaded yet."""
    segmentation: SegmentationOptions
    compute: ComputeConfig
    vocabulary: Vocabulary
    cuda: bool
    """Whether actors run on GPUs."""

    @functools.cached_property
    def segmenter(self) -> SegmenterConfig:
        """How images are cut and scored. Raises UserError where segmentation options are wrong."""
        return segmenter_config(self.segmentation, self.vocabulary, self.source, self.cuda)

    @property
    def limits(self) -> ChunkLimits:
        """Where chunks close."""
        return chunk_limits(self.options.chunk_size, self.cuda)

    @property
    def files(self) -> RunFiles:
        """The run's files."""
        return RunFiles(from_root(self.options.output))

    def manifest(self) -> RunManifest:
        """run.json. Raises TypeError for a recorded option that OptionsRecord does not have."""
        content = {**self.vocabulary.to_dict(), "sha256": self.vocabulary.digest()}
        return RunManifest(
            model=ModelRecord(
                **recorded(self.source.config),
                weights_sha256=self.source.digest,
                quick_gelu=self.source.quick_gelu,
                calibration=self.source.settings,
                calibration_note=calibration_note(architecture(self.source).layers),
            ),
            vocabulary=record(VocabularyRecord, content),
            options=OptionsRecord(**recorded(self.options)),
            segmentation=self.segmenter,
            chunk_limits=self.limits,
            versions=library_versions(),
        )

    def new_units(self, known: Sequence[Unit], passed: PassedOver | None = None) -> list[Unit]:
        """Returns the units that were added to the inputs since those known were planned; counts the rest."""
        return new_units(self.options, self.files, known, passed)

    def job(self, files: RunFiles, cluster: Cluster) -> LabelJob:
        """Starts Ray, loads the model and writes run.json: every mistake shows before anything is planned.

        Args:
            files: where the run is written: `self.files`, or a scratch folder for a dry run.
            cluster: the Ray that the job runs on.

        Raises:
            UserError: the model, the cluster or OUTPUT cannot be used; RunMismatch for another run's OUTPUT.
        """
        cluster.start()
        if self.options.dry_run:
            resources = cluster.divide(self.compute)
        else:
            resources = cluster.reserve(self.compute, Teller("label", files))
        with watched_step("label", LOADING):
            clip = load_clip(self.source)
            clip.visual()
        warn(create_run(files, self.manifest()))
        return self.job_of(files, resources, self.actor_spec(clip, resources, files))

    def actor_spec(self, clip: LoadedCLIP, resources: Resources, files: RunFiles) -> LabelerSpec:
        """Returns what an actor holds: text features, read from the run where it has them, and the tower's arrays."""
        url = join(files.output, "text_features.npy")
        if exists(url):
            features = np.load(io.BytesIO(read_bytes(url)))
        else:
            with watched_step("label", ENCODING):
                features = text_features(clip, self.vocabulary, cuda=resources.device == "cuda")
            buffer = io.BytesIO()
            np.save(buffer, features)
            create(url, buffer.getvalue())
        spec = LabelerSpec.of(clip, self.vocabulary, features, self.segmenter, resources.device)
        threads = wanted_threads() or resources.threads
        return replace(spec, threads=threads, scores=self.options.save_confidence)

    def job_of(self, files: RunFiles, resources: Resources, spec: ActorSpec) -> LabelJob:
        """Returns the job that writes to `files` with actors that hold `spec`."""
        categories = self.vocabulary.categories
        parts = CommitOptions(
            masks=self.options.masks == "png",
            image_ids=self.options.image_ids,
            dtype=categories.dtype,
        )
        info = self.manifest().document_info()
        reduced_side = 2 * self.segmenter.short_side if self.options.reduced_decode else 0
        return LabelJob(
            files=files,
            spec=spec,
            resources=resources,
            limits=self.limits,
            decode=DecodeConfig(exif=self.options.exif, reduced_side=reduced_side),
            commit=functools.partial(commit_chunk, options=parts),
            finish=functools.partial(finish_unit, categories=coco.categories(categories), info=info),
            done=files.parts(),
        )


def chunk_limits(images: int | None, cuda: bool) -> ChunkLimits:
    """Returns the limits of a chunk of that many images; None takes the number that suits the device."""
    return ChunkLimits(images=images or (GPU_CHUNK if cuda else CPU_CHUNK))


def known_units(files: RunFiles, manifest: RunManifest) -> list[Unit]:
    """Returns the units planned before; RunMismatch for another run's OUTPUT, UserError for an unreadable one."""
    try:
        units = read_plan(files)
    except StorageUnavailable:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"OUTPUT {files.output} cannot be read: {one_line(error)}; check URL and rights") from None
    if units:
        check_same(files, manifest)
    return units


def create_run(files: RunFiles, manifest: RunManifest) -> list[str]:
    """Writes run.json and returns warnings; UserError where OUTPUT cannot be written, RunMismatch as `known_units`."""
    try:
        return open_run(files, manifest)
    except StorageUnavailable:
        raise
    except OSError as error:
        raise UserError(f"OUTPUT {files.output} cannot be written: {one_line(error)}; check URL and rights") from None


def with_failures(files: RunFiles) -> set[int]:
    """Returns the finished units that hold failed images."""
    return {unit for unit, totals in unit_totals(files, files.finished()).items() if totals.failed}

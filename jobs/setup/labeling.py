"""What a labeling run is made of: its options, its fingerprint, its units, what every document says of it.

run = fingerprint(options, source, vocabulary, segmenter, limits)   # run.json
units = new_units(options, known_units(files, run), files)
"""

import functools
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from scclip.encoder.checkpoints import WeightsSource
from scclip.errors import UserError, one_line
from scclip.jobs.options.label import LabelOptions
from scclip.pipeline.annotations import coco
from scclip.pipeline.inputs.chunks import ChunkLimits
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.job import Commit, Finish
from scclip.pipeline.run.commit import CommitOptions, commit_chunk, finish_unit
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.fingerprint import compare_runs, library_versions, open_run, read_run
from scclip.pipeline.run.generations import read_plan
from scclip.pipeline.run.totals import unit_totals
from scclip.pipeline.storage.retries import StorageUnavailable
from scclip.segmentation.types import SegmenterConfig
from scclip.vocabulary.vocabulary import Vocabulary

CPU_CHUNK, GPU_CHUNK = 32, 256  # images: some 20 seconds of work for ViT-B/16 on two cores


def fingerprint(
    options: LabelOptions,
    source: WeightsSource,
    vocabulary: Vocabulary,
    segmenter: SegmenterConfig,
    limits: ChunkLimits,
) -> dict[str, Any]:
    """run.json: everything that changes labels, ids or chunk limits, and the libraries' versions."""
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
        raise UserError(f"OUTPUT {files.output} cannot be read: {one_line(error)}; check URL and rights") from None
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
        raise UserError(f"OUTPUT {files.output} cannot be written: {one_line(error)}; check URL and rights") from None


def new_units(options: LabelOptions, known: Sequence[Unit], files: RunFiles) -> list[Unit]:
    """The units that the inputs have gained over those known."""
    return plan_units(options.inputs, known, limit=options.limit, exclude=[files.output])


def with_failures(files: RunFiles) -> set[int]:
    """The finished units that hold failed images."""
    return {unit for unit, totals in unit_totals(files, files.finished()).items() if totals.failed}


def sample_inputs(units: Sequence[Unit]) -> list[str]:
    """What every node must be able to open for these units: the first shard or file."""
    return [unit.files[0].url if unit.files else unit.url for unit in units[:1] if unit.size >= 0]


def writers(options: LabelOptions, source: WeightsSource, vocabulary: Vocabulary) -> tuple[Commit, Finish]:
    """What writes a labeled chunk's part, and what makes a unit's files of its parts."""
    categories, info = coco.categories(vocabulary.categories), document_info(source, vocabulary)
    return (
        functools.partial(commit_chunk, options=commit_options(options, vocabulary)),
        functools.partial(finish_unit, categories=categories, info=info),
    )


def commit_options(options: LabelOptions, vocabulary: Vocabulary) -> CommitOptions:
    """What the parts hold."""
    return CommitOptions(
        masks=options.masks == "png",
        save_confidence=options.save_confidence,
        image_ids=options.image_ids,
        dtype=vocabulary.categories.dtype,
    )


def document_info(source: WeightsSource, vocabulary: Vocabulary) -> dict[str, Any]:
    """`info` of every COCO document: what made it, without a date."""
    config = source.config
    return {
        "description": f"Pseudo-labels of {config.method} with {config.model}, vocabulary {vocabulary.name}",
        "version": library_versions()["scclip-pipeline"],
        "weights_sha256": source.digest,
        "vocabulary_sha256": vocabulary.digest(),
    }

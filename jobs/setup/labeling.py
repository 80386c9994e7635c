"""What a labeling run is made of: its options, its fingerprint, its units, what every document says of it.

run = fingerprint(options, source, vocabulary, segmenter, limits)   # run.json
units = new_units(options, known_units(files, run), files)
"""

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scclip.encoder.checkpoints import WeightsSource
from scclip.errors import UserError, one_line
from scclip.jobs.cli.options import positional
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

"""Turns options into weights, vocabulary and segmentation. For every verb that runs a model."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import open_clip

from scclip.encoder.calibration import published_depth
from scclip.encoder.checkpoints import WeightsSource, find_weights, resolve_precision
from scclip.encoder.config import ModelConfig
from scclip.errors import UserError
from scclip.jobs.options.label import SegmentationOptions
from scclip.pipeline.storage.files import info, open_stream, read_bytes
from scclip.segmentation.types import SegmenterConfig
from scclip.vocabulary.vocabulary import Vocabulary

RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set for the driver of a submitted job: its configuration


def load_vocabulary(source: str) -> Vocabulary:
    """Loads a built-in vocabulary, a local file or any fsspec URL."""
    if "://" not in source:
        return Vocabulary.load(source)
    try:
        return Vocabulary.parse(read_bytes(source), source)
    except OSError as error:
        raise UserError(f"vocabulary {source} cannot be read: {error}; check the URL") from None


def load_warnings(model: ModelConfig, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Returns warnings about a vocabulary, and about a model that does not fit it, one line each."""
    if model.model != "demo" or vocabulary.name == "demo":
        return vocabulary.warnings
    what = f"the demo model knows drawn scenes and the vocabulary 'demo' only, not {vocabulary.name!r}"
    remedy = "for photographs give a model, e.g. --model ViT-B-16-quickgelu --pretrained openai"
    return (f"{what}; {remedy}", *vocabulary.warnings)


def fetch(url: str) -> Path:
    """Copies a remote file into the user's cache, once for each URL and version; returns its path."""
    try:
        remote = info(url)
        identity = hashlib.sha256(f"{url} {remote.size} {remote.version}".encode()).hexdigest()[:24]
        folder = cache_folder() / identity
        target = folder / url.rsplit("/", 1)[1]
        if not target.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(f".{os.getpid()}.partial")
            with partial.open("wb") as file, open_stream(url, size=remote.size) as stream:
                while block := stream.read(1 << 22):
                    file.write(block)
            partial.rename(target)
        return target
    except OSError as error:
        raise UserError(f"weights {url} cannot be fetched: {error}; check the URL and its credentials") from None


def cache_folder() -> Path:
    """Returns this program's folder among the user's caches, which may not exist; OSError where there is no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scclip"
    except RuntimeError as error:  # of a container's user that the system does not know
        raise OSError(str(error)) from None


def segmenter_config(
    options: SegmentationOptions, vocabulary: Vocabulary, source: WeightsSource, cuda: bool
) -> SegmenterConfig:
    """Returns how images are cut and scored; flags win over the settings of vocabulary and model."""
    values: dict[str, Any] = {
        "logit_scale": vocabulary.logit_scale,
        "confidence_threshold": vocabulary.threshold,
        "area_threshold": vocabulary.area_threshold,
        **source.windows(),
        **{name: value for name, value in asdict(options).items() if value is not None},
    }
    if options.window_batch is None:
        whole = values.get("window") == 0  # pictures differ in size, and a batch is padded to its number
        values["window_batch"] = 1 if whole else (64 if cuda else SegmenterConfig().window_batch)
    thresholds = ((index, entry.threshold) for index, entry in enumerate(vocabulary.classes, start=1))
    own = tuple((index, threshold) for index, threshold in thresholds if threshold is not None)
    try:
        return SegmenterConfig(**values, category_thresholds=own)
    except ValueError as error:
        raise UserError(str(error)) from None


@dataclass(frozen=True)
class Architecture:
    """Sizes of a vision tower as its configuration states them; 0 where it states none."""

    layers: int
    patch: int
    width: int


def architecture(source: WeightsSource) -> Architecture:
    """Returns the sizes of a vision tower without loading its weights."""
    name = source.open_clip_name
    if name.startswith("local-dir:"):
        content = json.loads((Path(name.removeprefix("local-dir:")) / "open_clip_config.json").read_text())
    else:
        content = {"model_cfg": open_clip.get_model_config(name) or {}}
    vision = content.get("model_cfg", content).get("vision_cfg", {})
    sizes = (vision.get(key, 0) for key in ("layers", "patch_size", "width"))
    return Architecture(*(size if isinstance(size, int) else 0 for size in sizes))


def calibration_note(layers: int) -> str | None:
    """Returns one sentence where the settings of a tower of `layers` blocks are not published; None where they are."""
    if layers in (0, 12, 24):
        return None
    depth = published_depth(layers)
    return f"layers by proportion: a tower of {layers} blocks has no published settings, those for {depth} were scaled"


def find_model(config: ModelConfig, cuda: bool) -> WeightsSource:
    """Finds the weights, fetched into the user's cache where they are a URL, and settles the precision `auto`."""
    if config.pretrained is not None and "://" in config.pretrained:
        config = replace(config, pretrained=str(fetch(config.pretrained)))
    source = find_weights(config)
    return replace(source, config=replace(source.config, precision=resolve_precision(config.precision, cuda)))


def wanted_threads() -> int:
    """Returns OMP_NUM_THREADS where the user set it, else 0.

    In a submitted job only what travels with it counts (`--pass-env`): Ray gives its driver a 1 that nobody asked for.
    """
    environ: Mapping[str, str] = os.environ
    if RAY_JOB in os.environ:
        environ = (json.loads(os.environ[RAY_JOB]).get("runtime_env") or {}).get("env_vars") or {}
    first = environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(first) if first.isdecimal() else 0

"""Finds and loads models: by open_clip name and tag, from a file, a local directory or a hub, or the bundled demo.

    source = find_weights(ModelConfig(model="ViT-B-16-quickgelu", pretrained="openai"))
    clip = load_clip(source)  # clip.model has both towers, clip.visual() the calibrated vision tower

Pickles and TorchScript are never executed: PyTorch's safe loader reads checkpoints, and only archives whose SHA-256 is
a published one may be TorchScript (OpenAI's own files).
"""

import contextlib
import difflib
import functools
import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from textwrap import shorten
from typing import Any, TypedDict, cast

import open_clip
import torch
from open_clip.transformer import QuickGELU

from scclip.documents import DocumentError, parse_mapping, read_document
from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.config import ModelConfig, Precision
from scclip.encoder.state_dicts import OPENAI_KEYS, Geometry, State, read_state_dict
from scclip.encoder.tower import SelfCalibratedCLIP, check_tower
from scclip.encoder.variants import variant
from scclip.errors import ModelError, one_line

DEMO_DIRECTORY = Path(__file__).parents[1] / "demo" / "weights"
CALIBRATION_FILE = "calibration.yaml"  # beside a local directory's weights: its own settings
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")

OFFLINE = "check the network, or use --pretrained FILE or --model demo, which need none"


class WindowSettings(TypedDict, total=False):
    """What a calibration file may also say: how its model slides, in the words of `SegmenterConfig`."""

    window: int
    stride: int
    short_side: int


WINDOW_KEYS = tuple(WindowSettings.__annotations__)


@dataclass(frozen=True, kw_only=True)
class WeightsSource:
    """Weights on this machine, and what it takes to load them."""

    config: ModelConfig
    open_clip_name: str
    """What open_clip calls the architecture: a name or `local-dir:PATH`."""
    file: Path
    """The checkpoint."""
    digest: str
    """SHA-256 (hex) of the checkpoint, or of a directory's config and checkpoint."""
    quick_gelu: bool
    """Whether QuickGELU has to be forced."""
    settings: dict[str, Any]
    """The content of the calibration file; empty without one."""

    def windows(self) -> WindowSettings:
        """The model's own window, stride and short side, as far as its calibration file has them."""
        return cast(WindowSettings, {key: int(self.settings[key]) for key in WINDOW_KEYS if key in self.settings})

    def calibration(self, layers: int) -> CalibrationConfig:
        """The method's settings for a tower of `layers` blocks.

        The published ones are changed by the calibration file, then by the method, attention and steps of the config.

        Raises:
            ModelError: a setting is wrong.
        """
        given = {key: value for key, value in self.settings.items() if key not in WINDOW_KEYS}
        if "fused_layers" in given:
            given["fused_layers"] = tuple(given["fused_layers"])
        try:
            settings = variant(replace(CalibrationConfig.published(layers), **given), self.config.method)
            changes: dict[str, Any] = dict.fromkeys(self.config.without, False)
            if self.config.attention:
                changes["attention"] = self.config.attention
            return replace(settings, **changes)
        except (TypeError, ValueError) as error:
            raise ModelError(f"calibration of {self.config.model}: {error}") from None


@dataclass(frozen=True)
class LoadedCLIP:
    """A loaded model with its tokenizer."""

    model: Any
    """The open_clip model: both towers in float32 on the CPU, without gradients."""
    tokenizer: Callable[[list[str]], torch.Tensor]
    """Prompts (P) → tokens (P, L) int64."""
    source: WeightsSource
    mean: tuple[float, float, float]
    """Per-channel mean of its normalisation, RGB in [0, 1]."""
    std: tuple[float, float, float]
    """Per-channel deviation of its normalisation."""

    def visual(self) -> SelfCalibratedCLIP:
        """The vision tower with the settings of its source; ModelError if the architecture is not supported."""
        try:
            check_tower(self.model.visual)
            calibration = self.source.calibration(len(self.model.visual.transformer.resblocks))
            return SelfCalibratedCLIP(self.model.visual, calibration)
        except ModelError:
            raise
        except ValueError as error:
            raise ModelError(f"model {self.source.config.model}: {error}") from None


def resolve_precision(precision: Precision, cuda: bool) -> Precision:
    """`auto` made definite: fp16 on a GPU, as the authors' code has it; bf16 on a CPU with AVX-512 bf16; else float32.

    On a GPU both cost the same, and the features of fp16 are six to nine times closer to those of float32.
    """
    if precision != "auto":
        return precision
    if cuda:
        return "fp16"
    return "bf16" if getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)() else "float32"


def find_weights(config: ModelConfig) -> WeightsSource:
    """Finds the checkpoint of a model and computes its digest; downloads it where it is not on this machine.

    Args:
        config: which model, and which variant of the method.

    Returns:
        The checkpoint with its settings; tensors are not read yet.

    Raises:
        ModelError: an unknown name or tag, a missing file, a QuickGELU mismatch, or a hub that cannot be reached.
    """
    settings = read_calibration(Path(config.calibration)) if config.calibration else {}
    directory = model_directory(config.model)
    if directory is not None:
        file, name = checkpoint_in(directory, config.model), f"local-dir:{directory}"
        own = directory / CALIBRATION_FILE
        settings = {**(read_calibration(own) if own.is_file() else {}), **settings}
    else:
        name = architecture_name(config.model)
        file = pretrained_file(config, name)
    weights_digest = sha256_of(file)
    config_digest = sha256_of(directory / "open_clip_config.json") if directory else ""
    return WeightsSource(
        config=config,
        open_clip_name=name,
        file=file,
        digest=hashlib.sha256(f"{config_digest}{weights_digest}".encode()).hexdigest() if directory else weights_digest,
        quick_gelu=config.quick_gelu or published_digests().get(weights_digest, False),
        settings=settings,
    )


def model_directory(model: str) -> Path | None:
    """The directory of a `demo`, `local-dir:` or `hf-hub:` model; None for a name that open_clip knows."""
    if model == "demo":
        return DEMO_DIRECTORY
    if model.startswith("hf-hub:"):
        return download_hub(model.removeprefix("hf-hub:"))
    if not model.startswith("local-dir:"):
        return None
    directory = Path(model.removeprefix("local-dir:"))
    if not (directory / "open_clip_config.json").is_file():
        raise ModelError(f"model {model}: no open_clip_config.json in {directory}; give open_clip's own form")
    return directory


def download_hub(repository: str) -> Path:
    """Downloads a Hugging Face repository in open_clip's form to the local cache; ModelError if that fails."""
    from huggingface_hub import snapshot_download

    patterns = ["open_clip_config.json", "*.safetensors", "tokenizer*", CALIBRATION_FILE]
    try:
        with quiet():
            return Path(snapshot_download(repository, allow_patterns=patterns))
    except Exception as error:
        raise ModelError(f"model hf-hub:{repository}: {one_line(error)}; check the name; {OFFLINE}") from None


def checkpoint_in(directory: Path, model: str) -> Path:
    """The checkpoint in an open_clip directory, safetensors before others; ModelError if there is none."""
    files = sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES)
    if files:
        return min(files, key=lambda path: (path.suffix != ".safetensors", path.name != "open_clip_model.safetensors"))
    raise ModelError(f"model {model}: no weights ({', '.join(SUFFIXES)}) in {directory}; put them beside the config")


def architecture_name(model: str) -> str:
    """What open_clip calls an architecture; ModelError with the nearest names if it knows none such."""
    known, name = open_clip.list_models(), model.replace("/", "-")
    if name in known:
        return name
    near = ", ".join(difflib.get_close_matches(model, known, n=3, cutoff=0.5) or ["ViT-B-16", "ViT-L-14"])
    raise ModelError(f"model {model!r} is unknown to open_clip; nearest: {near}; or local-dir:PATH, demo")


def pretrained_file(config: ModelConfig, name: str) -> Path:
    """The checkpoint of a named architecture: a local file, or the download of a tag."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    some_tags = ", ".join(tags[:4]) or "none"
    if config.pretrained is None:
        raise ModelError(f"model {name} needs --pretrained: an open_clip tag ({some_tags}) or a weights file")
    if Path(config.pretrained).is_file():
        return Path(config.pretrained)
    if config.pretrained not in tags:
        raise ModelError(f"pretrained {config.pretrained!r} is neither a file nor a tag of {name} ({some_tags})")
    return download_tag(config, name)


def download_tag(config: ModelConfig, name: str) -> Path:
    """Downloads the checkpoint of a tag to the local cache; ModelError if that fails or QuickGELU does not match."""
    tag, published = config.pretrained, open_clip.get_pretrained_cfg(name, config.pretrained)
    architecture = open_clip.get_model_config(name) or {}
    has, wants = bool(architecture.get("quick_gelu")) or config.quick_gelu, bool(published.get("quick_gelu"))
    if has != wants:
        other = f"{name}-quickgelu" if wants else name.removesuffix("-quickgelu")
        raise ModelError(f"pretrained {tag!r} of {name} differs in QuickGELU; use --model {other}")
    try:
        with quiet():
            return Path(open_clip.download_pretrained(published))
    except Exception as error:
        why = f"cannot be downloaded ({one_line(error)})"
        raise ModelError(f"weights {tag!r} of {name} {why}; {OFFLINE}") from None


@functools.lru_cache
def published_digests() -> dict[str, bool]:
    """SHA-256 of each checkpoint whose digest open_clip publishes (OpenAI's) → whether it needs QuickGELU."""
    configs = (open_clip.get_pretrained_cfg(model, tag) for model, tag in open_clip.list_pretrained())
    openai = (config for config in configs if "openaipublic" in (config.get("url") or ""))
    return {config["url"].split("/")[-2]: bool(config.get("quick_gelu")) for config in openai}


def read_calibration(path: Path) -> dict[str, Any]:
    """Reads a YAML file with fields of `CalibrationConfig` and window, stride, short_side; ModelError for others."""
    try:
        content = {str(key): value for key, value in parse_mapping(read_document(path)).items()}
    except (OSError, DocumentError) as error:
        raise ModelError(f"calibration {path}: {one_line(error)}; give a YAML file") from None
    allowed = {field.name: field.default for field in fields(CalibrationConfig)} | dict.fromkeys(WINDOW_KEYS, 224)
    for key, value in content.items():
        if key not in allowed:
            raise ModelError(f"calibration {path}: unknown key {key!r}; allowed are {', '.join(sorted(allowed))}")
        if not alike(value, allowed[key]):
            raise ModelError(f"calibration {path}: {key}: {shorten(str(value), 60)} is no value like {allowed[key]}")
    return content


def alike(value: object, example: object) -> bool:
    """Whether a value of a YAML file is of an example's kind: whole numbers for a tuple of them, also for a float."""
    if isinstance(example, tuple):
        return isinstance(value, list) and len(value) == len(example) and all(map(alike, value, example))
    return type(value) is type(example) or (isinstance(example, float) and type(value) is int)


def load_clip(source: WeightsSource) -> LoadedCLIP:
    """Loads both towers in float32 on the CPU.

    The image size of the position embedding and the context length are those of the weights, whatever the name says.

    Raises:
        ModelError: the architecture is not supported, or the checkpoint does not fit it or is not safe to read.
    """
    config = source.config
    local = source.open_clip_name.startswith("local-dir:")
    check_architecture(source)
    state = read_state_dict(source.file, torchscript=not local and source.digest in published_digests())
    openai = bool([state.pop(key) for key in OPENAI_KEYS if key in state])
    try:
        geometry = Geometry.of(state)
        model = empty_clip(source, geometry)
        check_fit(source, geometry, model.visual)
        fill(model, state)
        with quiet():
            tokenizer = open_clip.get_tokenizer(source.open_clip_name, context_length=geometry.context_length)
    except ModelError:
        raise
    except OSError as error:  # of a text tower or tokenizer that lies on a hub
        raise ModelError(f"model {config.model} cannot be downloaded ({one_line(error)}); {OFFLINE}") from None
    except Exception as error:
        why = f"do not fit model {config.model}: {one_line(error)}"
        raise ModelError(f"weights {source.file} {why}; check --model and the file") from None
    if openai and not isinstance(model.visual.transformer.resblocks[0].mlp.gelu, QuickGELU):
        why = f"come from OpenAI's archive, whose activation is QuickGELU, and {config.model} has GELU"
        raise ModelError(f"weights {source.file} {why}; add --quick-gelu, or use the -quickgelu model")
    return LoadedCLIP(model.eval().requires_grad_(False).float(), tokenizer, source, *normalisation(source, model))


def check_architecture(source: WeightsSource) -> None:
    """Raises ModelError where open_clip cannot build the vision tower, or the method does not support it."""
    config = model_config(source.open_clip_name)
    try:
        with quiet(), torch.device("meta"):
            vision = {**config["vision_cfg"], "timm_model_pretrained": False}
            visual = open_clip.model._build_vision_tower(config["embed_dim"], vision, bool(config.get("quick_gelu")))
        check_tower(visual)
    except Exception as error:
        raise ModelError(f"model {source.config.model}: {one_line(error)}") from None


def model_config(open_clip_name: str) -> dict[str, Any]:
    """open_clip's configuration of a name or of a `local-dir:PATH`; ModelError where it is no such configuration."""
    if not open_clip_name.startswith("local-dir:"):
        return dict(open_clip.get_model_config(open_clip_name) or {})
    file = Path(open_clip_name.removeprefix("local-dir:")) / "open_clip_config.json"
    try:
        return dict(json.loads(file.read_text())["model_cfg"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"model {file}: {one_line(error)}; give open_clip's own form, with model_cfg") from None


def empty_clip(source: WeightsSource, geometry: Geometry) -> Any:
    """The open_clip model without trained weights, its image size and context length as the weights have them."""
    with quiet():
        return open_clip.create_model(
            source.open_clip_name,
            load_weights=False,
            pretrained_text=False,
            force_quick_gelu=source.quick_gelu,
            force_image_size=geometry.image_size,
            force_context_length=geometry.context_length,
        )


def check_fit(source: WeightsSource, geometry: Geometry, visual: Any) -> None:
    """Raises ModelError where the weights are those of another vision tower; names the models they fit."""
    sizes = len(visual.transformer.resblocks), visual.patch_size[1], len(visual.conv1.weight)
    if sizes == (geometry.layers, geometry.patch, geometry.width):
        return
    wants = "{} blocks, patch {}, width {}".format(*sizes)
    names = ", ".join(geometry.names()[:3])
    remedy = f"use --model {names}" if names else "give the directory of its open_clip_config.json, local-dir:PATH"
    why = f"are of {geometry.tower()}, model {source.config.model} has {wants}"
    raise ModelError(f"weights {source.file} {why}; {remedy}")


def fill(model: Any, state: State) -> None:
    """Copies the tensors into the model; RuntimeError where names or shapes differ."""
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = open_clip.model.convert_to_custom_text_state_dict(state)
    own = model.state_dict()
    scalars = {name: state[name].reshape(own[name].shape) for name in ("logit_scale", "logit_bias") if name in own}
    derived = ("attn_mask", "position_ids")  # older versions of the libraries stored these beside the weights
    model.load_state_dict({k: v for k, v in state.items() if k in own or not k.endswith(derived)} | scalars)


def normalisation(source: WeightsSource, model: Any) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Per-channel mean and deviation: those of the pretrained tag, where it was given, else those of the model."""
    tag = open_clip.get_pretrained_cfg(source.open_clip_name, source.config.pretrained or "") or {}
    own = open_clip.get_model_preprocess_cfg(model)
    mean, std = (tuple(float(value) for value in tag.get(key) or own[key]) for key in ("mean", "std"))
    return mean, std  # type: ignore[return-value]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hex digits; ModelError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    except OSError as error:
        raise ModelError(f"weights {path}: {error.strerror}; give a readable file") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the log lines and warnings of open_clip while a model loads; errors are raised as ever."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

"""Where a model comes from: an open_clip name and tag, a local file, a local directory, a hub, or the bundled demo.

    source = find_weights(ModelConfig(model="ViT-B-16-quickgelu", pretrained="openai"))
    clip = load_clip(source)  # clip.model has both towers, clip.visual() the calibrated vision tower

Pickles and TorchScript are never executed: PyTorch's safe loader reads checkpoints, and only archives whose SHA-256 is
a published one may be TorchScript (OpenAI's own files).
"""

import contextlib
import difflib
import functools
import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypedDict, cast

import open_clip
import torch
import yaml

from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.config import ModelConfig, Precision
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.errors import ModelError, one_line

DEMO_DIRECTORY = Path(__file__).parents[1] / "demo" / "weights"
CALIBRATION_FILE = "calibration.yaml"  # beside a local directory's weights: its own settings
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class WindowSettings(TypedDict, total=False):
    """What a calibration file may also say: how its model slides, in the words of `SegmenterConfig`."""

    window: int
    stride: int
    short_side: int


WINDOW_KEYS = tuple(WindowSettings.__annotations__)


@dataclass(frozen=True, kw_only=True)
class WeightsSource:
    """Weights that were found on this machine, with everything needed to load them."""

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
    """What the calibration file says, empty without one."""

    def windows(self) -> WindowSettings:
        """The model's own window, stride and short side, as far as its calibration file has them."""
        return cast(WindowSettings, {key: int(self.settings[key]) for key in WINDOW_KEYS if key in self.settings})

    def calibration(self, layers: int) -> CalibrationConfig:
        """Settings for a tower of `layers` blocks: published ones, the calibration file's, then the method's switches.

        Raises ModelError where the depth has no published settings and no file gives them.
        """
        given = {key: value for key, value in self.settings.items() if key not in WINDOW_KEYS}
        if "fused_layers" in given:
            given["fused_layers"] = tuple(given["fused_layers"])
        try:
            base = CalibrationConfig(**given) if layers not in (12, 24) else CalibrationConfig.published(layers)
            if layers not in (12, 24) and not given:
                base = CalibrationConfig.published(layers)
            return self._switched(replace(base, **given))
        except (TypeError, ValueError) as error:
            raise ModelError(f"calibration of {self.config.model}: {error}") from None

    def _switched(self, base: CalibrationConfig) -> CalibrationConfig:
        config = self.config
        if config.method != "scclip":
            base = base.plain_clip() if config.method == "clip" else base.maskclip()
        changes: dict[str, Any] = dict.fromkeys(config.without, False)
        if config.attention:
            changes["attention"] = config.attention
        return replace(base, **changes)


@dataclass(frozen=True)
class LoadedCLIP:
    """Both towers in float32 on the CPU."""

    model: Any
    tokenizer: Callable[[list[str]], torch.Tensor]
    source: WeightsSource
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def visual(self) -> SelfCalibratedCLIP:
        """The calibrated vision tower; ModelError if the architecture is not supported."""
        layers = len(getattr(getattr(self.model.visual, "transformer", None), "resblocks", ()))
        try:
            calibration = self.source.calibration(layers) if layers else None
            return SelfCalibratedCLIP(self.model.visual, calibration)
        except ModelError:
            raise
        except ValueError as error:
            raise ModelError(f"model {self.source.config.model}: {error}") from None


def resolve_precision(precision: Precision, cuda: bool) -> Precision:
    """`auto` made definite: bf16 on a GPU or on a CPU with AVX-512 bf16, else float32."""
    if precision != "auto":
        return precision
    has_bf16 = cuda or getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bf16" if has_bf16 else "float32"


def find_weights(config: ModelConfig) -> WeightsSource:
    """Resolves a model to a checkpoint on this machine, downloading a hub's; reads its digest, not its tensors.

    Raises ModelError for an unknown name or tag, a missing file, a QuickGELU mismatch, or an unreachable hub.
    """
    settings = read_calibration(Path(config.calibration)) if config.calibration else {}
    directory = model_directory(config)
    if directory is not None:
        file, name = checkpoint_in(directory, config.model), f"local-dir:{directory}"
        own = directory / CALIBRATION_FILE
        settings = {**(read_calibration(own) if own.is_file() else {}), **settings}
    else:
        check_name(config.model)
        name = config.model.replace("/", "-")
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


def model_directory(config: ModelConfig) -> Path | None:
    """The directory of `demo`, `local-dir:` and `hf-hub:` models, None for open_clip's names."""
    if config.model == "demo":
        return DEMO_DIRECTORY
    if config.model.startswith("local-dir:"):
        directory = Path(config.model.removeprefix("local-dir:"))
        if not (directory / "open_clip_config.json").is_file():
            raise ModelError(
                f"model {config.model}: no open_clip_config.json in {directory}; give open_clip's own form"
            )
        return directory
    if config.model.startswith("hf-hub:"):
        return download_hub(config.model.removeprefix("hf-hub:"))
    return None


def download_hub(repository: str) -> Path:
    """A Hugging Face repository in open_clip's form, in the local cache; ModelError if it cannot be had."""
    from huggingface_hub import snapshot_download

    patterns = ["open_clip_config.json", "*.safetensors", "tokenizer*", CALIBRATION_FILE]
    try:
        with quiet():
            return Path(snapshot_download(repository, allow_patterns=patterns))
    except Exception as error:
        raise ModelError(f"model hf-hub:{repository}: {one_line(error)}; check the name and the network") from None


def checkpoint_in(directory: Path, model: str) -> Path:
    """The checkpoint of an open_clip directory, safetensors first; ModelError if there is none."""
    files = sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES)
    if not files:
        raise ModelError(
            f"model {model}: no weights ({', '.join(SUFFIXES)}) in {directory}; put them beside the config"
        )
    return min(files, key=lambda path: (path.suffix != ".safetensors", path.name != "open_clip_model.safetensors"))


def check_name(model: str) -> None:
    """ModelError with the nearest names if open_clip knows no such architecture."""
    known = open_clip.list_models()
    if model.replace("/", "-") not in known:
        near = difflib.get_close_matches(model, known, n=3, cutoff=0.5) or ["ViT-B-16", "ViT-L-14"]
        raise ModelError(
            f"model {model!r} is unknown to open_clip; nearest: {', '.join(near)}; or local-dir:PATH, demo"
        )


def pretrained_file(config: ModelConfig, name: str) -> Path:
    """The checkpoint of a named architecture: a local file, or a tag's download."""
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
    """A tag's checkpoint in the local cache; ModelError on a QuickGELU mismatch or if it cannot be had."""
    published = open_clip.get_pretrained_cfg(name, config.pretrained)
    architecture = open_clip.get_model_config(name) or {}
    has, wants = bool(architecture.get("quick_gelu")) or config.quick_gelu, bool(published.get("quick_gelu"))
    if has != wants:
        other = f"{name}-quickgelu" if wants else name.removesuffix("-quickgelu")
        raise ModelError(f"pretrained {config.pretrained!r} of {name} differs in QuickGELU; use --model {other}")
    try:
        with quiet():
            return Path(open_clip.download_pretrained(published))
    except Exception as error:
        raise ModelError(
            f"weights {config.pretrained!r} of {name} cannot be downloaded ({one_line(error)}); give a local file"
        ) from None


@functools.lru_cache
def published_digests() -> dict[str, bool]:
    """SHA-256 of the checkpoints whose digest open_clip publishes (OpenAI's) → whether they want QuickGELU."""
    found: dict[str, bool] = {}
    for model, tag in open_clip.list_pretrained():
        config = open_clip.get_pretrained_cfg(model, tag)
        url = config.get("url") or ""
        if "openaipublic" in url:
            found[url.split("/")[-2]] = bool(config.get("quick_gelu"))
    return found


def read_calibration(path: Path) -> dict[str, Any]:
    """A calibration file's keys, all fields of `CalibrationConfig` or window, stride, short_side; else ModelError."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"calibration {path}: {one_line(error)}; give a YAML file") from None
    allowed = {field.name for field in fields(CalibrationConfig)} | set(WINDOW_KEYS)
    unknown = sorted(set(content) - allowed) if isinstance(content, dict) else [str(content)]
    if unknown:
        raise ModelError(f"calibration {path}: unknown key {unknown[0]!r}; allowed are {', '.join(sorted(allowed))}")
    return content


def load_clip(source: WeightsSource) -> LoadedCLIP:
    """Both towers in float32 on the CPU; ModelError if the checkpoint does not fit or is not safe to read."""
    local = source.open_clip_name.startswith("local-dir:")
    try:
        with quiet():
            model = open_clip.create_model(
                source.open_clip_name,
                pretrained=None if local else str(source.file),
                force_quick_gelu=source.quick_gelu,
                require_pretrained=True,
                weights_only=source.digest not in published_digests(),
            )
            tokenizer = open_clip.get_tokenizer(source.open_clip_name)
    except Exception as error:
        unreadable = type(error).__name__ in ("UnpicklingError", "SafetensorError", "IndexError", "EOFError")
        fits = "cannot be read for model" if unreadable else "do not fit model"
        message = f"weights {source.file} {fits} {source.config.model}: {one_line(error)}; check --model and the file"
        raise ModelError(message) from None
    preprocess = open_clip.get_model_preprocess_cfg(model)
    mean, std = (tuple(float(value) for value in preprocess[key]) for key in ("mean", "std"))
    return LoadedCLIP(model.eval().requires_grad_(False).float(), tokenizer, source, mean, std)  # type: ignore[arg-type]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hex; ModelError if it cannot be read."""
    try:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    except OSError as error:
        raise ModelError(f"weights {path}: {error.strerror}; give a readable file") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences open_clip's log lines and warnings while a model loads; what matters becomes a ModelError."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

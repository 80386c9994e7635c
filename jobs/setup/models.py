"""What verbs that run a model ask before it is loaded: the sizes of its tower, and how many threads the user wants."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import open_clip

from scclip.encoder.calibration import published_depth
from scclip.encoder.checkpoints import WeightsSource
from scclip.jobs.cli.variables import SUBMITTED


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


def wanted_threads() -> int:
    """Returns OMP_NUM_THREADS where the user set it, else 0.

    In a submitted job only what travels with it counts (`--pass-env`): Ray gives its driver a 1 that nobody asked for.
    """
    environ: Mapping[str, str] = os.environ
    if SUBMITTED in os.environ:
        environ = (json.loads(os.environ[SUBMITTED]).get("runtime_env") or {}).get("env_vars") or {}
    first = environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(first) if first.isdecimal() else 0

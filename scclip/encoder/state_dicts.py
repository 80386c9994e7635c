"""Reads the tensors of a weights file in whichever form people have it, and never runs what is in it.

    state = read_state_dict(Path("clip.pt"))   # names as open_clip has them → tensors
    geometry = Geometry.of(state)

Training checkpoints hold the tensors below other things and under longer names (`state_dict`, `module.`); both are
taken off. What a file is shows its content, not its suffix.
"""

import argparse
import math
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor

from scclip.errors import ModelError, one_line

State = dict[str, Tensor]

WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "network", "clip")
OPENAI_KEYS = ("input_resolution", "context_length", "vocab_size")  # of OpenAI's archives, beside the weights
PATCHES = "visual.conv1.weight"  # the tensor by which a CLIP is recognised
POSITIONS = "visual.positional_embedding"
FRESH = "copy or download it again"


@dataclass(frozen=True)
class Geometry:
    """Sizes of a vision tower, and of its text tower, as the tensors have them."""

    layers: int
    patch: int
    width: int
    image_size: int
    """Side in pixels of the square that the position embedding covers."""
    context_length: int | None
    """Tokens of a text; None for text towers from elsewhere."""

    @staticmethod
    def of(state: Mapping[str, Tensor]) -> "Geometry":
        """The sizes of a CLIP. Raises ValueError where the position embedding covers no square."""
        width, _, _, patch = state[PATCHES].shape
        blocks = {name.split(".")[3] for name in state if name.startswith("visual.transformer.resblocks.")}
        tokens = len(state[POSITIONS]) - 1
        if math.isqrt(tokens) ** 2 != tokens:
            raise ValueError(f"its position embedding has {tokens} patches, which is no square")
        text = state.get("positional_embedding", state.get("text.positional_embedding"))
        return Geometry(len(blocks), patch, width, math.isqrt(tokens) * patch, None if text is None else len(text))

    def tower(self) -> str:
        """The vision tower in words."""
        return f"a vision tower of {self.layers} blocks, patch {self.patch}, width {self.width}"

    def names(self) -> list[str]:
        """The architectures of open_clip with such a vision tower, those with the plainest names first."""
        sizes, names = (self.layers, self.patch, self.width), []
        for name in open_clip.list_models():
            vision = (open_clip.get_model_config(name) or {}).get("vision_cfg", {})
            if tuple(vision.get(key) for key in ("layers", "patch_size", "width")) == sizes:
                names.append(name)
        return sorted(names, key=lambda name: (not name.startswith("ViT"), len(name), name))


def read_state_dict(file: Path, *, torchscript: bool = False) -> State:
    """Reads a whole CLIP.

    Args:
        file: a PyTorch checkpoint or safetensors.
        torchscript: the file is one of OpenAI's own archives and may be loaded as TorchScript.

    Returns:
        Names as open_clip has them → tensors in the dtype of the file; OpenAI's sizes are among them.

    Raises:
        ModelError: the file is damaged, holds more than tensors, or is no CLIP with both towers.
    """
    content = torch.jit.load(str(file), map_location="cpu").state_dict() if torchscript else read_content(file)
    state = unwrapped(content)
    check_towers(state, file)
    prefix = next(name for name in state if name.endswith(PATCHES)).removesuffix(PATCHES)
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def read_content(file: Path) -> Any:
    """What a file holds, by PyTorch's safe loader or safetensors; ModelError for what is no weights file."""
    with file.open("rb") as stream:
        head = stream.read(512)
    start = head.lstrip().lower()
    if not head:
        raise ModelError(f"weights {file} is empty; {FRESH}")
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(f"weights {file} is a pointer of git-LFS, not the weights; fetch them with `git lfs pull`")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(f"weights {file} is a web page, not weights; look at it in a browser, then download it again")
    if head[8:9] == b"{":
        return read_safetensors(file)
    zipped = head.startswith(b"PK")
    if zipped and not zipfile.is_zipfile(file):
        raise ModelError(f"weights {file} is cut short or damaged; {FRESH}")
    if zipped and is_torchscript(file):
        what = "is TorchScript, a program, and none that OpenAI published"
        raise ModelError(f"weights {file} {what}; give a file with its state_dict() instead")
    try:
        with torch.serialization.safe_globals(
            [argparse.Namespace]
        ):  # the options of a training, which only hold values
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise ModelError(f"weights {file} {unsafe(error)}") from None
    except Exception as error:
        raise ModelError(f"weights {file} is cut short or damaged ({one_line(error)}); {FRESH}") from None


def read_safetensors(file: Path) -> State:
    """The tensors of a safetensors file; ModelError where it is damaged."""
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except Exception as error:
        raise ModelError(f"weights {file} is cut short or damaged ({one_line(error)}); {FRESH}") from None


def is_torchscript(file: Path) -> bool:
    """Whether a zip archive holds TorchScript."""
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def unsafe(error: pickle.UnpicklingError) -> str:
    """Why the safe loader refuses a file, without the loader's advice to open it unsafely."""
    words = str(error).replace("`", " ").split()
    named = words[words.index("GLOBAL") + 1] if "GLOBAL" in words else ""
    if not named:
        return f"cannot be read as weights: it is damaged, or holds other things than tensors; {FRESH}"
    return f"holds {named}, more than tensors, and is not opened; give a file with the model's state_dict() alone"


def unwrapped(content: Any) -> State:
    """The tensors among what a training checkpoint holds, under their names there."""
    while isinstance(content, Mapping) and not any(str(name).endswith(PATCHES) for name in content):
        inner = [content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = inner[0]
    if not isinstance(content, Mapping):
        return {}
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def check_towers(state: State, file: Path) -> None:
    """Raises ModelError unless the tensors are those of a whole CLIP in the names of OpenAI and open_clip."""
    whole = "give the file of the whole CLIP, with both towers"
    if any(name.endswith(PATCHES) for name in state):
        if not any(name.endswith("token_embedding.weight") or ".embeddings." in name for name in state):
            raise ModelError(f"weights {file} holds a vision tower without its text tower; {whole}")
    elif "conv1.weight" in state and "class_embedding" in state:
        raise ModelError(f"weights {file} holds a vision tower without its text tower; {whole}")
    elif any("vision_model.embeddings" in name for name in state):
        form = "is in the form of Hugging Face's transformers"
        raise ModelError(f"weights {file} {form}; give open_clip's form of the model, a tag or hf-hub:ORG/NAME")
    elif any(name.startswith(("text.", "token_embedding", "transformer.resblocks")) for name in state) and not any(
        "visual." in name for name in state
    ):
        raise ModelError(f"weights {file} holds a text tower without its vision tower; {whole}")
    else:
        some = ", ".join(list(state)[:2]) or "no tensors"
        raise ModelError(f"weights {file} holds no CLIP ViT with a class token ({some}); {whole}")

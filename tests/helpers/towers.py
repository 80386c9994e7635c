"""Small CLIP towers with pseudo-random weights for tests; sizes as `tests/golden` names them."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

GOLDEN = Path(__file__).parents[1] / "golden"
_spec = importlib.util.spec_from_file_location("golden_weights", GOLDEN / "weights.py")
assert _spec is not None and _spec.loader is not None
golden_weights = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(golden_weights)

SMALL16 = json.loads((GOLDEN / "official-seed11.json").read_text())["arch"]["small16"]


def model_config(sizes: dict[str, int], text_width: int = 64) -> dict[str, Any]:
    """open_clip's `model_cfg` of a golden architecture with a tiny text tower."""
    vision = {
        "image_size": sizes["input_resolution"],
        "patch_size": sizes["patch_size"],
        "width": sizes["width"],
        "layers": sizes["layers"],
        "head_width": sizes["width"] // sizes["heads"],
    }
    text = {"width": text_width, "heads": 2, "layers": 2}
    return {"embed_dim": sizes["output_dim"], "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}


def clip(sizes: dict[str, int] = SMALL16, seed: int = 11) -> nn.Module:
    """A CLIP whose vision tower has the golden weights of `seed` and whose text tower is drawn the same way."""
    model = open_clip.CLIP(**model_config(sizes))
    state = {}
    for name, tensor in model.state_dict().items():
        state[name] = torch.as_tensor(golden_weights.draw(name.removeprefix("visual."), tuple(tensor.shape), seed))
    model.load_state_dict(state)
    return model.eval()


def write_local_dir(directory: Path, sizes: dict[str, int] = SMALL16, seed: int = 11) -> Path:
    """The same CLIP in open_clip's local-directory form (config and safetensors); returns the directory."""
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": model_config(sizes), "preprocess_cfg": {}}
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    state = {name: tensor.contiguous() for name, tensor in clip(sizes, seed).state_dict().items()}
    save_file(state, directory / "open_clip_model.safetensors")
    return directory

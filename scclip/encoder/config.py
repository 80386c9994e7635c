"""Which model and which variant of the method; needs neither PyTorch nor open_clip.

config = ModelConfig(model="ViT-B-16-quickgelu", pretrained="openai", without=("fusion",))
"""

from dataclasses import dataclass, field
from typing import Literal, get_args

Attention = Literal["qk", "value", "kk", "kk+similarity"]

Method = Literal["scclip", "maskclip", "clip"]

Step = Literal["anomalies", "aggregation", "fusion", "post"]

Precision = Literal["auto", "float32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Model and method."""

    model: str = field(default="demo", metadata={"travels": "model"})
    """open_clip model name (ViT-B-16-quickgelu, ViT-L-14-quickgelu, …), local-dir:PATH, hf-hub:ORG/NAME, or demo."""
    pretrained: str | None = field(default=None, metadata={"travels": "weights", "recorded": False})  # by its digest
    """open_clip tag (openai, laion2b_s34b_b88k, …), or a weights file: a path or any fsspec URL."""
    quick_gelu: bool = field(default=False, metadata={"recorded": False})  # recorded as the weights were loaded
    """The weights file was trained with QuickGELU (OpenAI's CLIP and its descendants)."""
    method: Method = "scclip"
    """scclip (all steps), maskclip (value path of the last block), or clip (last block unchanged)."""
    attention: Attention | None = None
    """Attention of the last block, instead of the method's own."""
    without: tuple[Step, ...] = ()
    """Steps to leave out: anomalies, aggregation, fusion, post."""
    calibration: str | None = field(default=None, metadata={"travels": "file", "recorded": False})  # by its content
    """YAML file with the method's layers and thresholds, instead of the published ones."""
    precision: Precision = "auto"
    """Arithmetic of the tower; auto is fp16 on a GPU, bf16 on a CPU that has it, else float32."""

    def __post_init__(self) -> None:
        for name, kind in (("method", Method), ("precision", Precision)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown; choose {', '.join(get_args(kind))}")
        unknown = [step for step in self.without if step not in get_args(Step)]
        if unknown:
            raise ValueError(f"without {unknown[0]!r} is no step; choose from {', '.join(get_args(Step))}")
        model, weights = self.model, self.pretrained
        if weights and model.startswith(("demo", "local-dir:", "hf-hub:")):
            raise ValueError(f"pretrained {weights!r}: model {model!r} brings its own weights; leave it out")

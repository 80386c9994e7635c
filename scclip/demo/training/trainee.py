"""The demo model's architecture, and the options and the loss of each training stage.

    trainee = Trainee(seed=0)
    trainee.lock("region")
    loss = trainee.loss(pool, rng, TrainingConfig(output=Path("train"), stage="region"))

Shapes: B windows, N patches, E joint embedding, C classes, Q captions.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scclip.demo.training import objectives
from scclip.demo.training.pool import WINDOW, WindowPool
from scclip.encoder.calibration import CalibrationConfig

STAGES = ("text", "image", "region")
MODEL_CONFIG: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": WINDOW, "layers": 12, "width": 128, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
CALIBRATION = CalibrationConfig(class_residual=0.0, similarity_threshold=0.7)
"""The path that regions are trained through."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """One stage of training."""

    output: Path
    """Directory of the checkpoint and the pool of windows."""
    stage: str
    """text: captions apart from each other. image: contrastive on whole windows. region: crops beside windows.

    The text tower is locked after its stage: while it moved too, captions of things that the vision tower could not
    tell apart yet drew together, and stayed so.
    """
    steps: int = 4400
    """Optimiser steps of the stage; the learning rate's cosine ends there."""
    batch: int = 16
    """Windows per worker and step; in the text stage half the captions of two classes."""
    workers: int = 2
    """Processes with one thread each."""
    blocks: int = 14
    """Blocks of 2,000 windows to draw once and train on."""
    learning_rate: float = 4e-4
    """Peak, reached after ``warmup`` steps. The region stage made no headway at 1e-3."""
    warmup: int = 100
    """Steps of linear warm-up."""
    kept_patches: int = 80
    """Patches of 196 that the image stage sees."""
    regions: int = 24
    """Crops per window in the region stage."""
    grid: int = 10
    """Patches along the part of a window (of 14) that the region stage sees: twice as many windows in the same time."""
    seed: int = 0
    """Seed of the weights and of every draw."""
    stop_after: int | None = None
    """Stop (with a checkpoint) at this step, to go on later."""

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(f"stage {self.stage!r} is unknown; choose {', '.join(STAGES)}")
        for name in ("steps", "batch", "workers", "blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")


class Trainee(nn.Module):
    """The CLIP model and the scales and bias that only training uses."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.clip = open_clip.CLIP(**MODEL_CONFIG)
        self.image_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.image_bias = nn.Parameter(torch.tensor(-3.0))
        self.region_scale = nn.Parameter(torch.tensor(math.log(15.0)))
        self._encoded: dict[str, Tensor] = {}  # captions of the locked text tower

    def lock(self, stage: str) -> None:
        """Leaves gradients on only for what the stage trains: the text tower, or the vision tower and the scales."""
        for name, weight in self.named_parameters():
            visual = name.startswith(("clip.visual.", "image_", "region_"))
            weight.requires_grad_(visual != (stage == "text"))

    def loss(self, pool: WindowPool, rng: np.random.Generator, config: TrainingConfig) -> Tensor:
        """The loss of the stage on freshly drawn windows or captions, a scalar."""
        if config.stage == "text":
            captions, named = objectives.draw_captions(rng, pairs=2 * config.batch)
            again, named_again = objectives.draw_captions(rng, pairs=0)
            text = self.clip.encode_text(open_clip.tokenize(captions + again))
            return objectives.caption_loss(text, torch.from_numpy(np.vstack([named, named_again])))
        pixels, truth = pool.draw(rng, config.batch)
        stage = self.image_stage if config.stage == "image" else self.region_stage
        return stage(normalised(pixels), torch.from_numpy(truth), rng, config)

    def image_stage(self, pixels: Tensor, truth: Tensor, rng: np.random.Generator, config: TrainingConfig) -> Tensor:
        """Loss of whole windows of which the model sees a part of the patches.

        Args:
            pixels: (B, 3, H, W) float32, normalised.
            truth: (B, H, W) uint8 categories in 1..C.
            rng: draws patches and captions.
            config: how many patches are seen.
        """
        patches = self.clip.visual.grid_size[0] ** 2
        keep = np.argsort(rng.random((len(pixels), patches)), axis=1)[:, : config.kept_patches]
        image = objectives.image_features(self.clip.visual, pixels, torch.from_numpy(keep))
        text, named = self._texts(rng)
        return self._image_loss(image, text, named, objectives.patch_fractions(truth, 8))

    def region_stage(self, pixels: Tensor, truth: Tensor, rng: np.random.Generator, config: TrainingConfig) -> Tensor:
        """Loss of crops through the calibrated and the value path, and of whole windows; arguments as `image_stage`."""
        top, left = rng.integers(WINDOW // 8 - config.grid + 1, size=2).tolist()
        rows, columns = (slice(8 * first, 8 * (first + config.grid)) for first in (top, left))
        fractions = objectives.patch_fractions(truth[:, rows, columns], 8)
        features = objectives.dense_features(self.clip.visual, pixels[:, :, rows, columns], CALIBRATION, (top, left))
        regions = objectives.draw_regions(rng, len(pixels), config.regions, config.grid)
        text, named = self._texts(rng)
        classes, scale = F.normalize(text[: fractions.shape[-1]], dim=-1), self.region_scale.exp()
        calibrated = objectives.region_loss(features.calibrated, regions, fractions, classes, scale)
        value = objectives.region_loss(features.value, regions, fractions, classes, scale)
        return calibrated + 0.4 * value + 0.3 * self._image_loss(features.image, text, named, fractions)

    def _texts(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Features of freshly drawn captions, (Q, E), and the classes that each names, (Q, C) bool."""
        captions, named = objectives.draw_captions(rng, pairs=10)
        unseen = [caption for caption in captions if caption not in self._encoded]
        if unseen:
            with torch.no_grad():
                features = self.clip.encode_text(open_clip.tokenize(unseen))
            self._encoded.update(zip(unseen, features, strict=True))
        return torch.stack([self._encoded[caption] for caption in captions]), torch.from_numpy(named)

    def _image_loss(self, image: Tensor, text: Tensor, named: Tensor, fractions: Tensor) -> Tensor:
        """Loss of images (B, E) and captions (Q, E); a caption is positive where all classes that it names are seen."""
        seen = fractions.mean(1) > 0.01
        positive = (seen[:, None, :] | ~named[None]).all(-1)
        return objectives.image_loss(image, text, positive, self.image_scale.exp(), self.image_bias)


def normalised(pixels: np.ndarray) -> Tensor:
    """Windows normalised by CLIP's mean and deviation: uint8 (B, H, W, 3) → float32 (B, 3, H, W)."""
    scaled = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
    return (scaled - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)

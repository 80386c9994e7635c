"""Options and results of a segmenter; needs neither PyTorch nor open_clip.

    config = SegmenterConfig(short_side=560, confidence_threshold=0.3)

Shapes: H × W pixels of the original image.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

FREE = {"protocol": False}  # no benchmark fixes it: labels do not depend on it, or it follows the weights


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """How an image is cut, scored and thresholded. Everything here changes labels but `window_batch` and `tile_mib`."""

    short_side: int = 336
    """Pixels of the short side after the resize (560 for Cityscapes)."""
    long_side: int = 2048
    """Most pixels of the long side after the resize."""
    window: int = 224
    """Side of the square sliding window in pixels; 0 sends the whole resized image through at once."""
    stride: int = 112
    """Pixels between two windows."""
    window_batch: int = field(default=6, metadata=FREE)
    """Windows per forward pass, always padded to this number so that a result does not depend on its neighbours."""
    logit_scale: float = 40.0
    """Factor on the cosines before the softmax over queries."""
    confidence_threshold: float = 0.0
    """Pixels whose score is below it become background where there is one, else ignore; in [0, 1]."""
    category_thresholds: tuple[tuple[int, float], ...] = ()
    """(category, threshold) pairs that replace confidence_threshold for single categories."""
    area_threshold: float = 0.0
    """A class other than background with at most this share of all non-background pixels is dropped; in [0, 1)."""
    pamr_steps: int = 0
    """Steps of pixel-adaptive refinement; 0 switches it off."""
    pamr_dilations: tuple[int, ...] = field(default=(8, 16), metadata=FREE)
    """Dilations of the refinement's eight neighbours in pixels."""
    tile_mib: int = field(default=4, metadata=FREE)
    """MiB for the logits of one tile of rows; 4 stays in the cache (7 times faster than 64 on two busy cores)."""
    mean: tuple[float, float, float] = field(default=CLIP_MEAN, metadata=FREE)
    """Per-channel mean of the normalisation, RGB in [0, 1]."""
    std: tuple[float, float, float] = field(default=CLIP_STD, metadata=FREE)
    """Per-channel deviation of the normalisation."""

    def __post_init__(self) -> None:
        for name in ("short_side", "long_side", "stride", "window_batch", "tile_mib"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        for name in ("window", "pamr_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)} must not be negative; 0 switches it off")
        if self.window and self.stride > self.window:
            raise ValueError(f"stride {self.stride} is larger than window {self.window}; pixels would be left out")
        if not 0 <= self.confidence_threshold <= 1:
            raise ValueError(f"confidence_threshold {self.confidence_threshold} is no probability; give 0 to 1")
        if not 0 <= self.area_threshold < 1:
            raise ValueError(f"area_threshold {self.area_threshold} is no share of the image; give 0 to below 1")
        if not 0 < self.logit_scale < float("inf"):
            raise ValueError(f"logit_scale {self.logit_scale} must be a positive number, e.g. 40")
        if not self.pamr_dilations or min(self.pamr_dilations) < 1:
            raise ValueError(f"pamr_dilations {self.pamr_dilations} must be positive pixels, e.g. [8, 16]")


@dataclass(frozen=True, kw_only=True)
class SegmentationOptions:
    """Segmentation; what is not given comes from the vocabulary or the model."""

    logit_scale: float | None = None
    """Factor on the cosines before the softmax over queries [the vocabulary's]."""
    confidence_threshold: float | None = None
    """Pixels below it become background where there is one, else ignore; 0 to 1 [the vocabulary's]."""
    area_threshold: float | None = None
    """Drop a class with at most this share of an image's labeled pixels; 0 to 1 [the vocabulary's]."""
    short_side: int | None = None
    """Pixels of the short side after the resize [336]."""
    window: int | None = None
    """Side of the sliding window in pixels, 0 for the whole image at once [224]."""
    stride: int | None = None
    """Pixels between two windows [112]."""
    window_batch: int | None = None
    """Windows per forward pass [6 on a CPU, 64 on a GPU, 1 of whole images]."""
    pamr_steps: int = 0
    """Steps of pixel-adaptive refinement (slow)."""


class Segmentation(NamedTuple):
    """The label map of one image and the scores behind it; all arrays are (H, W)."""

    labels: np.ndarray
    """uint8 (uint16 above 254 classes): category after thresholds, 255 (65535) = ignore."""
    argmax: np.ndarray
    """Same dtype: category of the highest score, before thresholds, after the area filter."""
    confidence: np.ndarray
    """uint8: round(255 · score of `argmax`), the score being the softmax maximum over the category's queries."""
    runner_up: np.ndarray
    """Same dtype as `labels`: category of the second highest score, ignore where there is no second category."""
    margin: np.ndarray
    """uint8: round(255 · (highest − second highest score))."""
    entropy: float
    """Mean entropy in nats of the softmax over queries, over every 8th row and column."""
    anomaly_tokens: int
    """Patch tokens replaced as anomalies, over all windows."""
    windows: int
    """Windows that went through the model."""

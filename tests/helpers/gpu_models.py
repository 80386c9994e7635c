"""One model on the GPU and on the CPU, as actors build it; how far two results are apart."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scclip.encoder.config import ModelConfig
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.jobs.benchmarking.model import BenchModelOptions, Subject, drawn_text, load_subject, naive_vocabulary
from scclip.jobs.benchmarking.model import pictures as scenes
from scclip.pipeline.labeling.labeler import LabelerSpec
from scclip.segmentation.segmenter import WindowSegmenter
from scclip.segmentation.types import Segmentation

DEVICE = "cuda"
MAPS = ("labels", "argmax", "confidence", "runner_up", "margin")
SIZES = [(480, 640), (640, 480), (427, 640), (224, 224), (17, 300), (1, 1), (700, 500)]


@dataclass(frozen=True)
class Model:
    """A model with its vocabulary."""

    subject: Subject
    text: np.ndarray | Tensor
    categories: Sequence[int]
    scale: float

    def segmenter(self, precision: str = "fp16", device: str = DEVICE, **changes: Any) -> WindowSegmenter:
        """Built as an actor builds it; `changes` replace the vocabulary or fields of `SegmenterConfig`."""
        text, categories = changes.pop("text", self.text), changes.pop("categories", self.categories)
        batch = {"window_batch": 64 if device == DEVICE else 6}
        config = replace(self.subject.config, **{"logit_scale": self.scale, **batch, **changes})
        empty, arrays = SelfCalibratedCLIP(self.subject.clip.visual, self.subject.calibration).to_arrays()
        return LabelerSpec(
            empty=empty,
            arrays=arrays,
            text_features=np.asarray(text),
            query_category=tuple(categories),
            segmenter=config,
            precision=precision,
            device=device,
        ).build()

    @property
    def width(self) -> int:
        """Length of a text feature."""
        return int(self.subject.clip.visual.output_dim)


@cache
def model(name: str) -> Model:
    """`demo`, or an open_clip model with drawn weights and 171 drawn queries."""
    subject = load_subject(BenchModelOptions(random=name != "demo", device="cpu"), ModelConfig(model=name))
    return Model(subject, *naive_vocabulary(subject))


@cache
def warm(name: str) -> WindowSegmenter:
    """The model's segmenter on the GPU in fp16, shared by the tests that change nothing."""
    return model(name).segmenter()


@cache
def pictures() -> list[np.ndarray]:
    """Drawn scenes of many sizes."""
    return [scenes(1, size)[0] for size in SIZES]


@cache
def labeled(name: str) -> list[Segmentation]:
    """What `warm` makes of `pictures`."""
    return warm(name).segment(pictures())


def queries(number: int, of: Model) -> Tensor:
    """Drawn text features for a model."""
    return drawn_text(number, of.width)


def agree(one: Sequence[Segmentation], other: Sequence[Segmentation], labels: float, confidence: int = 255) -> None:
    """At least this share of all labels is equal, and no confidence is further apart than that."""
    equal = [np.asarray(a.labels == b.labels).ravel() for a, b in zip(one, other, strict=True)]
    assert np.concatenate(equal).mean() >= labels, [round(float(each.mean()), 4) for each in equal]
    for a, b in zip(one, other, strict=True):
        assert np.abs(a.confidence.astype(int) - b.confidence).max() <= confidence, a.labels.shape
        assert a.labels.dtype == b.labels.dtype and a.windows == b.windows and np.isfinite(b.entropy)


def differing(one: Sequence[Segmentation], other: Sequence[Segmentation]) -> set[str]:
    """The fields in which two results differ by so much as a bit."""
    found = set[str]()
    for a, b in zip(one, other, strict=True):
        found |= {name for name in MAPS if not np.array_equal(getattr(a, name), getattr(b, name))}
        found |= {name for name in ("entropy", "anomaly_tokens", "windows") if getattr(a, name) != getattr(b, name)}
    return found


def windows(of: Model, number: int) -> Tensor:
    """Normalised windows of scenes: (number, 3, side, side) float32 on the CPU."""
    side, config = of.subject.config.window, of.subject.config
    pixels = torch.from_numpy(np.stack(scenes(number, (side, side)))).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.mean, config.std))
    return (pixels - mean) / std

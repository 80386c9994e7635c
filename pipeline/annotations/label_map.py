"""Label maps from run-length encodings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scclip.categories import BACKGROUND, Labels, ignore_value
from scclip.pipeline.annotations import rle
from scclip.pipeline.annotations.schemas import MAPS


def label_map(segments: Iterable[Mapping[str, Any]], height: int, width: int, names: Mapping[int, str]) -> Labels:
    """The label map (H, W) of an image, from its rows of segments/; uint16 where there are more than 254 classes.

    `names` are the vocabulary's by category: what no segment covers is background where it has one, else ignored.
    """
    dtype = np.uint16 if max(names) > 254 else np.uint8
    labels = np.full((height, width), BACKGROUND if BACKGROUND in names else ignore_value(dtype), dtype)
    for segment in segments:
        labels[rle.decode(segment["rle"])] = segment["category_id"]
    return labels


@dataclass(frozen=True)
class LabelMaps:
    """What `scclip.segmentation.segmenter.Segmentation` holds: its fields, shapes and types."""

    labels: np.ndarray
    argmax: np.ndarray
    confidence: np.ndarray
    runner_up: np.ndarray
    margin: np.ndarray
    entropy: float
    anomaly_tokens: int
    windows: int


def label_maps(row: Mapping[str, Any], wide: bool) -> LabelMaps:
    """The maps of a labeled row; `wide`: category maps are uint16."""
    shape, kind = (row["height"], row["width"]), np.uint16 if wide else np.uint8
    kinds = {name: np.uint8 if name in ("confidence", "margin") else kind for name in MAPS}
    maps: dict[str, Any] = {name: np.frombuffer(row[name], kinds[name]).reshape(shape) for name in MAPS}
    return LabelMaps(**maps, **{name: row[name] for name in ("entropy", "anomaly_tokens", "windows")})

"""Label maps from run-length encodings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scclip.categories import Categories, Labels
from scclip.pipeline.annotations import rle
from scclip.pipeline.annotations.schemas import MAPS


def label_map(segments: Iterable[Mapping[str, Any]], height: int, width: int, categories: Categories) -> Labels:
    """The label map (H, W) of an image, from its rows of segments/.

    What no segment covers is background where the categories have one, else ignored.
    """
    labels = np.full((height, width), categories.unlabeled, categories.dtype)
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


def label_maps(row: Mapping[str, Any], dtype: npt.DTypeLike) -> LabelMaps:
    """The maps of a labeled row; `dtype` (uint8 or uint16) is that of the maps that hold categories."""
    dtypes = {name: np.uint8 if name in ("confidence", "margin") else dtype for name in MAPS}
    shape = row["height"], row["width"]
    maps: dict[str, Any] = {name: np.frombuffer(row[name], dtypes[name]).reshape(shape) for name in MAPS}
    return LabelMaps(**maps, **{name: row[name] for name in ("entropy", "anomaly_tokens", "windows")})

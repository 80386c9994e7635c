"""Label maps from run-length encodings, and from the bytes in which they travel from stage to stage.

>>> labels = label_map(segments, height, width, names)      # from rows of segments/
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scclip.categories import Categories, Labels
from scclip.pipeline.annotations import rle
from scclip.pipeline.annotations.schemas import ImageRecord, SegmentRecord, schema_of
from scclip.segmentation.statistics import LabelStatistics, SegmentationSummary


def label_map(segments: Iterable[SegmentRecord], height: int, width: int, categories: Categories) -> Labels:
    """The label map (H, W) of an image, from its rows of segments/.

    What no segment covers is background where the categories have one, else ignored.
    """
    labels = np.full((height, width), categories.unlabeled, categories.dtype)
    for segment in segments:
        labels[rle.decode(segment.rle)] = segment.category_id
    return labels


@dataclass(kw_only=True)
class LabeledImage(ImageRecord):
    """An image that came out of the model: maps row by row, and their statistics; null where it has no labels."""

    labels: Annotated[bytes | memoryview | None, pa.large_binary(), "uint8 or uint16."] = None
    statistics: Annotated[bytes | None, pa.large_binary(), "`LabelStatistics.to_bytes`."] = None
    argmax: Annotated[bytes | memoryview | None, pa.large_binary(), "As the labels, or null: not wanted."] = None
    confidence: Annotated[bytes | memoryview | None, pa.large_binary(), "uint8, or null: not wanted."] = None

    @staticmethod
    def labeled(image: ImageRecord, summary: SegmentationSummary) -> "LabeledImage":
        """The image with these labels. Their pixels are not copied."""
        columns = {name: _flat(value) for name, value in summary._asdict().items()}
        return LabeledImage.of(image, **{**columns, "statistics": summary.statistics.to_bytes()})

    def summary(self, category: npt.DTypeLike) -> SegmentationSummary:
        """What `labeled` was given; maps share the bytes; `category` is the dtype of those that hold categories."""
        planes = ((self.labels, category), (self.argmax, category), (self.confidence, np.uint8))
        labels, argmax, confidence = (
            None if data is None else np.frombuffer(data, kind).reshape(self.shape) for data, kind in planes
        )
        assert labels is not None and self.statistics is not None
        statistics = LabelStatistics.from_bytes(self.statistics)
        known = self.entropy, self.anomaly_tokens, self.windows
        return SegmentationSummary._make([labels, statistics, *known, argmax, confidence])


LABELED_SCHEMA = schema_of(LabeledImage)


def _flat(value: Any) -> Any:
    return np.ascontiguousarray(value).data.cast("B") if isinstance(value, np.ndarray) else value

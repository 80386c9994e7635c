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
from scclip.segmentation.types import Segmentation


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
    """An image that came out of the model: the pixels of `Segmentation`, row by row; null where it has no labels."""

    labels: Annotated[bytes | memoryview | None, pa.large_binary(), "uint8 or uint16."] = None
    argmax: Annotated[bytes | memoryview | None, pa.large_binary(), "The same type."] = None
    confidence: Annotated[bytes | memoryview | None, pa.large_binary(), "uint8."] = None
    runner_up: Annotated[bytes | memoryview | None, pa.large_binary(), "The type of the labels."] = None
    margin: Annotated[bytes | memoryview | None, pa.large_binary(), "uint8."] = None

    @staticmethod
    def labeled(image: ImageRecord, labels: Segmentation) -> "LabeledImage":
        """The image with these labels. Their pixels are not copied."""
        return LabeledImage.of(image, **{name: _flat(value) for name, value in labels._asdict().items()})

    def segmentation(self, category: npt.DTypeLike) -> Segmentation:
        """The labels, arrays (H, W) that share the bytes; `category` is the dtype of those that hold categories."""
        score = np.uint8
        planes = (self.labels, self.argmax, self.confidence, self.runner_up, self.margin)
        dtypes = (category, category, score, category, score)
        maps = [np.frombuffer(data or b"", kind).reshape(self.shape) for data, kind in zip(planes, dtypes, strict=True)]
        return Segmentation._make([*maps, self.entropy, self.anomaly_tokens, self.windows])


LABELED_SCHEMA = schema_of(LabeledImage)


def _flat(value: Any) -> Any:
    return np.ascontiguousarray(value).data.cast("B") if isinstance(value, np.ndarray) else value

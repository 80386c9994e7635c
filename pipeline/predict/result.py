"""A labeled picture: its label map and segments, to look at in a notebook and to hand on to other libraries.

result.labels                # (H, W) category indices
result.overlay().save("overlay.png")
result.masks["car"]          # (H, W) bool
result.to_supervision(), result.to_coco()
"""

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from scclip.categories import Categories, Labels
from scclip.errors import UserError
from scclip.pipeline.annotations import coco, rle
from scclip.pipeline.annotations.schemas import ImageRecord, PartImage, SegmentRecord
from scclip.pipeline.annotations.statistics import labeled_record
from scclip.pipeline.review.drawing import encoded, thumbnail_size
from scclip.pipeline.review.overlay import blend, with_legend
from scclip.segmentation.statistics import SegmentationSummary
from scclip.segmentation.types import Segmentation

if TYPE_CHECKING:
    import supervision

SHOWN = 800  # pixels of the longer side in a notebook


@dataclass(kw_only=True)
class NamedSegment(SegmentRecord):
    """All pixels of one class: a row of segments/ as `scclip label` writes it, and the class's name."""

    name: str
    """Of the class."""

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """(H, W), True where the picture shows the class."""
        return rle.decode(self.rle)


@dataclass(frozen=True, eq=False, repr=False)
class SegmentedImage:
    """A picture with its labels."""

    image: npt.NDArray[np.uint8]
    """(H, W, 3) RGB as it was labeled, turned as its orientation says."""
    segmentation: Segmentation
    """Label map, confidence and runner-up of every pixel."""
    categories: Categories
    """Category index → name."""
    name: str
    """Path or URL of the picture, else what it was."""

    @property
    def labels(self) -> Labels:
        """(H, W) uint8 (uint16 above 254 classes): 1…N the classes, 0 background, 255 (65535) ignored."""
        return self.segmentation.labels

    @property
    def confidence(self) -> npt.NDArray[np.float32]:
        """(H, W) in 0…1: the score of each pixel's best category, before thresholds."""
        return np.divide(self.segmentation.confidence, 255, dtype=np.float32)

    @property
    def segments(self) -> list[NamedSegment]:
        """One for each class in the picture, by category: area, box, confidence, runner-up, components, RLE, name."""
        return [NamedSegment(**vars(each), name=self.categories[each.category_id]) for each in self._record.segments]

    @property
    def masks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Class name → (H, W) bool, of the classes in the picture."""
        return {each.name: self.labels == each.category_id for each in self.segments}

    def overlay(self, opacity: float = 0.6, *, legend: bool = False) -> Image.Image:
        """The picture under its labels in colours; background and ignored pixels show the picture alone.

        Args:
            opacity: of the colours, 0 to 1.
            legend: add the classes' names and shares below the picture.
        """
        if not 0 <= opacity <= 1:
            raise UserError(f"opacity {opacity} must lie between 0 and 1")
        drawn = Image.fromarray(blend(self.image, self.labels, opacity))
        return with_legend(drawn, self._shares) if legend else drawn

    def to_coco(self, image_id: int = 1) -> dict[str, object]:
        """A COCO document of this picture: one annotation for each class, as `scclip label` writes them."""
        record = self._record
        segments = [replace(each, image_id=image_id) for each in record.segments]
        return {
            "info": {},
            "licenses": [],
            "categories": coco.categories(self.categories),
            "images": [coco.image_entry(record) | {"id": image_id}],
            "annotations": list(map(coco.annotation_entry, segments)),
        }

    def to_supervision(self) -> "supervision.Detections":
        """Detections of supervision: one for each class, with mask, box, confidence, category index and name.

        Raises:
            UserError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise UserError("supervision is not installed; pip install supervision") from None
        segments = self.segments
        if not segments:
            return supervision.Detections.empty()
        x, y, width, height = np.array([each.bbox for each in segments], np.float32).T
        return supervision.Detections(
            xyxy=np.stack([x, y, x + width, y + height], axis=1),
            mask=np.stack([each.mask for each in segments]),
            confidence=np.array([each.mean_confidence for each in segments], np.float32),
            class_id=np.array([each.category_id for each in segments]),
            data={"class_name": np.array([each.name for each in segments])},
        )

    @functools.cached_property
    def _record(self) -> PartImage:
        height, width = self.labels.shape
        image = ImageRecord(image_id=1, key="", file_name=self.name, index=0, width=width, height=height)
        return labeled_record(image, SegmentationSummary.of(self.segmentation))

    @property
    def _shares(self) -> list[tuple[int, str]]:
        """Category, and name with share of the picture, of its classes; the largest first."""
        largest = sorted(self.segments, key=lambda each: -each.area)
        return [(each.category_id, f"{each.name} {each.area_fraction:.0%}") for each in largest]

    def _repr_png_(self) -> bytes:
        height, width = thumbnail_size(self.image.shape[0], self.image.shape[1], SHOWN)
        return encoded(with_legend(self.overlay().resize((width, height)), self._shares), "PNG")

    def __repr__(self) -> str:
        height, width = self.labels.shape
        classes = ", ".join(text for _, text in self._shares) or "no class"
        return f"SegmentedImage({self.name}, {width} × {height}: {classes})"

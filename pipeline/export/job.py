"""What the tasks of an export need, and where they write."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scclip.pipeline.export.source import LabeledImage, Source
from scclip.pipeline.export.transform import Rules, Target
from scclip.pipeline.storage.files import join

WORK = "_export"  # fragments and markers; removed when the export is complete


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """Everything that the task of a unit needs."""

    output: str
    """Where the export goes, any fsspec URL."""
    format: str
    """A key of EXPORTERS."""
    source: Source
    """Which images, and how they are read."""
    target: Target
    """The categories of the export."""
    rules: Rules
    """How label maps are changed."""
    segmentation: str = "rle"
    """How COCO documents write masks: rle, uncompressed or polygons."""
    info: Mapping[str, object] = field(default_factory=dict)
    """`info` of COCO documents."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the export has: train, and val where --val asks for it."""
        return ("train", "val") if self.source.val > 0 else ("train",)

    @property
    def work(self) -> str:
        """The folder of fragments and markers."""
        return join(self.output, WORK)

    def marker(self, unit: int) -> str:
        """The file that says that a unit is exported; it holds the unit's counts."""
        return join(self.work, f"{unit:07d}.json")

    def fragment(self, unit: int, part: str) -> str:
        """A unit's part of a list in the document of a split; `part` is SPLIT.LIST."""
        return join(self.work, f"{unit:07d}.{part}")

    def document(self, name: str, split: str) -> str:
        """The COCO document of a split; its name without .json is the folder of the PNGs that belong to it."""
        return join(self.output, "annotations", f"{name}_{split}.json")

    def picture(self, image: LabeledImage) -> dict[str, bytes]:
        """URL and content of the copied picture; empty where pictures are not copied."""
        if image.data is None:
            return {}
        return {join(self.output, "images", image.split, image.picture_name): image.data}

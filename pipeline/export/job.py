"""What the tasks of an export need."""

from dataclasses import dataclass, field
from typing import Any

from scclip.pipeline.export.source import Source
from scclip.pipeline.export.transform import Rules, Target
from scclip.pipeline.storage.files import join

WORK = "_export"  # fragments and markers; gone when the export is whole

MERGED = {"coco": "instances", "coco-panoptic": "panoptic"}  # formats with one JSON per split


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """Everything a unit's task needs."""

    output: str
    """Where the export goes, any fsspec URL."""
    format: str
    """One of FORMATS."""
    source: Source
    """Which images, and how they are read."""
    target: Target
    """The categories of the export."""
    rules: Rules
    """How label maps are changed."""
    form: str = "rle"
    """COCO segmentations: rle, uncompressed or polygons."""
    info: dict[str, Any] = field(default_factory=dict)
    """`info` of the merged JSON."""

    def marker(self, unit: int) -> str:
        """The file whose existence says that a unit is exported; it holds its counts."""
        return join(self.output, WORK, f"{unit:07d}.json")

    def fragment(self, unit: int, split: str, kind: str) -> str:
        """A unit's part of a list of the merged JSON."""
        return join(self.output, WORK, f"{unit:07d}.{split}.{kind}")

    def merged(self, split: str) -> str:
        """The merged JSON of a split."""
        return join(self.output, "annotations", f"{MERGED[self.format]}_{split}.json")

    def shard(self, unit: int, split: str) -> str:
        """A unit's shard of a split."""
        if self.format == "parquet":
            return join(self.output, "data", f"{split}-{unit:07d}.parquet")
        return join(self.output, split, f"{unit:07d}.tar")

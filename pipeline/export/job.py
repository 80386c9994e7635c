"""What the tasks of an export need, and where they write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scclip.pipeline.export.transform import Rules, Target
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.storage.files import join

WORK = "_export"  # fragments and markers; removed when the export is complete


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """Everything that the task of a unit needs."""

    output: str
    """Where the export goes, any fsspec URL."""
    format: str
    """A key of EXPORTERS."""
    files: RunFiles
    """The run."""
    condition: str = ""
    """Expression over the columns of images/; empty keeps all images."""
    val: float = 0.0
    """Fraction of the keys that go to the split `val`."""
    pictures: bool = False
    """Whether the pictures are copied from the run's input."""
    foreign: bool = False
    """Whether the run may be a stranger's: each picture is decoded, so that no other file is copied for it."""
    upright: bool = True
    """Whether the run turned pictures as their orientation says; so do the copies."""
    repeated: npt.NDArray[np.uint64] | Sequence[int] = ()
    """Sorted hashes of the names that several images would have, for names.FileNames."""
    target: Target
    """The categories of the export."""
    rules: Rules
    """How label maps are changed."""
    base: int = 1
    """What classes count from in the files, 0 or 1."""
    segmentation: str = "rle"
    """How COCO documents write masks: rle, uncompressed or polygons."""
    info: Mapping[str, object] = field(default_factory=dict)
    """`info` of COCO documents."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the export has: train, and val where --val asks for it."""
        return ("train", "val") if self.val > 0 else ("train",)

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

"""Options of `scclip shard`."""

from dataclasses import dataclass
from typing import Literal

from scclip.errors import UserError
from scclip.jobs.cli.errors import hint
from scclip.jobs.cli.options import OptionParser, option, positional
from scclip.pipeline.benchmarks.protocols import BENCHMARKS

WITH_TRUTH = ("folders", "coco")


EXAMPLE = """datasets, in the folder layouts that mmsegmentation documents:
  voc21 voc20 context60 context59 coco_object coco_stuff cityscapes ade20k
  folders   SOURCE holds images, --truth a PNG of class indices for each, of the same path but for the extension
  coco      SOURCE holds images, --truth is an instances or a panoptic JSON; classes.txt in OUTPUT names the classes
"""


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """Input and output."""

    dataset: str = positional("DATASET", travels="path or word")
    """A benchmark's name, folders, or coco."""
    source: str = positional("SOURCE", travels="path")
    """Folder of the unpacked download, any fsspec URL."""
    output: str = positional("OUTPUT", travels="path")
    """Folder of the shards; the same command again writes only what is missing."""
    truth: str | None = option(None, travels="path or word")
    """Ground truth for DATASET folders (a folder) and coco (a JSON file)."""
    unlabelled: Literal["ignore", "background"] = "ignore"
    """Pixels without annotation, for DATASET coco: left out, or class 0 of a vocabulary with a background."""
    images: int = 256
    """Images of a shard."""
    address: str | None = option(None, travels="word")
    """Address of a running Ray cluster [RAY_ADDRESS, else a Ray of its own on this machine]."""

    def __post_init__(self) -> None:
        if self.dataset not in (*BENCHMARKS, *WITH_TRUTH):
            raise UserError(f"unknown dataset {self.dataset!r}; {hint(self.dataset, (*BENCHMARKS, *WITH_TRUTH))}")
        if (self.dataset in WITH_TRUTH) != (self.truth is not None):
            raise UserError("--truth names the ground truth of DATASET folders and coco; benchmarks bring their own")
        if self.images < 1:
            raise UserError(f"--images {self.images} must be at least 1")


def parser() -> OptionParser:
    """The verb's options."""
    return OptionParser("shard", "Benchmark downloads to WebDataset shards.", [ShardOptions], EXAMPLE)

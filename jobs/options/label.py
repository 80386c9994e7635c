"""Options of `scclip label`."""

from dataclasses import dataclass
from typing import Literal

from scclip.encoder.config import ModelConfig
from scclip.errors import UserError
from scclip.jobs.cli.options import OptionParser, option, positional
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.segmentation.types import SegmentationOptions


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """Input and output."""

    inputs: tuple[str, ...] = positional("INPUT", recorded=False, travels="path")
    """WebDataset tars, Parquet files, image folders, COCO images.json, globs, .txt lists of these; any fsspec URL."""
    output: str = positional("OUTPUT", recorded=False, travels="path")
    """Directory of the run; the same command again goes on where it stopped."""
    vocabulary: str = option("demo", recorded=False, travels="file")  # recorded in full
    """Built-in name (voc21, coco_stuff, cityscapes, …), a .txt with one class a line, or a .yaml."""
    masks: Literal["none", "png"] = "none"
    """png also writes masks/UUUUUUU.tar with NAME.seg.png; NAME is the key, with _ for dots."""
    save_confidence: bool = False
    """Also write NAME.argmax.png and NAME.conf.png, for later re-thresholding."""
    image_ids: Literal["plan", "key"] = "plan"
    """plan numbers images by unit and index; key takes the digits of the image's key (COCO's own ids)."""
    exif: Literal["apply", "ignore"] = "apply"
    """Turn pictures as their EXIF orientation says, or leave them as stored."""
    reduced_decode: bool = False
    """Decode large JPEGs at 1/2, 1/4 or 1/8 scale, never below twice the model's resolution; labels change slightly."""
    image_column: str | None = option(None, travels="word")
    """Column of Parquet files that holds the images [image, jpg, png, … whichever there is]."""
    limit: int | None = None
    """Label the first N images only."""
    chunk_size: int | None = option(None, recorded=False)  # recorded among the chunk limits
    """Images per chunk: what one task does, and what is lost when a worker dies [32 on a CPU, 256 on a GPU]."""
    max_failed: float = option(0.05, recorded=False)
    """Share of images that may fail before the job ends with exit code 1."""
    dry_run: bool = option(False, recorded=False)
    """Write nothing; label a sample and show what the run would read, need and write."""
    retry_failed: bool = option(False, recorded=False)
    """Label the units that hold failed images again."""
    address: str | None = option(None, recorded=False, travels="word")
    """Address of a running Ray cluster [RAY_ADDRESS, else a Ray of its own on this machine]."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_failed <= 1:
            raise UserError(f"--max-failed {self.max_failed} is no share; give 0 to 1, e.g. 0.05")
        for name in ("chunk_size", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} {value} must be at least 1")


EXAMPLE = """examples:
  scclip label photos/ labels/ --vocabulary voc21 --model ViT-B-16-quickgelu --pretrained openai
  scclip label 's3://bucket/shards/*.tar' s3://bucket/labels --vocabulary street.yaml \\
      --model ViT-B-16-quickgelu --pretrained openai --actors 4
"""


def parser() -> OptionParser:
    """The verb's options."""
    groups = [LabelOptions, ModelConfig, SegmentationOptions, ComputeConfig]
    return OptionParser("label", "Label image shards: COCO masks and Parquet statistics.", groups, EXAMPLE)

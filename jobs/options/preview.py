"""Options of `scclip preview`."""

from dataclasses import dataclass
from typing import Literal

from scclip.encoder.config import ModelConfig
from scclip.errors import UserError
from scclip.jobs.cli.options import OptionParser, option, positional
from scclip.segmentation.types import SegmentationOptions

MOST_IMAGES = 48


@dataclass(frozen=True, kw_only=True)
class PreviewOptions:
    """Input and page."""

    inputs: tuple[str, ...] = positional("INPUT", travels="path")
    """WebDataset tars, Parquet files, image folders, globs and so on, as `scclip label` takes them."""
    vocabulary: str = option("demo", travels="file")
    """Built-in name (voc21, coco_stuff, cityscapes, …), a .txt with one class a line, or a .yaml."""
    output: str = option("preview.html", travels="path")
    """Where the page goes, any fsspec URL; the same command again replaces it."""
    images: int = 24
    """Images to label, spread over the input: files at equal distances, the first images of shards at equal distances;
    at most 48."""
    exif: Literal["apply", "ignore"] = "apply"
    """Turn pictures as their EXIF orientation says, or leave them as stored."""
    image_column: str | None = option(None, travels="word")
    """Column of Parquet files that holds the images [image, jpg, png, … whichever there is]."""

    def __post_init__(self) -> None:
        if not 1 <= self.images <= MOST_IMAGES:
            raise UserError(f"--images {self.images} must be 1 to {MOST_IMAGES}: the page stays small")


EXAMPLE = """examples:
  scclip preview photos/ --vocabulary words.txt --model ViT-B-16-quickgelu --pretrained openai
"""


def parser() -> OptionParser:
    """The verb's options."""
    description = "Label a few images and show them on one page, for the loop of writing a vocabulary; keeps no run."
    return OptionParser("preview", description, [PreviewOptions, ModelConfig, SegmentationOptions], EXAMPLE)

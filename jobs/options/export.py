"""Options of `scclip export`."""

from dataclasses import dataclass
from typing import Literal

from scclip.errors import UserError
from scclip.jobs.cli.options import OptionParser, option, positional
from scclip.pipeline.export.exporter import EXPORTERS

EXAMPLE = """examples:
  scclip export labels/ coco/ --format coco --images --val 0.1
  scclip export labels/ sure/ --format png --images --confidence-floor 0.4 --filter "coverage > 0.5"
  scclip export labels/ yolo/ --format yolo --images --classes mapping.yaml --min-area 64

mapping.yaml holds `old name: new name`, or null to drop a class; thresholds.yaml `name: 0.3`.
"""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Run and form."""

    run: str = positional("RUN", travels="path")
    """Directory of a labeling run, any fsspec URL."""
    output: str = positional("OUTPUT", recorded=False, travels="path")
    """Directory of the export, any fsspec URL; the same command again goes on where it stopped."""
    format: str = option("coco", choices=tuple(EXPORTERS), travels="word")
    """coco: one JSON of all segments. coco-panoptic: PNGs and JSON. png: tars of label PNGs. png-folders: label PNGs
    beside the pictures. yolo: text files. parquet: Hugging Face's layout. fiftyone: data/ and labels.json.
    label-studio: tasks with brush masks as predictions."""
    images: bool = False
    """Copy the pictures beside the labels, from the run's input; upright where the run turned them (--exif apply)."""
    segmentation: Literal["rle", "uncompressed", "polygons"] = "rle"
    """How coco and fiftyone write masks; polygons follow the pixels' edges, holes are joined to them by a seam."""
    label_base: int | None = None
    """What classes count from in label maps and ids; where there is a background, it is 0 in maps and classes count
    from 1. categories.json says which number means what [1; yolo always 0]."""
    trust_plan: bool = option(False, recorded=False)
    """Follow the plan of a run that was made elsewhere to pictures that lie neither beside it nor in its bucket."""
    components: bool = False
    """Things (the vocabulary says which) become one segment per connected component."""
    address: str | None = option(None, recorded=False, travels="word")
    """Address of a running Ray cluster [RAY_ADDRESS, else a Ray of its own on this machine, for more than 8 units]."""
    json: bool = option(False, recorded=False)
    """Print one JSON object on stdout; notes go to stderr."""

    def __post_init__(self) -> None:
        if self.label_base not in (None, 0, 1):
            raise UserError(f"--label-base {self.label_base} must be 0 or 1")
        if self.format == "yolo" and self.label_base == 1:
            raise UserError("--label-base 1: Ultralytics counts classes from 0; leave it out, or take another --format")


@dataclass(frozen=True, kw_only=True)
class SelectionOptions:
    """What is kept."""

    filter: str = option("", travels="word")
    """Only images for which this holds, over the columns of images/: "coverage > 0.5 and mean_confidence > 0.4"."""
    val: float = 0.0
    """Fraction of the images that go to the split val, by a hash of the key."""
    classes: str = option("", travels="file")
    """YAML file: old class name: new name, or null to drop it."""
    min_area: int = 0
    """Pixels; smaller segments lose their class."""
    thresholds: str = option("", travels="file")
    """YAML file: class name: confidence below which its pixels lose it. Needs a run with --save-confidence."""
    confidence_threshold: float | None = None
    """The same for all classes that neither this file nor the vocabulary names, as `scclip label` has it."""
    confidence_floor: float = 0.0
    """Pixels below this confidence become ignore. Needs a run with --save-confidence."""

    def __post_init__(self) -> None:
        if not 0 <= self.val < 1:
            raise UserError(f"--val {self.val:g} must be 0 or more and below 1, e.g. 0.1")
        if self.min_area < 0:
            raise UserError(f"--min-area {self.min_area} must be 0 or more")
        for name in ("confidence_threshold", "confidence_floor"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"--{name.replace('_', '-')} {value:g} must lie between 0 and 1")


def parser() -> OptionParser:
    """The verb's options."""
    return OptionParser("export", "A run's labels for trainers.", [ExportOptions, SelectionOptions], EXAMPLE)

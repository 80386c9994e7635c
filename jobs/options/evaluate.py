"""Options of `scclip evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scclip.encoder.config import ModelConfig
from scclip.encoder.variants import VARIANTS
from scclip.errors import UserError
from scclip.jobs.cli.options import OptionParser, option, positional
from scclip.jobs.options.label import LabelOptions
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.segmentation.types import SegmentationOptions


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Input and output."""

    paths: tuple[str, ...] = positional("PATH", default=(), travels="path")
    """SHARDS … OUTPUT: shards with ground truth, and last the directory of the results. With --labels only OUTPUT, or
    nothing: then it is RUN-evaluation."""
    benchmark: str | None = option(None, travels="word")
    """Protocol: voc21, voc20, context60, context59, coco_object, coco_stuff, cityscapes or ade20k."""
    vocabulary: str | None = option(None, travels="file")
    """Built-in name, .txt or .yaml, instead of a benchmark."""
    variants: tuple[str, ...] = option((), travels="word", choices=VARIANTS, metavar="VARIANT")
    """Evaluate several at once: clip, maskclip, scclip; maskclip+STEP (that step alone), scclip-STEP (without it);
    steps: anomalies, aggregation, attention, fusion, post, residual."""
    labels: str | None = option(None, travels="path")
    """Evaluate the labels of this finished run instead of a model, with its vocabulary and options."""
    truth: tuple[str, ...] = option((), travels="path or word")
    """Shards with the ground truth of --labels; once for each where OUTPUT comes after it."""
    truth_extension: str = option("seg.png", travels="word")
    """Extension (in Parquet: column) of the ground truth in the shards."""
    truth_indices: Literal["classes", "categories"] | None = None
    """Values of the truth: classes count from 0 (as `scclip shard` writes), categories from 1 with background as 0 [as
    the truth's categories.json says, else classes]."""
    truth_ignore: tuple[int, ...] = ()
    """Values of the truth to leave out beside 255 (65535 in 16 bits)."""
    exif: Literal["apply", "ignore"] | None = None
    """Turn pictures as their EXIF orientation says, or leave them as stored [apply with --benchmark, as the published
    figures were made; else ignore, as truth is stored]."""
    image_column: str | None = option(None, travels="word")
    """Column of Parquet files that holds the images [image, jpg, png, … whichever there is]."""
    limit: int | None = None
    """Evaluate the first N images only."""
    chunk_size: int | None = None
    """Images per chunk: what one task does, and what is lost when a worker dies [32 on a CPU, 256 on a GPU]."""
    max_failed: float = 0.0
    """Share of images that may fail before the job ends with exit code 1."""
    retry_failed: bool = False
    """Evaluate the units that hold failed images again."""
    pictures: int = 12
    """Worst images shown in report.html, at most 48."""
    json: bool = False
    """Print one JSON object on stdout; notes go to stderr."""
    address: str | None = option(None, travels="word")
    """Address of a running Ray cluster [RAY_ADDRESS, else a Ray of its own on this machine]."""

    def __post_init__(self) -> None:
        if self.labels is None and len(self.paths) < 2:
            raise UserError("give SHARDS and OUTPUT, or --labels RUN --truth SHARDS")
        if self.labels is not None and (len(self.paths) > 1 or not self.truth):
            remedy = "repeat --truth for several shards"
            raise UserError(
                f"--labels RUN takes its shards from --truth SHARDS, and at most one path, OUTPUT; {remedy}"
            )
        if self.labels is not None and Path(self.output).is_file():
            raise UserError(f"OUTPUT {self.output} is a file; give a directory, and repeat --truth for several shards")
        if self.labels is None and self.truth:
            raise UserError("--truth names the shards of --labels; without it SHARDS hold truth and images")
        if self.labels is not None and (self.benchmark or self.vocabulary or self.variants):
            raise UserError("--labels has its vocabulary and method already; leave --benchmark and the like out")
        if self.labels is None and (self.benchmark is None) == (self.vocabulary is None):
            raise UserError("give either --benchmark NAME or --vocabulary NAME|FILE")
        repeated = [name for name in self.variants if self.variants.count(name) > 1]
        if repeated:
            raise UserError(f"--variants names {repeated[0]!r} twice; once is enough")
        if not 0 <= self.pictures <= 48:
            raise UserError(f"--pictures {self.pictures} must be 0 to 48: the page stays small")
        self.as_label()

    @property
    def output(self) -> str:
        """Directory of the results."""
        return (self.paths[-1] if self.paths else f"{(self.labels or '').rstrip('/')}-evaluation").rstrip("/") or "/"

    @property
    def shards(self) -> tuple[str, ...]:
        """Where images and truth are read from."""
        return self.truth if self.labels is not None else self.paths[:-1]

    def as_label(self) -> LabelOptions:
        """What labeling calls the same options."""
        same = {name: getattr(self, name) for name in ("output", "image_column", "limit", "chunk_size", "max_failed")}
        exif = self.exif or ("apply" if self.benchmark else "ignore")
        return LabelOptions(inputs=self.shards, exif=exif, **same)


EXAMPLE = """examples:
  scclip evaluate shards/ade20k ade20k-b16 --benchmark ade20k --model ViT-B-16-quickgelu --pretrained openai
  scclip evaluate camvid.tar camvid --vocabulary street.yaml --truth-ignore 11 \\
      --model ViT-B-16-quickgelu --pretrained openai --variants scclip maskclip clip
  scclip evaluate --labels labels/ --truth shards/
"""


def parser() -> OptionParser:
    """The verb's options."""
    groups = [EvaluateOptions, ModelConfig, SegmentationOptions, ComputeConfig]
    return OptionParser("evaluate", "Measure labels against ground truth in shards.", groups, EXAMPLE)

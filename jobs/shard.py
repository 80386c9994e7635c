"""`scclip shard DATASET SOURCE OUTPUT`: official benchmark downloads → WebDataset shards with ground truth.

scclip shard ade20k data/ADEChallengeData2016 s3://bucket/ade20k
scclip shard folders images/ shards/ --truth masks/
scclip shard coco val2017/ shards/ --truth annotations/instances_val2017.json
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import ray
from tqdm import tqdm

from scclip.errors import JobFailed, UserError
from scclip.jobs.cli.cluster import local_or_cluster
from scclip.jobs.cli.errors import cause
from scclip.jobs.cli.options import OptionParser, positional
from scclip.pipeline.benchmarks.coco import coco_samples
from scclip.pipeline.benchmarks.downloads import LAYOUTS, Sample, folder_pair, list_samples
from scclip.pipeline.benchmarks.sharding import write_shards
from scclip.pipeline.run.commit import create_anew
from scclip.pipeline.storage.files import join

WITH_TRUTH = ("folders", "coco")

EXAMPLE = """datasets, in the folder layouts that mmsegmentation documents:
  voc21 voc20 context60 context59 coco_object coco_stuff cityscapes ade20k
  folders   SOURCE holds images, --truth a PNG of class indices for each, by the same stem
  coco      SOURCE holds images, --truth is an instances or a panoptic JSON; classes.txt in OUTPUT names the classes
"""


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """Input and output."""

    dataset: str = positional("DATASET")
    """A benchmark's name, folders, or coco."""
    source: str = positional("SOURCE")
    """Folder of the unpacked download, any fsspec URL."""
    output: str = positional("OUTPUT")
    """Folder of the shards; the same command again writes only what is missing."""
    truth: str | None = None
    """Ground truth for DATASET folders (a folder) and coco (a JSON file)."""
    unlabelled: Literal["ignore", "background"] = "ignore"
    """Pixels without annotation, for DATASET coco: left out, or class 0 of a vocabulary with a background."""
    images: int = 256
    """Images of a shard."""
    address: str | None = None
    """Address of a running Ray cluster [RAY_ADDRESS, else a Ray of its own on this machine]."""

    def __post_init__(self) -> None:
        if self.dataset not in (*LAYOUTS, *WITH_TRUTH):
            raise UserError(f"unknown dataset {self.dataset!r}; choose {', '.join(LAYOUTS)}, folders or coco")
        if (self.dataset in WITH_TRUTH) != (self.truth is not None):
            raise UserError("--truth names the ground truth of DATASET folders and coco; benchmarks bring their own")
        if self.images < 1:
            raise UserError(f"--images {self.images} must be at least 1")


def parser() -> OptionParser:
    """The verb's options."""
    return OptionParser("shard", "Benchmark downloads to WebDataset shards.", [ShardOptions], EXAMPLE)


def main(argv: Sequence[str]) -> int:
    """Writes the shards; returns 0."""
    (options,) = parser().parse(argv)
    source, output = options.source.rstrip("/"), options.output.rstrip("/")
    samples = find_samples(options, source, output)
    prefix = options.dataset if options.truth else f"{options.dataset}-val"
    with local_or_cluster(options.address) as cluster:
        cluster.start()
        with tqdm(total=len(samples), unit=" images", disable=not sys.stderr.isatty(), leave=False) as bar:
            written = 0
            try:
                for count in write_shards(samples, output, prefix, options.images):
                    written += count
                    bar.update(count)
            except ray.exceptions.RayError as error:
                raise JobFailed(f"{cause(error)}; finished shards are kept, the same command again goes on") from error
    print(
        f"{len(samples):,} images in {-(-len(samples) // options.images):,} shards ({written:,} written now): {output}"
    )
    return 0


def find_samples(options: ShardOptions, source: str, output: str) -> list[Sample]:
    """The images and their truth; for COCO also writes the classes, in order, into OUTPUT."""
    if options.dataset == "folders":
        return folder_pair(source, str(options.truth))
    if options.dataset != "coco":
        return list_samples(options.dataset, source)
    samples, classes = coco_samples(source, str(options.truth), background=options.unlabelled == "background")
    create_anew(join(output, "classes.txt"), "".join(f"{name}\n" for name in classes).encode())
    return samples

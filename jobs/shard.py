"""`scclip shard DATASET SOURCE OUTPUT`: official benchmark downloads → WebDataset shards with ground truth.

scclip shard ade20k data/ADEChallengeData2016 s3://bucket/ade20k
scclip shard folders images/ shards/ --truth masks/
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from jobs.cluster import local_or_cluster
from jobs.options import OptionParser, UserError, positional
from pipeline.datasets import LAYOUTS, folder_pair, list_samples
from pipeline.sharding import write_shards

EXAMPLE = """datasets, in the folder layouts that mmsegmentation documents:
  voc21 voc20 context60 context59 coco_object coco_stuff cityscapes ade20k
  folders   SOURCE holds images, --truth a PNG of class indices for each, by the same stem
"""


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """Input and output."""

    dataset: str = positional("DATASET")
    """A benchmark's name, or folders."""
    source: str = positional("SOURCE")
    """Folder of the unpacked download, any fsspec URL."""
    output: str = positional("OUTPUT")
    """Folder of the shards; the same command again writes only what is missing."""
    truth: str | None = None
    """Folder of the ground truth, for DATASET folders."""
    images: int = 256
    """Images of a shard."""
    address: str | None = None
    """Address of a running Ray cluster [RAY_ADDRESS, else a Ray of its own on this machine]."""

    def __post_init__(self) -> None:
        if self.dataset not in LAYOUTS and self.dataset != "folders":
            raise UserError(f"unknown dataset {self.dataset!r}; choose {', '.join(LAYOUTS)} or folders")
        if (self.dataset == "folders") != (self.truth is not None):
            raise UserError("--truth names the ground truth of DATASET folders; benchmarks bring their own")
        if self.images < 1:
            raise UserError(f"--images {self.images} must be at least 1")


def parser() -> OptionParser:
    """The verb's options."""
    return OptionParser("shard", "Benchmark downloads to WebDataset shards.", [ShardOptions], EXAMPLE)


def main(argv: Sequence[str]) -> int:
    """Writes the shards; returns 0."""
    (options,) = parser().parse(argv)
    source, output = options.source.rstrip("/"), options.output.rstrip("/")
    samples = folder_pair(source, options.truth) if options.truth else list_samples(options.dataset, source)
    prefix = options.dataset if options.truth else f"{options.dataset}-val"
    with local_or_cluster(options.address) as cluster:
        cluster.start()
        with tqdm(total=len(samples), unit=" images", disable=not sys.stderr.isatty(), leave=False) as bar:
            written = 0
            for count in write_shards(samples, output, prefix, options.images):
                written += count
                bar.update(count)
    print(
        f"{len(samples):,} images in {-(-len(samples) // options.images):,} shards ({written:,} written now): {output}"
    )
    return 0

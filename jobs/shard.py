"""`scclip shard DATASET SOURCE OUTPUT`: official benchmark downloads → WebDataset shards with ground truth.

scclip shard ade20k data/ADEChallengeData2016 s3://bucket/ade20k
scclip shard folders images/ shards/ --truth masks/
scclip shard coco val2017/ shards/ --truth annotations/instances_val2017.json
"""

import sys

import ray
from tqdm import tqdm

from scclip.errors import JobFailed
from scclip.jobs.cli.cluster import local_or_cluster
from scclip.jobs.cli.errors import cause
from scclip.jobs.options.shard import ShardOptions
from scclip.pipeline.benchmarks.coco import coco_samples
from scclip.pipeline.benchmarks.downloads import Sample, folder_pair, list_samples
from scclip.pipeline.benchmarks.sharding import write_shards
from scclip.pipeline.run.commit import create_anew
from scclip.pipeline.storage.files import join
from scclip.vocabulary.files import write_text


def shard(options: ShardOptions) -> int:
    """Writes the shards; returns 0."""
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
    shards = -(-len(samples) // options.images)
    print(f"{len(samples):,} images in {shards:,} shards ({written:,} written now): {output}")
    return 0


def find_samples(options: ShardOptions, source: str, output: str) -> list[Sample]:
    """The images and their truth; for COCO also writes the classes, in order, into OUTPUT."""
    if options.dataset == "folders":
        return folder_pair(source, str(options.truth))
    if options.dataset != "coco":
        return list_samples(options.dataset, source)
    samples, classes = coco_samples(source, str(options.truth), background=options.unlabelled == "background")
    create_anew(join(output, "classes.txt"), write_text(classes).encode("utf-8", "replace"))
    return samples

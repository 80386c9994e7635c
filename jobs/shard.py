"""`scclip shard DATASET SOURCE OUTPUT`: official benchmark downloads → WebDataset shards with ground truth.

scclip shard ade20k data/ADEChallengeData2016 s3://bucket/ade20k
scclip shard folders images/ shards/ --truth masks/
scclip shard coco val2017/ shards/ --truth annotations/instances_val2017.json
"""

import json
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from scclip.categories import Categories
from scclip.errors import JobFailed
from scclip.jobs.cli.errors import cause, warn
from scclip.jobs.cli.steps import LISTING, watched_step
from scclip.jobs.cli.talk import no_bar, say
from scclip.jobs.options.shard import ShardOptions
from scclip.pipeline.annotations.numbering import FILE, Numbering, find_numbering
from scclip.pipeline.benchmarks.coco import coco_samples
from scclip.pipeline.benchmarks.downloads import Sample, folder_pair, list_samples
from scclip.pipeline.benchmarks.sharding import UNUSABLE, Shard, WrittenShard, missing_shards, write_shards
from scclip.pipeline.benchmarks.skipped import Skipped
from scclip.pipeline.run.commit import create_anew
from scclip.pipeline.storage.files import from_root, join
from scclip.vocabulary.files import write_text
from scclip.vocabulary.lint import VocabularyError
from scclip.vocabulary.vocabulary import Vocabulary
from scclip.wording import counted


def shard(options: ShardOptions) -> int:
    """Writes the shards; returns 0. What cannot be used is skipped, and one line says how much of which kind."""
    source, output, skipped = from_root(options.source), from_root(options.output), Skipped()
    with watched_step("shard", LISTING):
        samples = find_samples(options, source, output, skipped)
    prefix = options.dataset if options.truth else f"{options.dataset}-val"
    missing, written = missing_shards(samples, output, prefix, options.images), 0
    with tqdm(total=len(samples), unit=" images", disable=no_bar(), leave=False) as bar:
        for done in written_shards(missing, output, options.address):
            written += done.samples
            skipped.update(done.skipped)
            bar.update(done.samples + done.skipped.count(UNUSABLE))
    shards, unusable = -(-len(samples) // options.images), skipped.count(UNUSABLE)
    if unusable and not written:
        raise JobFailed(f"no image could be used; {skipped.line()}")
    warn([skipped.line()] if skipped.kinds else [], "shard")
    say(
        f"{counted(len(samples) - unusable, 'image')} in {counted(shards, 'shard')} ({written:,} written now): {output}"
    )
    return 0


def written_shards(missing: Sequence[Shard], output: str, address: str | None) -> Iterator[WrittenShard]:
    """Writes the shards below `output` on Ray, if any are missing."""
    if not missing:
        return
    import ray

    from scclip.jobs.cli.cluster import local_or_cluster
    from scclip.jobs.cli.waiting import watched_tasks

    with local_or_cluster("shard", address) as cluster, watched_tasks("shard") as silence:
        cluster.start()
        first = missing[0][1][0]
        cluster.check_storage(output, [first.image, first.truth])
        try:
            for shard in write_shards(missing):
                silence.progress()
                yield shard
        except ray.exceptions.RayError as error:
            raise JobFailed(f"{cause(error)}; finished shards are kept, the same command again goes on") from error


def find_samples(options: ShardOptions, source: str, output: str, skipped: Skipped | None = None) -> list[Sample]:
    """The images and their truth; for COCO also writes the classes, in order, into OUTPUT."""
    if options.dataset == "folders":
        samples = folder_pair(source, str(options.truth))
        write_numbering(find_numbering(sample.truth for sample in samples), output)
        return samples
    if options.dataset != "coco":
        return list_samples(options.dataset, source)
    background = options.unlabelled == "background"
    samples, classes = coco_samples(source, str(options.truth), background=background, skipped=skipped)
    known = Categories.of(((name, None) for name in classes), background=background)
    write_numbering(Numbering.of_maps(known, base=0), output)
    vocabulary = write_text(classes).encode("utf-8", "replace")
    create_anew(join(output, "classes.txt"), vocabulary)
    try:
        Vocabulary.parse(vocabulary, "classes.txt")
    except VocabularyError as error:
        warn([f"{error}; before it is used as a vocabulary, rename this category in {options.truth}"], "shard")
    return samples


def write_numbering(numbering: Numbering | None, output: str) -> None:
    """Writes categories.json for `scclip evaluate`, where it is known what the numbers of the truth mean."""
    if numbering:
        create_anew(join(output, FILE), json.dumps(numbering.to_json(), indent=1).encode())

"""Datasets → WebDataset shards with ground truth (`key.jpg`, `key.seg.png`, `key.json`), written by Ray tasks.

    for shard in write_shards(missing_shards(samples, "s3://bucket/ade20k", prefix="ade20k-val", images=256)): ...

Images are copied, not re-encoded; `key.seg.png` holds the protocol's class indices, 255 = ignore (65535 in 16 bits).
A shard is written once and whole, so the same call again writes only what is missing.
"""

import io
import json
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from scclip.errors import one_line
from scclip.pipeline.annotations.png import png, read_plane, read_samples
from scclip.pipeline.benchmarks.coco import panoptic_values
from scclip.pipeline.benchmarks.downloads import Sample
from scclip.pipeline.benchmarks.label_ids import convert
from scclip.pipeline.benchmarks.shapes import paint
from scclip.pipeline.benchmarks.skipped import Skipped
from scclip.pipeline.inputs.decoding import DecodeConfig
from scclip.pipeline.inputs.headers import header_size
from scclip.pipeline.inputs.readers.tar import tar_bytes
from scclip.pipeline.storage import files as storage

UNUSABLE = "images with unusable pixels or ground truth"  # a kind of what is skipped
SHARD_CPUS = 0.5  # copying waits for storage more than it computes


Shard: TypeAlias = tuple[str, Sequence[Sample]]  # where it is written, and what it holds


@dataclass(frozen=True)
class WrittenShard:
    """What a task made of its samples."""

    samples: int
    """Those in the shard; there is no shard where it is 0."""
    skipped: Skipped
    """The other samples, and annotations without a shape."""


class UnusableSample(ValueError):
    """An image whose size or ground truth cannot be read, or do not go together."""


def missing_shards(samples: Sequence[Sample], output: str, prefix: str, images: int) -> list[Shard]:
    """The shards that do not exist yet.

    Args:
        samples: the images with their annotations, in the order of the shards.
        output: folder of the shards, any fsspec URL.
        prefix: begins the name of each shard: PREFIX-000000.tar.
        images: samples of one shard.
    """
    existing = {file.url.rsplit("/", 1)[1] for file in storage.list_files(output)}
    groups = [samples[start : start + images] for start in range(0, len(samples), images)]
    names = [f"{prefix}-{number:06d}.tar" for number in range(len(groups))]
    wanted = zip(names, groups, strict=True)
    return [(storage.join(output, name), group) for name, group in wanted if name not in existing]


def write_shards(shards: Sequence[Shard]) -> Iterator[WrittenShard]:
    """Writes shards by Ray tasks, each of which is given its own samples alone.

    Yields:
        What each shard holds, as it is written.

    Raises:
        ray.exceptions.RayError: the storage does not give a file, or takes no shard.
    """
    import ray.data  # where all shards exist there is no need of it

    from scclip.pipeline.cluster.ray_data import configure_ray_data

    configure_ray_data()

    def write(batch: pa.Table) -> pa.Table:
        shard = write_shard(*pickle.loads(batch["shard"][0].as_py()))
        return pa.table({"samples": [shard.samples], "skipped": [json.dumps(shard.skipped.kinds)]})

    work = ray.data.from_items([{"shard": pickle.dumps(shard)} for shard in shards], override_num_blocks=len(shards))
    written = work.map_batches(write, batch_size=1, batch_format="pyarrow", num_cpus=SHARD_CPUS)
    for batch in written.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in pa.table(batch).to_pylist():
            yield WrittenShard(row["samples"], Skipped(json.loads(row["skipped"])))


def write_shard(url: str, samples: Sequence[Sample]) -> WrittenShard:
    """Writes the samples that can be used into one tar; the others are counted."""
    skipped = Skipped()
    tar = tar_bytes(usable_files(samples, skipped))
    usable = len(samples) - skipped.count(UNUSABLE)
    if usable:
        storage.create(url, tar)
    return WrittenShard(usable, skipped)


def usable_files(samples: Sequence[Sample], skipped: Skipped) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files of all samples that can be used."""
    for sample in samples:
        try:
            yield from members(sample, skipped).items()
        except UnusableSample as error:
            skipped.add(UNUSABLE, str(error))


def members(sample: Sample, skipped: Skipped | None = None) -> dict[str, bytes]:
    """The files of a sample by name.

    Args:
        sample: what to read.
        skipped: here annotations without a shape are counted.

    Raises:
        UnusableSample: the image has no size, or the annotation is no PNG of this size and of the right kind.
        OSError: a file cannot be read.
    """
    image, suffix = storage.read_bytes(sample.image), sample.image.rpartition("/")[2].rpartition(".")[2].lower()
    truth = storage.read_bytes(sample.truth) if sample.shapes is None else b""
    try:
        size = header_size(image) or Image.open(io.BytesIO(image)).size
        if size[0] * size[1] > DecodeConfig.max_pixels:
            raise ValueError(
                f"{size[0]} × {size[1]} pixels by its header; at most {DecodeConfig.max_pixels:,} are read"
            )
        annotation = draw(sample, truth, size, Skipped() if skipped is None else skipped)
    except Exception as error:  # Pillow's plugins raise anything on bad bytes
        reason = "no image" if isinstance(error, UnidentifiedImageError) else one_line(error)
        raise UnusableSample(f"{sample.key}: {reason}") from None
    metadata = {"image": sample.image.rsplit("/", 1)[1], "width": size[0], "height": size[1]}
    return {
        f"{sample.key}.{suffix}": image,
        f"{sample.key}.seg.png": png(annotation if sample.labels is None else convert(sample.labels, annotation)),
        f"{sample.key}.json": json.dumps(metadata, sort_keys=True).encode(),
    }


def draw(sample: Sample, truth: bytes, size: tuple[int, int], skipped: Skipped) -> np.ndarray:
    """The values (H, W) of an annotation of `size` (width, height): painted, or those of the PNG `truth`."""
    if sample.shapes is not None:
        return paint(sample.shapes, size[1], size[0], skipped)
    plane = read_plane(truth) if sample.segments is None else read_samples(truth)
    wanted = (size[1], size[0]) if sample.segments is None else (size[1], size[0], 3)
    if plane.shape != wanted:
        raise ValueError(f"the ground truth has the shape {plane.shape}, wanted is {wanted}")
    return plane if sample.segments is None else panoptic_values(plane, dict(sample.segments))

"""Datasets → WebDataset shards with ground truth (`key.jpg`, `key.seg.png`, `key.json`), written by Ray tasks.

    for shard in write_shards(samples, "s3://bucket/ade20k", prefix="ade20k-val", images=256): ...

Images are copied, not re-encoded; `key.seg.png` holds the protocol's class indices, 255 = ignore. A shard is written
once and whole, so the same call again writes only what is missing.
"""

import io
import json
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import ray
import ray.data
from PIL import Image

from scclip.pipeline.annotations.png import png
from scclip.pipeline.benchmarks.coco import paint, panoptic_values
from scclip.pipeline.benchmarks.downloads import Sample
from scclip.pipeline.benchmarks.label_ids import convert
from scclip.pipeline.cluster.ray_data import configure_ray_data
from scclip.pipeline.inputs.readers.tar import tar_bytes
from scclip.pipeline.storage import files as storage

INDEX_MODES = ("L", "P", "I", "I;16")
SHARD_CPUS = 0.5  # copying waits for storage more than it computes


def write_shards(samples: Sequence[Sample], output: str, prefix: str, images: int) -> Iterator[int]:
    """Writes the shards that do not exist yet.

    Args:
        samples: the images with their annotations, in the order of the shards.
        output: folder of the shards, any fsspec URL.
        prefix: begins the name of each shard: PREFIX-000000.tar.
        images: samples of one shard.

    Yields:
        The number of samples of each shard as it is written.

    Raises:
        ray.exceptions.RayError: an image or its annotation cannot be read.
    """
    existing = {file.url.rsplit("/", 1)[1] for file in storage.list_files(output)}
    groups = [samples[start : start + images] for start in range(0, len(samples), images)]
    urls = [storage.join(output, f"{prefix}-{number:06d}.tar") for number in range(len(groups))]
    missing = [number for number, url in enumerate(urls) if url.rsplit("/", 1)[1] not in existing]
    if not missing:
        return
    configure_ray_data()
    plan = ray.put({number: (urls[number], groups[number]) for number in missing})

    def write(batch: pa.Table) -> pa.Table:
        url, group = ray.get(plan)[batch["shard"][0].as_py()]
        storage.create(url, tar_bytes(file for sample in group for file in members(sample).items()))
        return pa.table({"samples": [len(group)]})

    shards = ray.data.from_items([{"shard": number} for number in missing], override_num_blocks=len(missing))
    written = shards.map_batches(write, batch_size=1, batch_format="pyarrow", num_cpus=SHARD_CPUS)
    for batch in written.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from pa.table(batch)["samples"].to_pylist()


def members(sample: Sample) -> dict[str, bytes]:
    """The files of a sample by name; ValueError where the annotation is no PNG of the image's size and right kind."""
    image, suffix = storage.read_bytes(sample.image), sample.image.rsplit(".", 1)[1].lower()
    size = Image.open(io.BytesIO(image)).size
    shapes = sample.shapes
    annotation = read_annotation(sample, size) if shapes is None else paint(shapes, size[1], size[0])
    metadata = {"image": sample.image.rsplit("/", 1)[1], "width": size[0], "height": size[1]}
    return {
        f"{sample.key}.{suffix}": image,
        f"{sample.key}.seg.png": png(convert(sample.labels, annotation)),
        f"{sample.key}.json": json.dumps(metadata, sort_keys=True).encode(),
    }


def read_annotation(sample: Sample, size: tuple[int, int]) -> np.ndarray:
    """The values (H, W) of an annotation PNG of `size` (width, height)."""
    with Image.open(io.BytesIO(storage.read_bytes(sample.truth))) as image:
        if image.size != size or image.mode not in (("RGB",) if sample.segments is not None else INDEX_MODES):
            kind = f"{image.mode} {image.size[0]} × {image.size[1]}"
            wanted = "class indices" if sample.segments is None else "colours"
            raise ValueError(f"{sample.truth} is {kind}; wanted {wanted} of {size[0]} × {size[1]} pixels")
        annotation = np.asarray(image)
    return annotation if sample.segments is None else panoptic_values(annotation, dict(sample.segments))

"""`scclip bench io`: run-length encoding against pycocotools; reading, decoding and writing, each by itself.

    scclip bench io

The product encodes all classes of a label map in one pass, pycocotools one mask after the other. The strings must be
equal, byte by byte.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as pycocotools_mask

from scclip.errors import JobFailed
from scclip.jobs.benchmarking.measuring import alternate, ratio, report
from scclip.jobs.benchmarking.model import picture_side, pictures
from scclip.jobs.benchmarking.scale import StandIn
from scclip.jobs.cli.options import OptionParser
from scclip.pipeline.annotations import rle
from scclip.pipeline.inputs.chunks import ChunkLimits
from scclip.pipeline.inputs.decoding import DecodeConfig, decode_chunk
from scclip.pipeline.inputs.readers.unit import read_unit
from scclip.pipeline.run.commit import CommitOptions, commit_chunk
from scclip.pipeline.run.files import RunFiles


@dataclass(frozen=True, kw_only=True)
class BenchIoOptions:
    """What is measured."""

    size: str = "640x480"
    """Size of images and label maps, WIDTHxHEIGHT."""
    classes: int = 20
    """Classes in a label map."""
    pictures: int = 32
    """Images in the shard that is read, decoded and committed."""
    repeats: int = 7
    """Rounds of each measurement; the median is reported."""

    def __post_init__(self) -> None:
        picture_side(self.size)
        if not 1 <= self.classes <= 254 or self.pictures < 1 or self.repeats < 1:
            raise ValueError("classes must be 1 to 254, pictures and repeats at least 1")


def main(argv: Sequence[str]) -> int:
    """Parses the options, measures, prints."""
    (options,) = OptionParser("bench io", __doc__.split("\n\n")[0], [BenchIoOptions]).parse(argv)
    bench_rle(options)
    with tempfile.TemporaryDirectory(prefix="scclip-io-") as folder:
        bench_stages(options, Path(folder))
    return 0


def blobs(size: tuple[int, int], classes: int, seed: int = 0) -> np.ndarray:
    """Draws a label map of smooth regions: (H, W) uint8 with all the categories 1 … `classes`."""
    generator = np.random.default_rng(seed)
    fields = generator.standard_normal((classes, 9, 12)).astype(np.float32)
    planes = [np.asarray(Image.fromarray(field).resize(size[::-1], Image.Resampling.BICUBIC)) for field in fields]
    labels = (np.argmax(np.stack(planes), axis=0) + 1).astype(np.uint8)
    labels[0, :classes] = np.arange(1, classes + 1)[: size[1]]
    return labels


def one_by_one(labels: np.ndarray) -> dict[int, str]:
    """Run lengths of every class as pycocotools encodes them: category → compressed counts."""
    masks = {int(label): np.asfortranarray(labels == label).view(np.uint8) for label in np.unique(labels)}
    return {label: pycocotools_mask.encode(mask)["counts"].decode() for label, mask in masks.items()}


def bench_rle(options: BenchIoOptions) -> None:
    """Encodes all classes in one pass, without and with boxes, areas and components, against one class at a time."""
    labels = blobs(picture_side(options.size), options.classes)
    if rle.encode_counts(labels) != one_by_one(labels):
        raise JobFailed("the run lengths differ from pycocotools'")
    functions = {
        "pycocotools": lambda: one_by_one(labels),
        "one pass": lambda: rle.encode_counts(labels),
        "with box, area, components": lambda: rle.encode_label_map(labels),
    }
    times = alternate({name: ten_times(function) for name, function in functions.items()}, options.repeats)
    rows: list[list[Any]] = [["run lengths", "ms", "ratio", "CPU ratio"]]
    figures: dict[str, object] = {"runs": int(rle.find_runs(labels).start.size), "equal": True}
    for name, time in times.items():
        summary, speedup = time.summary(10), ratio(times["pycocotools"], time)
        figures[name] = summary | {"ratio": speedup}
        rows.append([name, f"{summary['median_s'] * 100:.2f}", speedup["wall"], speedup["cpu"]])
    report("io.rle", options, figures, rows, "cpu")


def ten_times(function: Callable[[], object]) -> Callable[[], object]:
    """A function that calls another ten times: one call is too short to time."""
    return lambda: [function() for _ in range(10)]


def bench_stages(options: BenchIoOptions, folder: Path) -> None:
    """Measures each stage but the model by itself, in one process."""
    from scclip.jobs.benchmarking.pipeline import write_shard

    unit = write_shard(folder / "shard.tar", pictures(8, picture_side(options.size)), options.pictures)
    limits = ChunkLimits(images=options.pictures)
    chunk = next(iter(read_unit(unit, limits)))
    decoded = decode_chunk(chunk, DecodeConfig())
    labeler = BlobLabels(blobs(picture_side(options.size), options.classes)).start()
    labeled, counter = labeler(decoded), iter(range(10**6))

    def commit(masks: bool) -> None:
        commit_chunk(labeled, RunFiles(str(folder / f"run{next(counter)}")), CommitOptions(masks=masks))

    functions = {
        "read": lambda: [chunk.to_arrow() for chunk in read_unit(unit, limits)],
        "decode": lambda: decode_chunk(chunk, DecodeConfig()),
        "actor tables": lambda: labeler(decoded),
        "encode and write": lambda: commit(False),
        "with masks": lambda: commit(True),
    }
    times = alternate(functions, options.repeats)
    figures = {name: time.summary(options.pictures) for name, time in times.items()}
    rows: list[list[Any]] = [["stage", "images/s", "ms/image", "CPU ms/image"]]
    for name, entry in figures.items():
        each = [f"{1000 * entry[key] / options.pictures:.3f}" for key in ("median_s", "cpu_s")]
        rows.append([name, entry["per_second"], *each])
    figures |= {"mib_per_s": {"read": round(unit.size / 2**20 / figures["read"]["median_s"], 1)}}
    report("io.stages", options, {"figures": figures}, rows, "cpu")


class BlobLabels(StandIn):
    """A stand-in for a segmenter that labels every image with one map: what is left is the actor's work on tables."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = super().halves(*labels.shape)._replace(labels=labels, argmax=labels)

    def halves(self, height: int, width: int) -> Any:
        """The map and its scores, in the place of two halves."""
        return self.labels

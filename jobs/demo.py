"""`scclip demo`: the whole product on drawn scenes: shards → labels → comparison with the truth → report.

    scclip demo --output demo-run

Scenes come from seeds of their own: none was used for training, for settings or for the published test figures. The
same command again finds shards and labels done, and only measures and reports.
"""

import io
import json
import tarfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.errors import JobFailed
from jobs.label import LabelOptions, label, local_or_cluster
from jobs.models import SegmentationOptions
from jobs.options import OptionParser, UserError
from jobs.progress import duration
from jobs.report import ReportOptions, write_report
from pipeline.committing import RunFiles, png
from pipeline.metrics import confusion, iou, mean_iou
from pipeline.pictures import label_map, truth_map
from pipeline.plan import Unit
from pipeline.report import category_names
from pipeline.report_pictures import read_rows, read_segments
from pipeline.resources import ComputeConfig
from pipeline.run import read_plan, read_run
from pipeline.statistics import OK
from pipeline.storage import create, exists, info, join, read_bytes
from pipeline.webdataset import count_images
from scclip.demo.scenes import CLASSES, scene
from scclip.weights import Method, ModelConfig

SHARDS = 4
FIRST_SEED = 3_000_000  # scclip/demo/pool.py has the ranges of training, development and test below it
SIZES = ((240, 320), (320, 240), (300, 300), (240, 426), (272, 360))  # height, width, in turn
TRUTH = "seg.png"
RUNS: tuple[tuple[Method, str, str], ...] = (("scclip", "labels", "SC-CLIP"), ("clip", "labels-clip", "plain CLIP"))


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Demo."""

    output: str = "demo-run"
    """Directory for shards, labels and report."""
    images: int = 64
    """Scenes to draw, in four shards."""
    model: str = "demo"
    """Model to label with, as `scclip label --model` takes it."""

    def __post_init__(self) -> None:
        if not SHARDS <= self.images <= 100_000:
            raise UserError(f"--images {self.images} must be {SHARDS} to 100000: there are {SHARDS} shards to fill")


def main(argv: Sequence[str]) -> int:
    """Runs the demo; returns 0."""
    (options,) = OptionParser("demo", "Draw scenes, label them, compare with the truth.", [DemoOptions]).parse(argv)
    return demo(options)


def demo(options: DemoOptions) -> int:
    """Shards, two labeling runs, the comparison, the report; then tells where to look."""
    began, output = time.monotonic(), options.output.rstrip("/") or "/"
    write_shards(output, options.images)
    label_scenes(output, options.model)
    matrices = {name: measure(RunFiles(join(output, folder))) for _, folder, name in RUNS}
    scores = {name: iou(matrix) for name, matrix in matrices.items()}
    report = write_report(ReportOptions(output=join(output, RUNS[0][1]), truth=TRUTH), scores)
    figures = ", ".join(f"{name} {mean_iou(matrix):.3f}" for name, matrix in matrices.items())
    print(
        f"\nmIoU over {len(CLASSES)} classes, {options.images} scenes never seen in training: {figures}\n"
        f"report:  {report}\n"
        f"labels:  {join(output, RUNS[0][1])} (coco/ for pycocotools, segments/ and images/ as Parquet)\n"
        f"shards:  {join(output, 'shards')}\n"
        f"done in {duration(time.monotonic() - began)}"
    )
    return 0


def write_shards(output: str, images: int) -> None:
    """Draws the scenes into four tars, each created once and whole; UserError where others lie there."""
    for number, places in enumerate(np.array_split(np.arange(images), SHARDS)):
        url = join(output, "shards", f"scenes-{number:05d}.tar")
        if not exists(url):
            print(f"drawing {len(places)} scenes: {url}", flush=True)
            create(url, shard_bytes(places.tolist()))
        elif (found := count_images(url, info(url).size)) != len(places):
            raise UserError(f"{url} holds {found} scenes, not {len(places)}; choose another --output or --images")


def shard_bytes(places: Sequence[int]) -> bytes:
    """A WebDataset tar with KEY.png, KEY.seg.png (category indices) and KEY.json of each scene; always equal."""
    return tar_bytes((f"{place:06d}.{suffix}", data) for place in places for suffix, data in scene_files(place).items())


def tar_bytes(files: Iterable[tuple[str, bytes]]) -> bytes:
    """A plain tar of files by name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def scene_files(place: int) -> dict[str, bytes]:
    """Suffix → bytes of one scene: picture, truth, and what it was drawn from."""
    seed, (height, width) = FIRST_SEED + place, SIZES[place % len(SIZES)]
    image, truth = scene(seed, height, width)
    names = [CLASSES[category - 1] for category in np.unique(truth).tolist()]
    described = {"seed": seed, "height": height, "width": width, "classes": names}
    return {"png": png(image), TRUTH: png(truth), "json": json.dumps(described).encode()}


def label_scenes(output: str, model: str) -> None:
    """The real labeling job, once per method, on one local Ray; runs that are finished are left alone."""
    files = [RunFiles(join(output, folder)) for _, folder, _ in RUNS]
    with local_or_cluster(None) as cluster:
        if any(len(run.finished()) < SHARDS for run in files):
            cluster.start()
        for (method, _, name), run in zip(RUNS, files, strict=True):
            print(f"{name}: ", end="", flush=True)
            options = LabelOptions(inputs=(join(output, "shards"),), output=run.output, vocabulary="demo")
            label(options, ModelConfig(model=model, method=method), SegmentationOptions(), ComputeConfig())


def measure(files: RunFiles) -> npt.NDArray[np.int64]:
    """Confusion matrix int64 (C, C + 1) of a run's committed labels against the truth in its shards."""
    names = category_names(read_run(files))
    size = max(names) + 1
    return sum((unit_confusion(files, unit, names) for unit in read_plan(files)), np.zeros((size, size + 1), np.int64))


def unit_confusion(files: RunFiles, unit: Unit, names: dict[int, str]) -> npt.NDArray[np.int64]:
    """One unit's part of the matrix; JobFailed where an image has no labels or no truth."""
    images = pq.read_table(pa.BufferReader(read_bytes(files.unit_file("images", unit.number)))).to_pylist()
    segments = read_segments(files, unit.number, [image["image_id"] for image in images])
    size = max(names) + 1
    total = np.zeros((size, size + 1), np.int64)
    for image, row in zip(images, read_rows(unit, [0, len(images) - 1], TRUTH), strict=True):
        if image["status"] != OK or row["truth"] is None:
            raise JobFailed(f"{unit.url}: scene {image['key']} has no labels or no truth; choose another --output")
        labels = label_map(segments[image["image_id"]], image["height"], image["width"], names)
        total += confusion(truth_map(row["truth"], names), labels, size)
    return total

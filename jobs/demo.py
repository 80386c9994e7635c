"""`scclip demo`: everything on drawn scenes: shards → labels → comparison with the ground truth → report.

    scclip demo --output demo-run

Scenes come from seeds of their own: none was used for training, for settings or for the published test figures. The
same command again finds shards and labels done, and only measures and reports.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scclip.demo import evaluate as splits
from scclip.demo.scenes import CLASSES, scene
from scclip.encoder.config import Method, ModelConfig
from scclip.errors import JobFailed, UserError
from scclip.jobs.cli.cluster import local_or_cluster
from scclip.jobs.cli.progress import duration
from scclip.jobs.cli.talk import say, tell
from scclip.jobs.evaluate import run_evaluation
from scclip.jobs.label import label
from scclip.jobs.options.demo import SHARDS, DemoOptions
from scclip.jobs.options.evaluate import EvaluateOptions
from scclip.jobs.options.label import LabelOptions
from scclip.jobs.options.report import ReportOptions
from scclip.jobs.report import write_report
from scclip.metrics import mean_iou
from scclip.pipeline.annotations.png import png
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.pipeline.evaluation.results import Evaluation
from scclip.pipeline.inputs.plan import count_images, plan_units
from scclip.pipeline.inputs.readers.tar import tar_bytes
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.storage.files import create, exists, join
from scclip.segmentation.types import SegmentationOptions
from scclip.wording import counted

FIRST_SEED = 3_000_000  # scclip/demo/pool.py has the ranges of training, development and test below it
SIZES = ((240, 320), (320, 240), (300, 300), (240, 426), (272, 360))  # height, width, in turn
TRUTH = "seg.png"
RUNS: tuple[tuple[Method, str, str], ...] = (("scclip", "labels", "SC-CLIP"), ("clip", "labels-clip", "plain CLIP"))


def demo(options: DemoOptions) -> int:
    """Draws shards, labels them twice, compares with the truth, writes the report and prints where all this lies."""
    began, output = time.monotonic(), options.output.rstrip("/") or "/"
    write_shards(output, options.images, options.split)
    if options.shards_only:
        return 0
    label_scenes(output, options.model)
    evaluation = measure(output)
    report = write_report(ReportOptions(output=join(output, RUNS[0][1]), truth=TRUTH), evaluation)
    figures = ", ".join(f"{name} {mean_iou(evaluation.matrices[method]):.3f}" for method, _, name in RUNS)
    tell(
        "",
        f"mIoU over {len(CLASSES)} classes, {counted(options.images, 'scene')} never seen in training: {figures}",
        f"report:  {report}",
        f"labels:  {join(output, RUNS[0][1])} (coco/ for pycocotools, segments/ and images/ as Parquet)",
        f"shards:  {join(output, 'shards')}",
        f"done in {duration(time.monotonic() - began)}",
    )
    return 0


def write_shards(output: str, images: int, split: str = "demo") -> None:
    """Draws the scenes into four tars, each written once and completely; UserError where other tars lie there."""
    for number, indices in enumerate(np.array_split(np.arange(images), SHARDS)):
        url = join(output, "shards", f"scenes-{number:05d}.tar")
        if not exists(url):
            say(f"drawing {counted(len(indices), 'scene')}: {url}")
            create(url, shard_bytes(indices.tolist(), split))
        elif (found := sum(map(count_images, plan_units([url])))) != len(indices):
            raise UserError(
                f"{url} holds {counted(found, 'scene')}, not {len(indices)}; choose another --output or --images"
            )


def shard_bytes(indices: Sequence[int], split: str = "demo") -> bytes:
    """Returns a WebDataset tar with KEY.png, KEY.seg.png (category indices) and KEY.json of each scene."""
    files = ((index, scene_files(index, split)) for index in indices)
    return tar_bytes((f"{index:06d}.{suffix}", data) for index, named in files for suffix, data in named.items())


def scene_files(index: int, split: str = "demo") -> dict[str, bytes]:
    """Returns suffix → bytes of one scene: picture, truth, and what it was drawn from."""
    first, sizes = (FIRST_SEED, SIZES) if split == "demo" else (splits.SEEDS[split].start, splits.SIZES[split])
    seed, (height, width) = first + index, sizes[index % len(sizes)]
    image, truth = scene(seed, height, width)
    names = [CLASSES[category - 1] for category in np.unique(truth).tolist()]
    facts = json.dumps({"seed": seed, "height": height, "width": width, "classes": names})
    return {"png": png(image), TRUTH: png(truth), "json": facts.encode()}


def label_scenes(output: str, model: str) -> None:
    """Runs the labeling job once per method, on one local Ray; finished runs are left as they are."""
    files = [RunFiles(join(output, folder)) for _, folder, _ in RUNS]
    with local_or_cluster("demo", None) as cluster:
        if any(len(run.finished()) < SHARDS for run in files):
            cluster.start()
        for (method, _, name), run in zip(RUNS, files, strict=True):
            print(f"{name}: ", end="", flush=True)
            options = LabelOptions(inputs=(join(output, "shards"),), output=run.output, vocabulary="demo")
            label(options, ModelConfig(model=model, method=method), SegmentationOptions(), ComputeConfig())


def measure(output: str) -> Evaluation:
    """Evaluates both methods' labels; JobFailed where an image has no labels or no truth."""
    evaluations = {method: evaluated(join(output, folder), join(output, "shards")) for method, folder, _ in RUNS}
    matrices = {str(method): evaluation.matrices[method] for method, evaluation in evaluations.items()}
    return replace(evaluations["scclip"], matrices=matrices)


def evaluated(labels: str, shards: str) -> Evaluation:
    """Evaluates a run's labels against the truth in their shards; raises JobFailed as `measure` does."""
    options = EvaluateOptions(labels=labels, truth=(shards,), truth_indices="categories")
    evaluation = run_evaluation(options, ModelConfig(), SegmentationOptions(), ComputeConfig(), here=True)
    if evaluation.failed:
        raise JobFailed(f"{options.output}: {counted(evaluation.failed, 'scene')} without labels or truth; see images/")
    return evaluation

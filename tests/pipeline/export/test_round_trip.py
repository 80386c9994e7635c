"""label → export → evaluate: 100 % for every format that evaluate or shard reads, both bases, 8 and 16 bits."""

from pathlib import Path

import numpy as np
import pytest
from classed_runs import classed_run, label_maps
from export_readers import exported

from scclip.encoder.config import ModelConfig
from scclip.jobs.evaluate import run_evaluation
from scclip.jobs.options.evaluate import EvaluateOptions
from scclip.jobs.options.shard import ShardOptions
from scclip.jobs.shard import find_samples
from scclip.metrics import mean_iou
from scclip.pipeline.benchmarks.sharding import write_shard
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.segmentation.types import SegmentationOptions

SOURCES = {  # what `scclip shard` takes of an export: dataset, pictures, truth
    "png-folders": ("folders", "images/train", "labels/train"),
    "coco": ("coco", "images/train", "annotations/instances_train.json"),
    "coco-panoptic": ("coco", "images/train", "annotations/panoptic_train.json"),
    "fiftyone": ("coco", "train/data", "train/labels.json"),
}


def truth_of(output: Path, kind: str, background: bool) -> Path:
    """What evaluate reads: the export itself, or shards of it as `scclip shard` writes them."""
    if kind not in SOURCES:
        return output
    dataset, pictures, truth = SOURCES[kind]
    shards = output.parent / f"{output.name}-shards"
    shards.mkdir()
    options = ShardOptions(
        dataset=dataset,
        source=str(output / pictures),
        output=str(shards),
        truth=str(output / truth),
        unlabelled="background" if background else "ignore",
    )
    samples = find_samples(options, options.source, options.output)
    assert write_shard(str(shards / "a.tar"), samples).samples == 8
    return shards


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize(
    ("classes", "background"),
    [(5, True), (300, False), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((5, False), (300, True)))],
)
@pytest.mark.parametrize("kind", ["png", "parquet", *SOURCES])
def test_an_export_is_the_truth_of_its_run(kind: str, classes: int, background: bool, base: int, folder: Path) -> None:
    run = classed_run(folder, classes, background=background)
    truth = truth_of(exported(run, kind, "--label-base", str(base)), kind, background)
    columns = {"truth_extension": "label", "image_column": "image"} if kind == "parquet" else {}
    options = EvaluateOptions(paths=(str(folder / "scores"),), labels=str(run), truth=(str(truth),), **columns)
    result = run_evaluation(options, ModelConfig(), SegmentationOptions(), ComputeConfig(), here=True)
    (matrix,) = result.matrices.values()
    planes = [plane for plane in label_maps(run).values()]
    ignored = sum(int((plane == np.iinfo(plane.dtype).max).sum()) for plane in planes)
    assert result.statuses == {"ok": 8} and mean_iou(matrix) == 1
    assert matrix.sum() == np.trace(matrix) == sum(plane.size for plane in planes) - ignored > 0
    assert bool(ignored) != background

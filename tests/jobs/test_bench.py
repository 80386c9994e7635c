"""The benchmarks run, and print one line of JSON each; how fast anything is, no test asserts."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from towers import clip

from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.errors import UserError
from scclip.jobs import bench
from scclip.jobs.benchmarking import io as bench_io
from scclip.jobs.benchmarking import scale as bench_scale
from scclip.jobs.benchmarking.model import pictures
from scclip.pipeline.annotations import rle
from scclip.reference import NaiveSegmenter
from scclip.segmentation.segmenter import WindowSegmenter
from scclip.segmentation.types import SegmenterConfig

ROOT = Path(__file__).parents[2]


def json_lines(text: str) -> list[dict]:
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert all({"bench", "date", "hardware", "versions", "options"} <= line.keys() for line in found)
    return found


def test_the_naive_implementation_gives_the_products_labels() -> None:
    """Two ways to the same labels, both in float32: 3 × 4 windows, synonyms, a residual, an area of its own size."""
    text = torch.nn.functional.normalize(torch.randn(9, 64, generator=torch.Generator().manual_seed(1)), dim=-1).numpy()
    visual, config, categories = clip().visual, SegmenterConfig(), [0, 1, 1, 2, 3, 3, 3, 4, 5]
    (image,) = pictures(1, (120, 200))
    naive = NaiveSegmenter(visual, CalibrationConfig.published(12), text, categories, config)
    labels, scores = naive.label(image)
    ours = WindowSegmenter(SelfCalibratedCLIP(visual), text, categories, config).segment([image])[0]
    assert (labels == ours.argmax).mean() >= 0.999
    assert np.abs(scores * 255 - ours.confidence).max() <= 1
    assert len(np.unique(labels)) > 1


def test_bench_model_needs_neither_ray_nor_arrow(small_model: str) -> None:
    code = "import sys; sys.modules.update({m: None for m in ('ray', 'pyarrow', 'fsspec', 'pycocotools', 'scipy')})\n"
    code += "from scclip.jobs.cli.main import main; raise SystemExit(main(sys.argv[1:]))"
    small = {"batch": 2, "sizes": "64x48", "queries": 5, "pictures": 1, "repeats": 1, "threads": 1, "dtypes": "bf16"}
    words = [word for name, value in small.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-c", code, "bench", "model", "--model", small_model, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    encode, images, naive = json_lines(done.stdout)
    assert encode["figures"]["bf16"]["ratio"]["wall"] > 0
    assert abs(sum(images["figures"][0]["shares"].values()) - 1) < 0.01 and 0 < images["figures"][0]["fill"] <= 1
    assert naive["agreement"] > 0.9


def test_bench_io_finds_equal_run_lengths(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["io", "--size", "64x48", "--classes", "5", "--pictures", "2", "--repeats", "1"]) == 0
    rle, stages = json_lines(capsys.readouterr().out)
    assert rle["equal"] and rle["one pass"]["repeats"] == 1
    assert set(stages["figures"]) >= {"read", "decode", "actor tables", "encode and write", "with masks"}


def test_run_lengths_of_every_label_equal_pycocotools() -> None:
    labels = bench_io.blobs((97, 61), 20)
    assert rle.encode_counts(labels) == bench_io.one_by_one(labels)


@pytest.mark.parametrize(
    "wrong", [["speed"], ["modle"], ["model", "--sizes", "wide"], ["scale", "--images", "0"], ["scale", "--files", "0"]]
)
def test_wrong_words_are_one_line(wrong: list[str]) -> None:
    with pytest.raises(UserError):
        bench.main(wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_bench_gpu_without_a_gpu_is_one_line() -> None:
    with pytest.raises(UserError, match="no GPU"):
        bench.main(["gpu", "--random", "--model", "ViT-B-16"])


@pytest.mark.scale
def test_bench_pipeline(local_ray: None, small_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"pipeline --model {small_model} --pictures 8 --chunk-size 2 --size 64x48 --repeats 1"
    assert bench.main(words.split()) == 0
    (line,) = json_lines(capsys.readouterr().out)
    assert line["ratio"] > 0 and len(line["images_per_s"]["ray"]) == 1


@pytest.mark.scale
def test_twenty_thousand_images_leave_three_objects_a_shard(
    local_ray: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"scale --images 20000 --shard-images 2000 --workdir {tmp_path}"
    assert bench.main(words.split()) == 0
    (line,) = json_lines(capsys.readouterr().out)
    assert line["images"] == 20000 and line["objects_per_shard"] == 3 and line["recognise_s"] > 0
    assert not list(tmp_path.iterdir())


def test_shards_hold_the_images_asked_for(tmp_path: Path) -> None:
    from scclip.pipeline.inputs.plan import count_images, plan_units

    options = bench_scale.BenchScaleOptions(images=(25,), shard_images=10)
    assert bench_scale.write_shards(tmp_path / "shards", 25, options) == 3
    assert [count_images(unit) for unit in plan_units([str(tmp_path / "shards")])] == [10, 10, 5]


def test_plain_files_are_planned_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_scale.main(["--files", "600", "9000", "--side", "16", "--workdir", str(tmp_path)]) == 0
    small, large = json_lines(capsys.readouterr().out)
    assert (small["files"], small["units"], small["read_files"]) == (600, 3, 256)
    assert large["files"] == 9_000 and large["plan_bytes_per_task"] <= 1.1 * 3 * small["plan_bytes_per_task"]
    assert not list(tmp_path.iterdir())

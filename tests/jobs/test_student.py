"""`scclip student` in miniature, end to end; in full it must reach 95 % of its teacher (`-m scale`, `make student`)."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from scclip.demo.scenes import CLASSES
from scclip.jobs.cli.main import main
from scclip.jobs.demo import evaluated
from scclip.jobs.student import read_pairs
from scclip.metrics import confusion, mean_iou


def figures(text: str) -> dict[str, float]:
    return json.loads(text.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def student_run(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("student")
    words = ["--scenes", "3", "--test", "2", "--steps", "2", "--keep", "0.5"]
    assert main(["student", "--output", str(output), *words]) == 0
    return output


def test_the_student_sees_the_exports_and_nothing_else(student_run: Path) -> None:
    """No truth lies beside the training scenes; the second export ignores the unsure half of each class."""
    with tarfile.open(student_run / "scenes" / "scenes-00000.tar") as tar:
        assert [member.name for member in tar] == ["000000.png", "000001.png", "000002.png"]
    raw, sure = (list(read_pairs(str(student_run / name), "seg.png")) for name in ("raw", "sure"))
    assert len(raw) == len(sure) == 3
    with tarfile.open(student_run / "labels" / "masks" / "0000001.tar") as tar:
        levels = [
            np.asarray(Image.open(io.BytesIO(tar.extractfile(member).read())))  # type: ignore[union-attr]
            for member in tar
            if member.name.endswith("conf.png")
        ]
    thresholds = yaml.safe_load((student_run / "labels" / "thresholds.yaml").read_text())
    for (image, labels), (same, filtered), level in zip(raw, sure, levels, strict=True):
        np.testing.assert_array_equal(image, same)
        limits = np.array([1.0, *(thresholds.get(name, 0.0) for name in CLASSES)]) * 255
        np.testing.assert_array_equal(filtered, np.where(level < limits[labels], 255, labels))
    kept = np.mean(np.concatenate([filtered.ravel() for _, filtered in sure]) != 255)
    assert 0.35 < kept < 0.7  # of three pictures; of 1,000 the share is closer to what was asked for


def test_a_png_export_measures_as_the_run_does(student_run: Path, tmp_path: Path) -> None:
    """Round trip: the run's mIoU from its RLEs, and from the exported PNGs read back."""
    run = student_run / "labels-test"
    assert main(["export", str(run), str(tmp_path / "png"), "--format", "png", "--images"]) == 0
    rows = len(CLASSES) + 1
    total = np.zeros((rows, rows + 1), np.int64)
    pairs = read_pairs(str(tmp_path / "png" / "train"), "seg.png")
    truths = read_pairs(str(student_run / "test"), "seg.png")
    for (image, labels), (same, truth) in zip(pairs, truths, strict=True):
        np.testing.assert_array_equal(image, same)
        total += confusion(truth, labels, rows)
    wanted = evaluated(str(run), str(student_run / "test")).matrices["scclip"]
    np.testing.assert_array_equal(total, wanted)
    assert mean_iou(total) == mean_iou(wanted) > 0.3


def test_figures_are_told(student_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command again finds shards, labels and exports done."""
    words = ["--scenes", "3", "--test", "2", "--steps", "1", "--keep", "0.5"]
    assert main(["student", "--output", str(student_run), *words]) == 0
    out = capsys.readouterr().out
    told = figures(out)
    assert "drawing" not in out and "nothing to do" in out
    assert told["scenes"] == 3 and 0 <= told["raw"] < 1 and 0 <= told["sure"] < 1 and told["teacher"] > 0.3


@pytest.mark.scale
def test_the_full_student_reaches_95_per_cent_of_its_teacher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """About 25 minutes on two cores, most of them labeling; each training takes less than five."""
    assert main(["student", "--output", str(tmp_path)]) == 0
    told = figures(capsys.readouterr().out)
    assert max(told["raw"], told["sure"]) >= 0.95 * told["teacher"], told

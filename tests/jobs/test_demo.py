"""The demo: shards as drawn, figures against an independent count, a second run that labels nothing."""

import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from scclip.demo.scenes import CLASSES, scene
from scclip.demo.training.pool import DEVELOPMENT_SEEDS, TEST_SEEDS, TRAINING_SEEDS
from scclip.jobs.cli.main import main
from scclip.jobs.demo import FIRST_SEED, SIZES

pytestmark = pytest.mark.usefixtures("local_ray")
IMAGES = 9  # so that the first shard holds three
FIGURE = re.compile(r"SC-CLIP (\d\.\d{3}), plain CLIP (\d\.\d{3})")


def figures(text: str) -> tuple[float, ...]:
    found = FIGURE.search(text)
    assert found is not None, text
    return tuple(float(value) for value in found.groups())


def members(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    return found


def counted_miou(labels: Path) -> float:
    """mIoU from the COCO documents and newly drawn truth, class by class as pixel sets."""
    hits, union = np.zeros(len(CLASSES)), np.zeros(len(CLASSES))
    for path in sorted((labels / "coco").glob("*.json")):
        document = json.loads(path.read_text())
        for image in document["images"]:
            place = int(image["file_name"].split(".")[0])
            _, truth = scene(FIRST_SEED + place, *SIZES[place % len(SIZES)])
            mine = [entry for entry in document["annotations"] if entry["image_id"] == image["id"]]
            masks = {entry["category_id"]: coco_mask.decode(entry["segmentation"]).astype(bool) for entry in mine}
            for index in range(len(CLASSES)):
                real, found = truth == index + 1, masks.get(index + 1, np.zeros(truth.shape, bool))
                hits[index] += (real & found).sum()
                union[index] += (real | found).sum()
    return float((hits[union > 0] / union[union > 0]).mean())


def test_demo_draws_labels_measures_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["demo", "--images", str(IMAGES), "--output", str(tmp_path)]
    assert main(command) == 0
    first = capsys.readouterr().out
    shards = members(tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("*.tar"))) == 4 and len(shards) == 3 * IMAGES
    for place in range(IMAGES):
        image, truth = scene(FIRST_SEED + place, *SIZES[place % len(SIZES)])
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(shards[f"{place:06d}.png"]))), image)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(shards[f"{place:06d}.seg.png"]))), truth)
    wanted = [counted_miou(tmp_path / folder) for folder in ("labels", "labels-clip")]
    assert figures(first) == pytest.approx(wanted, abs=0.0006)
    calibrated, plain = wanted
    assert calibrated > 0.5 and calibrated > plain + 0.1
    page = (tmp_path / "labels" / "report.html").read_text(encoding="utf-8")
    assert "Against the ground truth" in page and page.count("Ground truth: ") > 0 and str(tmp_path) in first
    assert "bundled demo model" not in page and page.count("<article") == IMAGES

    def kept() -> dict[Path, int]:
        made = ("report.html", "thresholds.yaml")  # again by every report
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.name not in made}

    before = kept()
    assert main(command) == 0
    second = capsys.readouterr().out
    assert second.count("nothing to do") == 2 and figures(second) == figures(first)
    assert kept() == before

    assert main([*command[:2], str(IMAGES + 4), *command[3:]]) == 2  # other scenes lie there
    assert "choose another --output" in capsys.readouterr().err


def test_seeds_are_the_demos_own() -> None:
    for used in (TRAINING_SEEDS, DEVELOPMENT_SEEDS, TEST_SEEDS):
        assert used.stop <= FIRST_SEED


def test_too_few_scenes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--images", "3"]) == 2
    assert "--images 3" in capsys.readouterr().err

"""The examples run as they are, each a process of its own, on the demo's scenes and model."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from PIL import Image

from scclip.jobs.demo import scene_files
from scclip.pipeline.run.files import RunFiles

EXAMPLES = Path(__file__).parents[2] / "examples"
SCENES = 14


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(SCENES):
        (folder / f"{index:03d}.png").write_bytes(scene_files(index)["png"])
    return folder


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    work = tmp_path_factory.mktemp("work")
    words = ["--vocabulary", "demo", "--model", "demo", "--epochs", "2", "--size", "64", "--batch", "4"]
    return work, run("label_and_train.py", photos, work, *words)


def run(name: str, *words: object) -> str:
    """What an example prints."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, str(EXAMPLES / name), *map(str, words)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_label_and_train(trained: tuple[Path, str], photos: Path) -> None:
    work, said = trained
    losses = [float(loss) for loss in re.findall(r"epoch \d: loss ([\d.]+), mIoU .* [\d.]+$", said, re.MULTILINE)]
    assert len(losses) == 2 and losses[1] < losses[0]
    assert (work / "student.pt").stat().st_size > 1_000_000
    assert len(list((work / "export" / "images").rglob("*.png"))) == SCENES


@pytest.mark.slow
def test_ray_data(trained: tuple[Path, str], photos: Path, tmp_path: Path) -> None:
    """The masks are those that the other example's run holds; a broken file is a row."""
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    said = run("ray_data.py", photos, tmp_path / "labeled", "--vocabulary", "demo", "--model", "demo")
    assert set(said.splitlines()) == {f"{SCENES} ok: {tmp_path / 'labeled'}", f"1 undecodable: {tmp_path / 'labeled'}"}
    rows = ds.dataset(tmp_path / "labeled").to_table().to_pylist()
    assert sorted(Path(row["path"]).name for row in rows) == sorted(path.name for path in photos.iterdir())
    segments = {}
    run_files = RunFiles(str(trained[0] / "labels"))
    keys = dict(zip(*(run_files.table("images", 1)[name].to_pylist() for name in ("image_id", "key")), strict=True))
    for row in run_files.table("segments", 1).to_pylist():
        segments.setdefault(keys[row["image_id"]], {})[row["category_id"]] = row["area"]
    for row in rows:
        if row["status"] != "ok":
            assert row["mask"] is None and row["caption"] == "" and row["error"]
            continue
        values, areas = np.unique(np.asarray(Image.open(io.BytesIO(row["mask"]))), return_counts=True)
        found = dict(zip(values.tolist(), areas.tolist(), strict=True))
        assert {value: area for value, area in found.items() if value not in (0, 255)} == segments[
            Path(row["path"]).stem
        ]
        assert re.fullmatch(r"(\w[\w ]* \d+%(, )?){1,3}", row["caption"])

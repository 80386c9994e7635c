"""`scclip export`: label maps out are label maps in; thresholds, floor, classes, filter, split, restarts, refusals."""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest
import yaml
from pictures import write_shard
from PIL import Image
from processes import outcome
from scipy import ndimage

from scclip.jobs.cli.main import main
from scclip.pipeline.annotations.rle import decode
from scclip.pipeline.export.filter import split_of

Maps = dict[str, np.ndarray]
IGNORE = 255


def export(run: Path, output: Path, *words: Any) -> int:
    return main(["export", str(run), str(output), *map(str, words)])


def planes(tars: Iterable[Path], suffix: str = "seg.png") -> Maps:
    """Label maps by key."""
    found = {}
    for path in sorted(tars):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(f".{suffix}"):
                    data = tar.extractfile(member).read()  # type: ignore[union-attr]
                    found[member.name.removesuffix(f".{suffix}")] = np.asarray(Image.open(io.BytesIO(data)))
    return found


@pytest.fixture(scope="module")
def labels(saved_run: Path) -> Maps:
    """The run's own label maps."""
    return planes((saved_run / "masks").glob("*.tar"))


@pytest.fixture(scope="module")
def confidence(saved_run: Path) -> Maps:
    return planes((saved_run / "masks").glob("*.tar"), "conf.png")


def exported(run: Path, output: Path, *words: Any, split: str = "train") -> Maps:
    assert export(run, output, "--format", "png", *words) == 0
    return planes((output / split).glob("*.tar"))


def assert_equal(found: Maps, wanted: Maps) -> None:
    assert list(found) == list(wanted)
    for key in wanted:
        np.testing.assert_array_equal(found[key], wanted[key], err_msg=key)


def test_png_is_the_run_in_the_inputs_order(saved_run: Path, labels: Maps, tmp_path: Path) -> None:
    assert len(labels) == 8
    assert_equal(exported(saved_run, tmp_path / "out"), labels)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert export(saved_run, tmp_path / "out", "--format", "png") == 0  # nothing to do
    code, heavy, _, said = outcome(["export", str(saved_run), str(tmp_path / "out"), "--format", "png"])
    assert (code, {"ray", "torch"} & {*heavy}) == (0, set()) and "nothing to do" in said
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_rethresholding_is_relabeling_but_for_pixels_at_the_threshold(
    saved_run: Path, run_inputs: Path, run_flags: list[str], confidence: Maps, tmp_path: Path
) -> None:
    """The run was labeled at 0.2; what `label` gives at 0.28 is what the export makes of the saved confidence."""
    threshold = 0.28
    flags = [*run_flags, "--masks", "png", "--confidence-threshold", str(threshold)]
    assert main(["label", str(run_inputs), str(tmp_path / "again"), *flags]) == 0
    wanted = planes((tmp_path / "again" / "masks").glob("*.tar"))
    found = exported(saved_run, tmp_path / "out", "--confidence-threshold", threshold)
    assert list(found) == list(wanted)
    lost = 0
    for key, levels in confidence.items():
        safe = np.abs(levels / 255 - threshold) > 1 / 255
        np.testing.assert_array_equal(found[key][safe], wanted[key][safe])
        lost += int((found[key] == 0).sum() - (levels < 0).sum())
    assert lost > 0 and any((levels / 255 < threshold).any() for levels in confidence.values())


def test_a_floor_makes_unsure_pixels_ignored_and_nothing_else(
    saved_run: Path, labels: Maps, confidence: Maps, tmp_path: Path
) -> None:
    floor = float(np.median(np.concatenate([levels.ravel() for levels in confidence.values()])) / 255)
    found = exported(saved_run, tmp_path / "out", "--confidence-floor", floor)
    wanted = {key: np.where(confidence[key] < floor * 255, IGNORE, labels[key]) for key in labels}
    assert_equal(found, wanted)
    assert 0.05 < np.mean([np.mean(plane == IGNORE) for plane in found.values()]) < 0.95


def test_thresholds_of_single_classes(saved_run: Path, labels: Maps, confidence: Maps, tmp_path: Path) -> None:
    """`tree` at 0.31, the others stay at the run's 0.2."""
    (tmp_path / "t.yaml").write_text("tree: 0.31\n")
    found = exported(saved_run, tmp_path / "out", "--thresholds", tmp_path / "t.yaml")
    unsure = {key: (labels[key] == 4) & (confidence[key] < 0.31 * 255) for key in labels}
    for key, levels in confidence.items():
        safe = np.abs(levels / 255 - 0.2) > 1 / 255  # of the others' threshold
        np.testing.assert_array_equal(found[key][safe], np.where(unsure[key], 0, labels[key])[safe])
    assert any(mask.any() for mask in unsure.values())


def test_classes_are_merged_renamed_and_dropped(saved_run: Path, labels: Maps, tmp_path: Path) -> None:
    """car and person become "mover" (1), road stays (2), tree is dropped to the background."""
    (tmp_path / "c.yaml").write_text("car: mover\nperson: mover\ntree: null\n")
    found = exported(saved_run, tmp_path / "out", "--classes", tmp_path / "c.yaml")
    table = np.arange(256, dtype=np.uint8)
    table[[1, 2, 3, 4]] = [1, 2, 1, 0]
    assert_equal(found, {key: table[plane] for key, plane in labels.items()})
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["categories"] == {
        "0": "background",
        "1": "mover",
        "2": "road",
    }


def test_small_segments_lose_their_class(saved_run: Path, labels: Maps, tmp_path: Path) -> None:
    """With components a thing's (car, person) components count one by one, stuff as a whole."""
    least = int(np.median([np.sum(plane == value) for plane in labels.values() for value in np.unique(plane)]))
    found = exported(saved_run, tmp_path / "out", "--min-area", least, "--components")
    for key, plane in labels.items():
        wanted = plane.copy()
        for category in (1, 3):
            numbered, count = ndimage.label(plane == category)
            for number in range(1, count + 1):
                if (numbered == number).sum() < least:
                    wanted[numbered == number] = 0
        for category in (2, 4):
            if (plane == category).sum() < least:
                wanted[plane == category] = 0
        np.testing.assert_array_equal(found[key], wanted, err_msg=key)
    assert any((found[key] != labels[key]).any() for key in labels)


def test_filter_and_split(saved_run: Path, labels: Maps, tmp_path: Path) -> None:
    rows = ds.dataset(saved_run / "images").to_table().to_pylist()
    middle = float(np.median([row["mean_confidence"] for row in rows if row["status"] == "ok"]))
    text, keep = f"mean_confidence > {middle}", [r["key"] for r in rows if (r["mean_confidence"] or 0) > middle]
    train = exported(saved_run, tmp_path / "out", "--filter", text, "--val", 0.7)
    val = planes((tmp_path / "out" / "val").glob("*.tar"))
    assert sorted([*train, *val]) == sorted(keep) and 0 < len(keep) < len(labels)
    assert all(split_of(key, 0.7) == "val" for key in val) and all(split_of(key, 0.7) == "train" for key in train)


def test_pictures_come_as_they_were(saved_run: Path, run_inputs: Path, tmp_path: Path) -> None:
    assert export(saved_run, tmp_path / "out", "--format", "png", "--images") == 0
    originals = {}
    for name in ("a.tar", "b.tar"):
        with tarfile.open(run_inputs / name) as tar:
            originals |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    seen = 0
    for path in (tmp_path / "out" / "train").glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name in originals and not member.name.endswith(".json"):
                    assert tar.extractfile(member).read() == originals[member.name]  # type: ignore[union-attr]
                    seen += 1
    assert seen == 8


def test_through_ray_the_files_are_the_same(saved_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert export(saved_run, tmp_path / "here", "--format", "coco-panoptic", "--images") == 0
    monkeypatch.setattr("scclip.jobs.export.FEW_UNITS", 0)
    assert export(saved_run, tmp_path / "ray", "--format", "coco-panoptic", "--images") == 0
    here, there = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("here", "ray")
    )
    assert here == there and len(here) > 16


def test_an_interrupted_export_goes_on(saved_run: Path, tmp_path: Path) -> None:
    """The state after a kill between two units: fragments and marker of the first are there, nothing else."""
    output, whole = tmp_path / "out", tmp_path / "whole"
    assert export(saved_run, whole, "--format", "coco") == 0
    from scclip.jobs.export import claim, fingerprint, prepare
    from scclip.jobs.options.export import ExportOptions, SelectionOptions
    from scclip.pipeline.export.chain import export_unit
    from scclip.pipeline.run.files import RunFiles
    from scclip.pipeline.run.fingerprint import read_run
    from scclip.pipeline.run.generations import read_plan

    files = RunFiles(str(saved_run))
    run, units = read_run(files), read_plan(files)
    options, selection = ExportOptions(run=str(saved_run), output=str(output)), SelectionOptions()
    job = prepare(options, selection, files, run)
    claim(job.output, fingerprint(options, selection, run, units))
    export_unit(units[0], job)
    first = (output / "_export" / "0000001.train.annotations").stat().st_mtime_ns
    assert not (output / "annotations").exists()
    assert first and export(saved_run, output, "--format", "coco") == 0
    name = "annotations/instances_train.json"
    assert (output / name).read_bytes() == (whole / name).read_bytes()
    assert not (output / "_export").exists()


def test_the_merged_document_is_the_units_documents(saved_run: Path, tmp_path: Path) -> None:
    assert export(saved_run, tmp_path, "--format", "coco") == 0
    merged = json.loads((tmp_path / "annotations/instances_train.json").read_text())
    parts = [json.loads(path.read_text()) for path in sorted((saved_run / "coco").glob("*.json"))]
    for name in ("images", "annotations"):
        assert merged[name] == [entry for part in parts for entry in part[name]]
    assert merged["categories"] == parts[0]["categories"] and merged["info"] == parts[0]["info"]


MISTAKES: dict[str, tuple[list[str], str]] = {
    "filter": (["--filter", "coverge > 0.5"], "no column 'coverge'"),
    "hostile filter": (["--filter", "__import__('os')"], "filter"),
    "class": (["--classes", "{tmp}/c.yaml"], "no class 'cars'; did you mean 'car'?"),
    "threshold": (["--thresholds", "{tmp}/t.yaml"], "'much' must lie between 0 and 1"),
    "no file": (["--classes", "{tmp}/none.yaml"], "none.yaml"),
    "format": (["--format", "voc"], "choose coco"),
    "val": (["--val", "1"], "--val 1"),
    "floor": (["--confidence-floor", "2"], "--confidence-floor 2"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line(saved_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / "c.yaml").write_text("cars: van\n")
    (tmp_path / "t.yaml").write_text("car: much\n")
    words, message = MISTAKES[name]
    assert export(saved_run, tmp_path / "out", *(word.format(tmp=tmp_path) for word in words)) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_another_export_is_not_overwritten(saved_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(saved_run, tmp_path / "out", "--format", "yolo") == 0
    assert export(saved_run, tmp_path / "out", "--format", "yolo", "--min-area", 9) == 2
    assert "min_area 0, not 9" in capsys.readouterr().err


@pytest.fixture(scope="module")
def repeated_run(local_ray: None, run_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys 000001 and 000002 in both shards, ids by key, nothing saved."""
    root = tmp_path_factory.mktemp("repeated")
    write_shard(root / "in" / "a.tar", range(3))
    write_shard(root / "in" / "b.tar", range(1, 5))
    assert main(["label", str(root / "in"), str(root / "run"), *run_flags, "--image-ids", "key"]) == 0
    return root / "run"


def test_repeated_ids_are_refused_with_their_names(
    repeated_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(repeated_run, tmp_path / "out", "--format", "coco") == 2
    err = capsys.readouterr().err
    assert "2 image ids" in err and "1 (units 1 and 2), 2 (units 1 and 2)" in err and "--image-ids plan" in err


def test_without_saved_confidence_a_floor_is_refused(
    repeated_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(repeated_run, tmp_path / "out", "--confidence-floor", "0.3") == 2
    err = capsys.readouterr().err
    assert "--save-confidence" in err and len(err.splitlines()) == 1


def test_a_changed_input_stops_an_export_with_pictures(
    saved_run: Path, run_inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = run_inputs / "a.tar"
    shard.rename(run_inputs / "a.kept")
    try:
        assert export(saved_run, tmp_path / "out", "--format", "png", "--images") == 1
        assert "a.tar is gone" in capsys.readouterr().err
        assert export(saved_run, tmp_path / "labels", "--format", "png") == 0
    finally:
        (run_inputs / "a.kept").rename(shard)


def test_pytorch_is_never_imported(saved_run: Path, tmp_path: Path) -> None:
    script = (
        "import sys, scclip.jobs.cli.main as m\n"
        f"assert m.main(['export', {str(saved_run)!r}, {str(tmp_path / 'out')!r}, '--filter', 'width > 1']) == 2\n"
        "import scclip.jobs.export, scclip.pipeline.export.chain\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('torch', 'open_clip')])"
    )
    script = script.replace("'width > 1'", "'nonsense > 1'")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done


def test_yolo_lists_every_component(saved_run: Path, labels: Maps, tmp_path: Path) -> None:
    """Lines are components; rasterised by pycocotools' exact rules they are the label map again."""
    from pycocotools import mask as coco_mask

    assert export(saved_run, tmp_path, "--format", "yolo", "--images") == 0
    config = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert config["names"] == {0: "car", 1: "road", 2: "person", 3: "tree"}
    for key, plane in labels.items():
        text = (tmp_path / "labels" / "train" / f"{key}.txt").read_text()
        found = np.zeros_like(plane)
        for line in text.splitlines():
            category, *values = line.split()
            points = np.array(values, float).reshape(-1, 2) * (plane.shape[1], plane.shape[0])
            polygon = np.rint(points).ravel().tolist()
            np.testing.assert_allclose(points.ravel(), polygon, atol=1e-3)
            found[decode(coco_mask.frPyObjects([polygon], *plane.shape)[0])] = int(category) + 1
        np.testing.assert_array_equal(found, plane, err_msg=key)
        assert list((tmp_path / "images" / "train").glob(f"{key}.*"))

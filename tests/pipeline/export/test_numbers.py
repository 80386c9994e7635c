"""What the numbers in an export mean: said beside it, the same in every format and base, refused where it differs."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import stand_in_runs
import torch
import yaml
from PIL import Image
from stand_in_runs import BRIGHT, DARK, cells, number, numbered, stand_in_run, write_tar

from scclip.encoder.config import ModelConfig
from scclip.errors import UserError
from scclip.jobs.cli.main import main
from scclip.jobs.evaluate import run_evaluation
from scclip.jobs.options.evaluate import EvaluateOptions
from scclip.jobs.options.shard import ShardOptions
from scclip.jobs.shard import find_samples
from scclip.metrics import mean_iou
from scclip.pipeline.benchmarks.sharding import write_shard
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.segmentation.types import SegmentationOptions

NAMES = [f"{index}.png" for index in range(1, 6)]
BASES = ([], ["--label-base", "0"], ["--label-base", "1"])


def run_of(folder: Path, background: bool, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...] = ()) -> Path:
    """A run over five pictures: white is BRIGHT, black is DARK, the top left quarter background where there is one."""
    labeled, manifest = stand_in_runs.brightness_labeled, stand_in_runs.MANIFEST
    vocabulary = replace(manifest.vocabulary, background=("nothing",) if background else ())
    if names:
        vocabulary = replace(vocabulary, classes=tuple(stand_in_runs.ClassRecord(name=name) for name in names))

    def with_background(image: Any) -> Any:
        result = labeled(image)
        if background:
            labels = np.frombuffer(result.labels, np.uint8).reshape(result.shape).copy()
            labels[:8, :8] = 0
            result.labels = labels.tobytes()
        return result

    with monkeypatch.context() as patch:
        patch.setattr(stand_in_runs, "brightness_labeled", with_background)
        patch.setattr(stand_in_runs, "MANIFEST", replace(manifest, vocabulary=vocabulary))
        return stand_in_run(folder, [write_tar(folder.parent / "in.tar", numbered(NAMES))])


def export(run: Path, output: Path, form: str, *words: str) -> Path:
    assert main(["export", str(run), str(output), "--format", form, "--images", *words]) == 0
    return output


def score(run: Path, truth: Path, folder: Path, **options: Any) -> float:
    """mIoU of the run against this truth; every image must have been compared."""
    chosen = EvaluateOptions(paths=(str(folder),), labels=str(run), truth=(str(truth),), **options)
    result = run_evaluation(chosen, ModelConfig(), SegmentationOptions(), ComputeConfig(), here=True)
    assert result.statuses == {"ok": len(NAMES)}, result
    (matrix,) = result.matrices.values()
    assert matrix.sum() > 0
    return mean_iou(matrix)


def label_planes(output: Path, form: str) -> dict[int, np.ndarray]:
    """The stored numbers by the number that the picture shows."""
    planes = {}
    if form == "parquet":
        rows = pq.read_table(output / "data").to_pylist()
        pairs = [(row["key"], row["label"]["bytes"]) for row in rows]
    else:
        pairs = []
        for path in output.glob("train/*.tar"):
            with tarfile.open(path) as tar:
                pairs += [(m.name, tar.extractfile(m).read()) for m in tar if m.name.endswith("seg.png")]  # type: ignore
    for key, data in pairs:
        planes[int(key.partition(".")[0])] = np.asarray(Image.open(io.BytesIO(data)))
    assert sorted(planes) == list(range(1, len(NAMES) + 1))
    return planes


@pytest.mark.parametrize("base", BASES, ids=str)
@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("form", ["png", "parquet"])
def test_maps_hold_the_numbers_that_are_said_and_evaluate_reads_them(
    form: str, background: bool, base: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(folder / "run", background, monkeypatch)
    output = export(run, folder / "out", form, *base)
    said = json.loads((output / "categories.json").read_text())
    numbers = {entry["name"]: entry["id"] for entry in said["categories"]}
    first = 0 if base == BASES[1] and not background else 1
    assert numbers == {"dark": first, "bright": first + 1} | ({"background": 0} if background else {})
    ids = {int(key): name for key, name in said["id2label"].items()}
    assert list(ids) == list(range(max(numbers.values()) + 1))
    assert all(ids[value] == name for name, value in numbers.items())
    for value, plane in label_planes(output, form).items():
        wanted = np.where(cells(value), numbers["bright"], numbers["dark"])
        if background:
            wanted[:8, :8] = numbers["background"]
        np.testing.assert_array_equal(plane, wanted)
        logits = torch.zeros(1, len(ids), *plane.shape)  # as SegFormer's loss has them: num_labels = len(id2label)
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(plane.astype(np.int64))[None], ignore_index=255)
    column = {"truth_extension": "label", "image_column": "image"} if form == "parquet" else {}
    for place in (output, output / ("data" if form == "parquet" else "train")):
        assert score(run, place, folder / f"scores-{place.name}", **column) == 1


@pytest.mark.parametrize("base", BASES, ids=str)
@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("form", ["coco", "coco-panoptic"])
def test_documents_keep_their_meaning_through_shards(
    form: str, background: bool, base: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(folder / "run", background, monkeypatch)
    output = export(run, folder / "out", form, *base)
    (document,) = (output / "annotations").glob("*_train.json")
    content = json.loads(document.read_text())
    first = 0 if base == BASES[1] else 1
    assert {entry["id"]: entry["name"] for entry in content["categories"]} == {first: "dark", first + 1: "bright"}
    said = json.loads((output / "categories.json").read_text())["categories"]
    assert {entry["id"]: entry["name"] for entry in said} == {first: "dark", first + 1: "bright"}
    options = ShardOptions(
        dataset="coco",
        source=str(output / "images" / "train"),
        output=str(folder / "shards"),
        truth=str(document),
        unlabelled="background" if background else "ignore",
    )
    (folder / "shards").mkdir()
    samples = find_samples(options, options.source, options.output)
    assert write_shard(str(folder / "shards" / "a.tar"), samples).samples == len(NAMES)
    assert score(run, folder / "shards", folder / "scores") == 1


def test_yolo_counts_from_0_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(folder / "run", True, monkeypatch)
    output = export(run, folder / "out", "yolo", "--label-base", "0")
    said = json.loads((output / "categories.json").read_text())
    names = yaml.safe_load((output / "data.yaml").read_text())["names"]
    assert names == {0: "dark", 1: "bright"} == {entry["id"]: entry["name"] for entry in said["categories"]}
    assert json.loads((output / "summary.json").read_text())["categories"] == {"0": "dark", "1": "bright"}
    for path in (output / "labels" / "train").glob("*.txt"):
        used = {int(line.split()[0]) for line in path.read_text().splitlines()}
        assert used <= names.keys()
    assert main(["export", str(run), str(folder / "other"), "--format", "yolo", "--label-base", "1"]) == 2


def test_what_is_merged_or_another_vocabulary_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Classes of other names, in another order, or one more: each in one line with both names; numbers on demand."""
    run = run_of(folder / "run", False, monkeypatch)
    other = run_of(folder / "other" / "run", False, monkeypatch, ("bright", "dark"))
    more = run_of(folder / "more" / "run", False, monkeypatch, ("dark", "bright", "grey"))
    renamed = folder / "classes.yaml"
    renamed.write_text("dark: gloomy\n")
    wrong = {
        "renamed": export(run, folder / "a", "png", "--classes", str(renamed)),
        "swapped": export(other, folder / "b", "png"),
        "one more": export(more, folder / "c", "png", "--label-base", "0"),
    }
    for name, truth in wrong.items():
        capsys.readouterr()
        command = ["evaluate", "--labels", str(run), "--truth", str(truth), "--", str(folder / f"scores {name}")]
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "--truth-indices" in error and str(truth) in error, error
    with pytest.raises(UserError, match="number their classes differently"):
        options = EvaluateOptions(
            paths=(str(folder / "s"),), labels=str(run), truth=(str(wrong["renamed"]), str(wrong["one more"]))
        )
        run_evaluation(options, ModelConfig(), SegmentationOptions(), ComputeConfig(), here=True)
    assert score(run, wrong["renamed"], folder / "numbers", truth_indices="categories") == 1
    assert score(run, wrong["swapped"], folder / "swapped", truth_indices="categories") == 1


def test_the_file_itself_says_it_where_parquet_was_moved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(folder / "run", False, monkeypatch)
    output = export(run, folder / "out", "parquet", "--label-base", "0")
    (source,) = (output / "data").glob("*.parquet")
    moved = folder / "elsewhere" / "part.parquet"
    moved.parent.mkdir()
    moved.write_bytes(source.read_bytes())
    assert score(run, moved, folder / "scores", truth_extension="label", image_column="image") == 1
    run2 = run_of(folder / "two" / "run", False, monkeypatch, ("dark", "light"))
    with pytest.raises(UserError, match="1 is 'bright'"):
        score(run2, moved, folder / "scores2", truth_extension="label", image_column="image")


@pytest.mark.parametrize(
    ("content", "refused"),
    [("{}", False), ('[{"id": 1}]', False), ('{"format": "scclip-categories"}', True), ("{", True)],
)
def test_other_files_of_that_name(content: str, refused: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of another program says nothing; one that is broken is named."""
    run = run_of(folder / "run", False, monkeypatch)
    output = export(run, folder / "out", "png")
    (output / "categories.json").write_text(content)
    if refused:
        with pytest.raises(UserError, match=r"categories\.json is broken"):
            score(run, output, folder / "scores")
    else:
        assert score(run, output, folder / "scores", truth_indices="categories") == 1


def test_the_sample_lists_the_numbers_of_its_label(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where classes are merged: NAME.json told of the run's categories."""
    run = run_of(folder / "run", False, monkeypatch)
    (folder / "c.yaml").write_text("dark: null\n")
    output = export(run, folder / "out", "png", "--classes", str(folder / "c.yaml"), "--label-base", "0")
    with tarfile.open(next((output / "train").glob("*.tar"))) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    for name in NAMES:
        key = name.partition(".")[0]
        plane = np.asarray(Image.open(io.BytesIO(files[f"{key}.seg.png"])))
        assert number(plane == 0) == int(key) and set(np.unique(plane)) == {0, 255}
        assert json.loads(files[f"{key}.json"])["categories"] == [0]


def test_compare_names_the_run_where_an_export_is_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(folder / "run", False, monkeypatch)
    output = export(run, folder / "out", "png")
    assert main(["compare", str(run), str(output)]) == 2
    assert "is an export; give the run" in capsys.readouterr().err


def test_categories_of_the_stand_in_are_those_tested() -> None:
    assert (DARK, BRIGHT) == (1, 2)

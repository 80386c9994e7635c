"""A repeated command is recognised by its words alone, and every word that changes labels counts."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pictures import write_shards
from processes import contents, outcome, quick_flags

from scclip.encoder.config import ModelConfig
from scclip.jobs.cli.main import main
from scclip.jobs.cli.options import option_fields
from scclip.jobs.options.label import LabelOptions
from scclip.jobs.setup.finished import asked_for
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.pipeline.labeling.models import load_vocabulary
from scclip.segmentation.types import SegmentationOptions

GROUPS = (LabelOptions, ModelConfig, SegmentationOptions, ComputeConfig)
FREE = {"inputs", "output", "vocabulary", "report", "max_failed", "dry_run", "retry_failed", "address"}
FREE |= {"actors", "wait_for_resources"}  # whose change leaves labels, ids and chunks as they are, or shows otherwise


def digest(**changes: Any) -> str | None:
    """`asked_for` of the defaults with these options."""
    values = {"inputs": ("in",), "output": "out", **changes}
    groups = [
        group(**{f.name: values[f.name] for f in dataclasses.fields(group) if f.name in values}) for group in GROUPS
    ]
    label, model, segmentation, compute = groups
    return asked_for(label, model, segmentation, compute, load_vocabulary(label.vocabulary))


def another(field: dataclasses.Field[Any], kind: Any, many: bool, choices: Sequence[str], folder: Path) -> Any:
    """A valid value that is not the default."""
    if choices:
        value: Any = next(choice for choice in choices if choice != field.default)
    elif field.name == "calibration":
        value = str(folder / "c.yaml")
        Path(value).write_text("beta: 0.5\n")
    else:
        value = {bool: True, int: 7, float: 0.5, str: "x"}[kind]
    return (value,) if many else value


def test_every_option_that_changes_labels_counts_and_no_other(tmp_path: Path) -> None:
    usual, seen = digest(), 0
    for group in GROUPS:
        for field, *facts in option_fields(group):
            if field.name in FREE or field.name == "pretrained":
                continue
            base = {"model": "ViT-B-16"} if field.name == "model" else {}
            changed = {field.name: another(field, *facts, tmp_path), **base}
            assert digest(**changed) not in (usual, None), field.name
            seen += 1
    assert seen > 15
    assert digest(max_failed=0.5, actors="2", report=True, output="elsewhere", inputs=("a", "b")) == usual


def test_what_files_hold_counts(tmp_path: Path) -> None:
    words, weights, own = tmp_path / "v.txt", tmp_path / "w.pt", tmp_path / "c.yaml"
    model = tmp_path / "model"
    model.mkdir()
    for path, text in ((words, "car"), (weights, "a"), (own, "beta: 0.4"), (model / "m.safetensors", "a")):
        path.write_text(text)
    options = [
        (words, {"vocabulary": str(words)}),
        (weights, {"model": "ViT-B-16", "pretrained": str(weights)}),
        (own, {"calibration": str(own)}),
        (model / "m.safetensors", {"model": f"local-dir:{model}"}),
    ]
    for path, changes in options:
        before = digest(**changes)
        assert before == digest(**changes) is not None
        path.write_text(path.read_text() + "1")
        assert digest(**changes) not in (before, None), path
    assert digest(model="ViT-B-16", pretrained="openai") != digest(model="ViT-B-16", pretrained="laion2b_s34b_b88k")


def test_what_only_the_hub_or_nobody_knows_is_never_recognised(tmp_path: Path) -> None:
    assert digest(model="hf-hub:timm/some") is None
    assert digest(calibration=str(tmp_path / "gone.yaml")) is None


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("finished") / "in", 3, 2)


@pytest.fixture(scope="module")
def words(shards: Path, small_model: str, vocabulary_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    output = tmp_path_factory.mktemp("finished") / "out"
    return ["label", str(shards), str(output), *quick_flags(small_model, vocabulary_file)]


def test_a_finished_run_is_recognised_without_a_model_or_ray(words: list[str], local_ray: None) -> None:
    output = Path(words[2])
    assert main(words) == 0
    before, shown = contents(output), (output / "summary.json").read_bytes()
    code, heavy, _, said = outcome(words)
    assert (code, heavy) == (0, []) and "nothing to do" in said
    assert contents(output) == before and (output / "summary.json").read_bytes() == shown

    (output / "asked.json").unlink()  # as in a run of an earlier version: found out the long way, then known
    assert "torch" in outcome(words)[1]
    assert outcome(words)[:2] == (0, [])


def test_any_difference_is_found_out_the_long_way(
    words: list[str], local_ray: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    shutil.copytree(words[2], output)
    own = [*words[:2], str(output), *words[3:]]
    assert outcome(own)[:2] == (0, [])  # a copy of a run is that run
    assert main([*own, "--exif", "ignore"]) == 2 and "exif" in capsys.readouterr().err
    assert main([*own, "--window-batch", "2"]) == 2 and "window_batch" in capsys.readouterr().err

    gone = output / "images" / "0000002.parquet"
    gone.unlink()
    assert main(own) == 0 and gone.exists() and "nothing to do" not in capsys.readouterr().out
    assert contents(output) == contents(Path(words[2]))

    document = json.loads((output / "run.json").read_text())
    document["model"]["weights_sha256"] = "0" * 64  # another run in its place
    (output / "run.json").write_text(json.dumps(document))
    assert main(own) == 2 and "weights_sha256" in capsys.readouterr().err

"""`scclip compare`: a run with itself is all ones and zeros; of two vocabularies the classes that moved are named."""

import json
from pathlib import Path

import numpy as np
import pytest
from classed_runs import classed_run, label_maps

from scclip.jobs.cli.main import main


@pytest.fixture(scope="module")
def other_run(
    local_ray: None, run_inputs: Path, run_flags: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same images with `road` left out, `lamp` put in, and the classes in another order."""
    root = tmp_path_factory.mktemp("other")
    words = root / "words.yaml"
    words.write_text(
        "name: other\nbackground: [sky, wall]\nclasses: [tree, lamp, person, {name: car, synonyms: [car, sedan]}]\n"
        "templates: ['a photo of a {}.']\nlogit_scale: 40\n"
    )
    flags = ["--vocabulary", str(words), "--masks", "png", "--confidence-threshold", "0.2"]
    assert main(["label", str(run_inputs), str(root / "run"), *run_flags, *flags]) == 0
    return root / "run"


def compared(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    assert main(["compare", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_with_itself_is_ones_and_zeros(
    saved_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compared(capsys, str(saved_run), str(saved_run), "--output", str(tmp_path / "page.html"))
    assert found["compared"] == found["equal"] == 8 and found["missing"] == 0 and found["changed"] == 0
    assert found["moved"] == found["images"] == found["only_a"] == found["only_b"] == []
    assert all(row["iou"] == 1 and row["area"][0] == row["area"][1] for row in found["classes"])
    assert "None to show" in (tmp_path / "page.html").read_text()


def test_two_vocabularies_name_what_moved(
    saved_run: Path, other_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every figure against a loop over the runs' PNGs."""
    page = tmp_path / "page.html"
    found = compared(capsys, str(saved_run), str(other_run), "--output", str(page))
    assert found["only_a"] == ["road"] and found["only_b"] == ["lamp"]
    names = (["background", "car", "road", "person", "tree"], ["background", "tree", "lamp", "person", "car"])
    before, after = label_maps(saved_run), label_maps(other_run)
    one = np.concatenate([np.array(names[0])[before[key]].ravel() for key in before])
    two = np.concatenate([np.array(names[1])[after[key]].ravel() for key in before])
    for row in found["classes"]:
        mine, theirs = one == row["name"], two == row["name"]
        assert row["iou"] == pytest.approx((mine & theirs).sum() / (mine | theirs).sum())
        assert row["area"] == pytest.approx([mine.mean(), theirs.mean()])
    assert {row["name"] for row in found["classes"]} == set(one) | set(two)
    assert found["changed"] == pytest.approx(np.mean(one != two)) and found["changed"] > 0
    for flow in found["moved"]:
        assert flow["pixels"] == np.sum((one == flow["from"]) & (two == flow["to"]))
    changed = {
        key.removesuffix(".seg.png"): np.mean(np.array(names[0])[before[key]] != np.array(names[1])[after[key]])
        for key in before
    }
    assert {image["key"]: pytest.approx(image["changed"]) for image in found["images"]} == {
        key: share for key, share in changed.items() if share
    }
    text = page.read_text()
    assert "Only in A: road" in text and text.count("<article") == len(found["images"]) and "lamp" in text


@pytest.mark.parametrize("background", [False, True])
def test_ignored_pixels_are_no_class(tmp_path: Path, capsys: pytest.CaptureFixture[str], background: bool) -> None:
    """Five classes and their shares, counted in the runs' PNGs; 255 is said apart."""
    a, b = (classed_run(tmp_path, 5, shift=shift, background=background) for shift in (0, 2))
    page = tmp_path / "page.html"
    found = compared(capsys, str(a), str(b), "--output", str(page))
    one, two = (np.concatenate([plane.ravel() for plane in label_maps(run).values()]) for run in (a, b))
    assert len(found["classes"]) == 5 + background and "ignored" not in {row["name"] for row in found["classes"]}
    assert found["ignored"] == pytest.approx([np.mean(one == 255), np.mean(two == 255)])
    assert f"of {5 + background} classes" in page.read_text()
    assert ("Ignored, in no class" in page.read_text()) is not background
    assert main(["compare", str(a), str(b), "--output", "none"]) == 0
    assert ("  ignored: " in capsys.readouterr().out) is not background


def test_runs_over_other_input_are_refused(saved_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(saved_run), str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err

"""`scclip bench fidelity` accepts the arrays of an equal implementation and says where others differ."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import ARRAYS, META
from towers import write_local_dir

from scclip.errors import UserError
from scclip.jobs.benchmarking import fidelity

Arrays = dict[str, np.ndarray]
DRAWN = {"seed": META["seed"], "arch": {"small16": META["arch"]["small16"]}}
PLAIN = {"cases": {"plain": META["cases"]["plain"]}}
CASE_ARRAYS = ("text", "slide.pixels", "plain.labels", "plain.logits_sub")


def write(folder: Path, meta: dict[str, Any], arrays: Arrays) -> list[str]:
    """The arguments that compare with these arrays."""
    (folder / "a.json").write_text(json.dumps(meta))
    np.savez(folder / "a.npz", **arrays)  # type: ignore[arg-type]
    return ["--reference", str(folder)]


@pytest.mark.parametrize(("shift", "code"), [(0.0, 0), (0.01, 1)])
def test_features_of_the_official_code(
    shift: float, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = ARRAYS["small16.features"] + shift * np.abs(ARRAYS["small16.features"]).mean()
    arrays = {"small16.pixels": ARRAYS["small16.pixels"], "small16.features": features}
    assert fidelity.main(write(tmp_path, DRAWN, arrays)) == code
    assert ("OUTSIDE" in capsys.readouterr().out) == bool(code)


@pytest.mark.parametrize("wrong", ["", "text", "plain.labels", "plain.logits_sub"])
def test_a_case_with_weights_from_a_file(wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The form that docs/fidelity.md gives to people with weights of their own."""
    arrays = {name: ARRAYS[name].copy() for name in CASE_ARRAYS}
    arrays |= {f"model.{kind}": ARRAYS[f"small16.{kind}"] for kind in ("pixels", "features")}
    if wrong:
        arrays[wrong][:3] = arrays[wrong][2::-1] if wrong == "text" else arrays[wrong][:3] + 1
    model = f"local-dir:{write_local_dir(tmp_path / 'model')}"
    assert fidelity.main([*write(tmp_path, PLAIN, arrays), "--model", model]) == bool(wrong)
    outside = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.endswith("OUTSIDE")]
    assert outside == {"": [], "text": ["logits", "labels"]}.get(wrong, [wrong[6:].removesuffix("_sub")])


def test_one_pass_over_a_picture_that_is_no_square(tmp_path: Path) -> None:
    """Square labels are of the square at the left, others of the whole picture."""
    meta = DRAWN | {"cases": {"whole": META["cases"]["whole"]}}
    names = ("text", "slide.pixels", "whole.labels", "whole.logits_sub", "small16.pixels", "small16.features")
    arrays = {name: ARRAYS[name] for name in names}
    assert fidelity.main(write(tmp_path, meta, arrays)) == 0
    arrays["whole.labels"] = np.zeros((375, 500), np.int16)
    with pytest.raises(UserError, match=r"'whole.logits_sub' is \(12, 15, 15\), not \(12, 15, 20\)"):
        fidelity.main(write(tmp_path, meta, arrays))


WRONG: dict[str, tuple[Callable[[dict[str, Any], Arrays], object], str]] = {
    "no array": (lambda m, a: a.pop("text"), "no array 'text'"),
    "width": (lambda m, a: a.update(text=a["text"][:, :9]), r"array 'text' is \(40, 9\), not \(any, 64\)"),
    "norm": (lambda m, a: a.update(text=a["text"] * 2), "not of unit norm; divide each row"),
    "batch": (lambda m, a: a.update({"slide.pixels": a["slide.pixels"][0]}), r"not \(1, 3, any, any\)"),
    "labels": (lambda m, a: a.update({"plain.labels": a["plain.labels"][None]}), r"'plain.labels' .* not \(any, any\)"),
    "logits": (lambda m, a: a.update({"plain.logits_sub": a["plain.logits_sub"][1:]}), r"not \(12, 15, 20\)"),
    "queries": (lambda m, a: m["cases"]["plain"].update(query_class=[1] * 60), "40 text features for 60 queries"),
    "no query": (lambda m, a: m["cases"]["plain"].pop("query_class"), "'query_class' is missing"),
    "key": (lambda m, a: m["cases"]["plain"].update(prob_thr=0.3), "unknown key 'prob_thr'.*did you mean prob_thd"),
    "value": (lambda m, a: m["cases"]["plain"].update(slide_crop=-1), "window -1 must not be negative"),
    "tower": (lambda m, a: m["cases"]["plain"].update(tower="big"), "'big' is missing"),
    "seed": (lambda m, a: m.pop("seed"), "'seed' is missing"),
    "cases": (lambda m, a: m.update(cases=[1]), "no attribute"),
    "heads": (lambda m, a: m["arch"]["small16"].update(heads=5), "num_heads"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_reference_is_one_line(name: str, tmp_path: Path) -> None:
    change, words = WRONG[name]
    meta = deepcopy(DRAWN | PLAIN)
    arrays = {name: ARRAYS[name] for name in (*CASE_ARRAYS, "small16.pixels", "small16.features")}
    change(meta, arrays)
    with pytest.raises(UserError, match=words) as refused:
        fidelity.main(write(tmp_path, meta, arrays))
    message = str(refused.value)
    assert message.startswith(f"--reference {tmp_path}") and "\n" not in message and ";" in message


def test_a_folder_without_arrays_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fidelity\.md"):
        fidelity.main(["--reference", str(tmp_path)])

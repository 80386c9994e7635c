"""`scclip label` on what people really bring: one file never ends a job, what is left out is said, names are one."""

import html
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from mixed_tree import MixedTree, write_mixed_tree
from odd_inputs import good_picture, link, write_bytes
from odd_tables import image_columns, write_parquet
from processes import QUICK, contents, rows, run, said

from scclip.jobs.cli.main import main

PLACE = ("image_id", "unit", "index", "seconds", "file_name", "metadata")  # differ by where an image stands
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def flags(small_model: str, vocabulary_file: Path) -> list[str]:
    return ["--model", small_model, "--vocabulary", str(vocabulary_file), *QUICK]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> MixedTree:
    return write_mixed_tree(tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="module")
def mixed_flags(flags: list[str]) -> list[str]:
    return [*flags, "--masks", "png", "--max-failed", "0.3"]


@pytest.fixture(scope="module")
def mixed(tree: MixedTree, mixed_flags: list[str]) -> tuple[Path, str, str]:
    """(output, stdout, stderr) of the command over the whole tree, where the locale knows no é."""
    output = tree.folder / "out"
    code, out, err = run(["label", *tree.inputs, output, *mixed_flags], C_LOCALE)
    assert code == 0, err
    return output, out, err


def labels(output: Path) -> dict[str, Any]:
    """Key → (row, segments, label map) of every labeled image, without where it stands."""
    segments: dict[int, list[Any]] = {}
    for path in sorted((output / "segments").glob("*")):
        for row in pq.read_table(path).to_pylist():
            segments.setdefault(row.pop("image_id"), []).append(row)
    planes = list[bytes]()
    for path in sorted((output / "masks").glob("*")):
        with tarfile.open(path) as tar:
            planes += [tar.extractfile(member).read() for member in tar]  # type: ignore[union-attr]
    labeled = [row for row in rows(output) if row["status"] == "ok"]
    found = {
        row["key"]: ({name: row[name] for name in row if name not in PLACE}, segments.get(row["image_id"]), plane)
        for row, plane in zip(labeled, planes, strict=True)
    }
    assert len(found) == len(labeled)
    return found


def test_every_file_costs_at_most_its_own_row(tree: MixedTree, mixed: tuple[Path, str, str]) -> None:
    found = {row["key"]: row for row in rows(mixed[0])}
    assert {key: row["status"] for key, row in found.items()} == dict.fromkeys(tree.good, "ok") | tree.bad
    assert all(bool(found[key]["error"]) for key in tree.bad)
    summary = json.loads((mixed[0] / "summary.json").read_text())
    assert (summary["images_labeled"], summary["images_failed"]) == (len(tree.good), len(tree.bad))
    assert summary["images_read"] == len(rows(mixed[0])) == len(found)


def test_what_is_passed_over_is_counted_and_said(tree: MixedTree, mixed: tuple[Path, str, str]) -> None:
    output, _, err = mixed
    passed = json.loads((output / "summary.json").read_text())["passed_over"]
    assert {kind: entry["count"] for kind, entry in passed.items()} == tree.passed_over
    assert all(entry["example"] for entry in passed.values())
    (line,) = said(err)
    assert f"{sum(tree.passed_over.values())} files passed over: 6 in a run's folder (" in line
    assert main(["report", str(output)]) == 0
    page = (output / "report.html").read_text()
    for kind, count in tree.passed_over.items():
        assert f"{count} {html.escape(kind, quote=False)} (" in page.replace("&#39;", "'"), kind


def test_good_images_are_labeled_as_if_they_were_alone(
    tree: MixedTree, mixed: tuple[Path, str, str], mixed_flags: list[str], local_ray: None
) -> None:
    alone = write_parquet(tree.folder / "alone.parquet", {"id": list(tree.good), "image": list(tree.good.values())})
    assert main(["label", str(alone), str(tree.folder / "alone"), *mixed_flags]) == 0
    assert labels(mixed[0]) == labels(tree.folder / "alone")


def test_the_same_command_by_another_spelling_has_nothing_to_do(
    tree: MixedTree, mixed: tuple[Path, str, str], mixed_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another folder, through links, in another locale."""
    before = contents(mixed[0])
    link(tree.folder / "home", ".")
    monkeypatch.chdir(tree.folder / "elsewhere")
    inputs = ["../in//", "../home/coco/../coco/./val.json", f"file://{tree.folder}/home/list.txt"]
    others = ["../in/self/hub", *reversed(tree.inputs)]
    for words, locale in (([*inputs, "../home/in/..//out"], {}), ([*others, mixed[0]], C_LOCALE)):
        code, out, err = run(["label", *words, *mixed_flags], locale)
        assert (code, "nothing to do" in out) == (0, True), err
    assert contents(mixed[0]) == before


@pytest.mark.usefixtures("local_ray")
def test_runs_in_the_folder_of_the_pictures_are_no_input(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bytes(tmp_path / "photos/x.png", good_picture(1))
    write_bytes(tmp_path / "photos/sub/y.png", good_picture(2))
    monkeypatch.chdir(tmp_path)
    for output in ("photos/a", "photos/b"):
        assert main(["label", "photos", output, *flags, "--masks", "png"]) == 0
    assert contents(tmp_path / "photos/a") == contents(tmp_path / "photos/b")
    assert "in a run's folder" in json.loads((tmp_path / "photos/b/summary.json").read_text())["passed_over"]
    assert main(["export", "photos/a", "photos/train", "--format", "coco", "--images"]) == 0
    capsys.readouterr()
    for words in (["../photos", "labels"], ["photos/../photos//", "photos/sub/../b"]):
        monkeypatch.chdir(tmp_path / ("photos" if words[1] == "labels" else ""))
        assert main(["label", *words, *flags, "--masks", "png"]) == 0
        assert "2 images read" in capsys.readouterr().out or words[1] != "labels"
        assert main(["label", *words, *flags, "--masks", "png"]) == 0
        assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("output", ["photos", "photos/", "photos/../photos", ".", "linked"])
def test_an_output_that_is_or_holds_the_input_is_named(
    output: str, flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bytes(tmp_path / "photos/a.png", good_picture(1))
    link(tmp_path / "linked", "photos")
    monkeypatch.chdir(tmp_path)
    assert main(["label", "photos", output, *flags]) == 2
    (line,) = said(capsys.readouterr().err)
    assert "photos lies in OUTPUT" in line and "a new folder in it" in line
    assert os.listdir("photos") == ["a.png"]


@pytest.mark.usefixtures("local_ray")
def test_a_named_image_column_from_the_command_to_the_resumed_run(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, folder, output = [good_picture(seed) for seed in range(1, 4)], tmp_path / "in", tmp_path / "out"
    for name, kind in {"a": "dictionary", "b": "struct of view"}.items():
        columns = {"id": [f"{name}{row}" for row in range(3)], "Photo": image_columns(images)[kind]}
        write_parquet(folder / f"{name}.parquet", columns | {"image": [good_picture(9)] * 3})
    write_parquet(folder / "c.parquet", {"url": ["x"]})
    words = ["label", str(folder), str(output), *flags]
    named = [*words, "--image-column", "Photo"]
    assert main(named) == 0
    before, run_file = contents(output), json.loads((output / "run.json").read_text())
    assert run_file["options"]["image_column"] == "Photo" and len(rows(output)) == 6
    passed = json.loads((output / "summary.json").read_text())["passed_over"]
    assert {kind: entry["count"] for kind, entry in passed.items()} == {"Parquet without an image column": 1}
    by_key = {row["key"]: row["mean_confidence"] for row in rows(output)}
    assert [by_key[f"a{row}"] for row in range(3)] == [by_key[f"b{row}"] for row in range(3)]
    assert len(set(by_key.values())) == 3
    (output / "images/0000002.parquet").unlink()
    assert main(named) == 0 and contents(output) == before
    capsys.readouterr()
    assert main(named) == 0 and "nothing to do" in capsys.readouterr().out
    for other in (words, [*words, "--image-column", "image"]):
        assert main(other) == 2
        (line,) = said(capsys.readouterr().err)
        assert "image_column" in line and "Photo" in line
    assert main([*words[:2], str(tmp_path / "new"), *flags, "--image-column", "nothing"]) == 2
    (line,) = said(capsys.readouterr().err)
    assert "no column 'nothing' for --image-column" in line and "Photo" in line

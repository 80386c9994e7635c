"""Bad and odd inputs mixed into good shards: one row each, with a reason; the good ones as if they were alone."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus import good_pictures, write_corpus
from pictures import tar_bytes, write_shard
from processes import QUICK, rows

from scclip.jobs.cli.main import main
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.generations import read_plan

pytestmark = pytest.mark.usefixtures("local_ray")
PLACE = ("image_id", "unit", "index", "seconds", "file_name", "metadata")  # differ by where an image stands
Corpus = tuple[Path, dict[str, dict[str, tuple[str, str]]], Path]


@pytest.fixture(scope="module")
def flags(small_model: str, vocabulary_file: Path) -> list[str]:
    return ["--model", small_model, "--vocabulary", str(vocabulary_file), *QUICK]


@pytest.fixture(scope="module")
def corpus(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """(folder, expectations, output) of a run that --max-failed allows."""
    root = tmp_path_factory.mktemp("corpus")
    expected = write_corpus(root / "in")
    assert main(["label", str(root / "in"), str(root / "out"), *flags, "--max-failed", "0.7"]) == 0
    return root / "in", expected, root / "out"


def by_shard(output: Path) -> dict[str, list[dict[str, Any]]]:
    units = {unit.number: unit.url.rpartition("/")[2] for unit in read_plan(RunFiles(str(output)))}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in units.values()}
    for row in rows(output):
        found[units[row["unit"]]].append(row)
    return found


def test_every_bad_input_is_a_row_that_says_why(corpus: Corpus) -> None:
    _, expected, output = corpus
    found = by_shard(output)
    assert found.keys() == expected.keys()
    assert sum(len(shard) or 1 for shard in expected.values()) >= 60
    for name, shard in expected.items():
        assert len(found[name]) == len(shard), (name, found[name])
        for row, key in zip(found[name], sorted(shard, key=lambda key: place(found[name], key)), strict=True):
            status, reason = shard[key]
            assert row["key"] == key.partition("#")[0], (name, key)
            assert row["status"] == status, (name, row)
            assert (row["error"] is None) == (status == "ok"), (name, row)
            assert reason.lower() in (row["error"] or "").lower(), (name, row)
            assert "\n" not in (row["error"] or "")
    assert not Path("/tmp/scclip-pickle-was-executed").exists()


def place(shard: list[dict[str, Any]], key: str) -> int:
    """Where a key stands among the rows; `key#2` is its second row."""
    name, _, number = key.partition("#")
    places = [row["index"] for row in shard if row["key"] == name]
    assert places, (key, shard)
    return int(places[int(number or 1) - 1])


def test_good_images_are_labeled_as_if_the_bad_ones_were_not_there(
    corpus: Corpus, flags: list[str], tmp_path: Path
) -> None:
    (tmp_path / "good.tar").write_bytes(tar_bytes(good_pictures()))
    assert main(["label", str(tmp_path / "good.tar"), str(tmp_path / "out"), *flags]) == 0
    alone, mixed = labels(tmp_path / "out"), labels(corpus[2])
    assert {key for key, _ in mixed} == {key for key, _ in alone} and len(mixed) > len(alone)
    for key, label in mixed:
        assert (key, label) in alone, key


def labels(output: Path) -> list[tuple[str, Any]]:
    """(key, what was found in it) of every labeled image, without where it stands."""
    segments: dict[int, list[Any]] = {}
    for path in sorted((output / "segments").glob("*")):
        for row in pq.read_table(path).to_pylist():
            segments.setdefault(row.pop("image_id"), []).append(row)
    return [
        (row["key"], ({k: v for k, v in row.items() if k not in PLACE}, segments.get(row["image_id"])))
        for row in rows(output)
        if row["status"] == "ok"
    ]


def test_counts_add_up_and_a_tighter_limit_is_exit_code_one(
    corpus: Corpus, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, expected, output = corpus
    summary = json.loads((output / "summary.json").read_text())
    statuses = [status for shard in expected.values() for status, _ in shard.values()]
    assert summary["images_read"] == len(statuses) == summary["images_labeled"] + summary["images_failed"]
    assert summary["images_labeled"] == statuses.count("ok")
    assert main(["verify", str(output)]) == 0
    capsys.readouterr()
    assert main(["label", str(folder), str(output), *flags, "--max-failed", "0.1"]) == 1
    err = capsys.readouterr().err
    assert "--max-failed 0.1" in err and "bad_shard" in err and len(err.splitlines()) == 1
    outside = {path for path in output.parent.rglob("*") if path.is_file()}
    assert all(path.is_relative_to(output) or path.is_relative_to(folder) for path in outside)


def test_shards_that_change_or_vanish_after_planning(flags: list[str], tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    for number in range(3):
        write_shard(folder / f"{number}.tar", range(2 * number, 2 * number + 2))
    words = ["label", str(folder), str(output), *flags, "--max-failed", "1"]
    assert main(words) == 0
    before = rows(output)
    for unit in (2, 3):
        (output / "images" / f"000000{unit}.parquet").unlink()
    write_shard(folder / "1.tar", range(10, 15))
    (folder / "2.tar").unlink()
    assert main(words) == 0
    found = rows(output)
    assert found[:2] == before[:2] and [row["status"] for row in found[2:]] == ["changed", "missing"]
    assert "has changed: planned with" in found[2]["error"] and "is gone" in found[3]["error"]


def test_a_parquet_without_images_is_the_users_mistake(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, table in {
        "no-column": pa.table({"text": ["a"]}),
        "wrong-type": pa.table({"image": [1, 2]}),
    }.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
        assert main(["label", str(tmp_path / f"{name}.parquet"), str(tmp_path / "out"), *flags]) == 2
        err = capsys.readouterr().err
        assert "no image column" in err and name in err and len(err.splitlines()) == 1

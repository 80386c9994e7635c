"""`scclip verify`: a sound run passes; every kind of damage is found and named; leftovers are told."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as coco_mask

from scclip.jobs.cli.main import main
from scclip.pipeline.run.verify import run_lengths

pytestmark = pytest.mark.usefixtures("local_ray")


def test_a_sound_run_passes(saved_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in saved_run.rglob("*")}
    assert main(["verify", str(saved_run)]) == 0
    out = capsys.readouterr().out
    assert "2 units, 9 images read = 8 labeled + 1 failed" in out and len(out.splitlines()) == 2
    assert {path: path.stat().st_mtime_ns for path in saved_run.rglob("*")} == before
    assert main(["verify", str(saved_run / "coco")]) == 2


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def committed_with(output: Path, change: Callable[[str], str], kind: str = "segments") -> None:
    """Changes the RLEs of unit 1 and commits the unit with the digests of the changed files."""
    import hashlib

    path = output / kind / "0000001.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    for row in rows:
        row["rle"]["counts"] = change(row["rle"]["counts"])
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), path)
    images = pq.read_table(output / "images" / "0000001.parquet")
    metadata = dict(images.schema.metadata)
    digests = json.loads(metadata[b"sha256"]) | {kind: hashlib.sha256(path.read_bytes()).hexdigest()}
    metadata[b"sha256"] = json.dumps(digests).encode()
    pq.write_table(images.replace_schema_metadata(metadata), output / "images" / "0000001.parquet")


def drop_a_row(output: Path) -> None:
    path = output / "images" / "0000002.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut document": (lambda out: cut(out / "coco/0000001.json"), "unit 1: coco/: its SHA-256 is"),
    "cut masks": (lambda out: cut(out / "masks/0000002.tar"), "unit 2: masks/: its SHA-256 is"),
    "no segments": (lambda out: (out / "segments/0000002.parquet").unlink(), "unit 2: segments/: is missing"),
    "cut images": (lambda out: cut(out / "images/0000002.parquet"), "unit 2: images/: cannot be read"),
    "a row too few": (drop_a_row, "unit 2: images/: 4 rows whose indices are not 0 to 3"),
    "another area": (lambda out: committed_with(out, lambda text: text[:-1] + chr(ord(text[-1]) ^ 1)), "not decode"),
    "no RLE": (lambda out: committed_with(out, lambda text: "ä" + text), "not decode"),
    "a unit of nobody": (
        lambda out: shutil.copy(out / "images/0000001.parquet", out / "images/0000009.parquet"),
        "images/0000009.parquet: the plan has no such unit",
    ),
    "unfinished": (lambda out: (out / "images/0000002.parquet").unlink(), "1 of 2 units not finished"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_named(
    saved_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    harm, message = DAMAGE[name]
    shutil.copytree(saved_run, tmp_path / "out")
    harm(tmp_path / "out")
    assert main(["verify", str(tmp_path / "out")]) == 1
    found = capsys.readouterr()
    assert message in found.out + found.err and len(found.err.splitlines()) == 1, found


def test_what_a_crash_left_is_told(saved_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    shutil.copytree(saved_run, output)
    (output / "images/0000002.parquet").unlink()
    for name in ("_parts/0000001/00000.parquet", "_parts/0000002/00001.parquet", "coco/.0000002.json.0f.tmp"):
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_bytes(b"")
    assert main(["verify", str(output)]) == 1
    out = capsys.readouterr().out
    assert re.search("1 committed chunk of 1 unfinished unit: a rerun goes on", out)
    assert re.search("1 leftover part of finished units: a rerun removes them", out)
    assert re.search("3 files of units that are not committed yet", out)
    assert re.search("1 temporary file of", out)


@pytest.mark.parametrize("seed", range(40))
def test_run_lengths_are_those_of_pycocotools(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 60 if seed % 2 else 900, 2))
    mask = np.asfortranarray(random.random(shape) < random.random(), np.uint8)
    if seed % 3 == 0:
        mask[:, shape[1] // 2 :] = 0
    counts = run_lengths(coco_mask.encode(mask)["counts"].decode())
    pixels = np.repeat(np.arange(len(counts)) % 2, counts).reshape(shape, order="F")
    np.testing.assert_array_equal(pixels, mask)

"""`--json`: one object on stdout, equal to what the files hold; `-q`: nothing but what was asked for. Without Ray."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from stand_in_runs import numbered, stand_in_run, write_tar

from scclip.jobs.cli.main import main
from scclip.jobs.cli.talk import set_loudness


@pytest.fixture(autouse=True)
def loudness() -> Iterator[None]:
    yield
    set_loudness()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    stand_in_run(tmp_path / "run", [write_tar(tmp_path / "in.tar", numbered(["a.png", "b.png", "c.jpg"]))])
    return tmp_path / "run"


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_status(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, segments = (ds.dataset(run / kind).to_table() for kind in ("images", "segments"))
    assert main(["status", str(run), "--json"]) == 0
    told = printed(capsys)
    assert told["finished"] is True and told["bytes_share"] == 1 and told["failures"] == {}
    assert (told["images_read"], told["images_labeled"]) == (len(images), images["status"].to_pylist().count("ok"))
    assert told["segments"] == len(segments) and told["units"] == told["units_finished"] == 1
    (path,) = (run / "images").iterdir()
    path.unlink()
    assert main(["status", str(run), "--json"]) == 0
    told = printed(capsys)
    assert (told["finished"], told["bytes_share"], told["units_finished"], told["images_read"]) == (False, 0, 0, 0)


def test_verify(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(run), "--json"]) == 0
    told = printed(capsys)
    assert told["sound"] is told["complete"] is True and told["problems"] == []
    assert told["images_read"] == len(ds.dataset(run / "images").to_table())
    (path,) = (run / "coco").iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    assert main(["verify", str(run), "--json"]) == 1
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert told["sound"] is False and told["problems"] and told["problems"][0] in said.err


@pytest.mark.parametrize("format", ["coco", "parquet", "yolo"])
def test_export(run: Path, tmp_path: Path, format: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", str(run), str(tmp_path / "out"), "--format", format, "--json"]
    assert main(words) == 0
    told = printed(capsys)
    assert told["output"] == str(tmp_path / "out") and told["format"] == format and told["units"] == 1
    assert told["counts"]["train images"] == len(ds.dataset(run / "images").to_table())
    assert main(words) == 0
    assert printed(capsys) == told  # though there was nothing to do


@pytest.mark.parametrize("words", [["verify", "RUN"], ["export", "RUN", "OUT"], ["report", "RUN"]], ids=" ".join)
def test_quiet(run: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    places = {"RUN": str(run), "OUT": str(tmp_path / "out")}
    assert main([*(places.get(word, word) for word in words), "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main([places.get(word, word) for word in words]) == 0
    assert capsys.readouterr().out


def test_quiet_keeps_what_was_asked_for(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(run)]) == 0
    usual = capsys.readouterr()
    assert main(["status", str(run), "--quiet"]) == 0
    assert capsys.readouterr() == usual
    assert main(["verify", str(run), "--json", "-q"]) == 0
    assert printed(capsys)["sound"] is True

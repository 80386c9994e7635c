"""A run that somebody else made names the files of its plan: none is copied but the pictures that were labeled."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from export_readers import READERS, exported
from PIL import Image
from stand_in_runs import numbered, stand_in_run, write_folder

from scclip.jobs.cli.main import main
from scclip.pipeline.inputs.units import PlannedFile, Unit, plan_to_table
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.generations import read_plan
from scclip.pipeline.run.origin import outside, own_plan
from scclip.pipeline.storage.files import info


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stranger's run over three pictures that lie elsewhere."""
    made = stand_in_run(
        folder / "shared" / "run", [write_folder(folder / "data", numbered(["a.png", "b.png", "c.png"]))]
    )
    assert own_plan(RunFiles(str(made)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache of somebody else"))
    return made


def forge(run: Path, url: str) -> None:
    """Has the plan name another file for its first picture, with size and time as they are."""
    (unit,), details = read_plan(RunFiles(str(run))), info(url)
    first = replace(unit.files[0], url=url, size=details.size, version=details.version)
    pq.write_table(plan_to_table([replace(unit, files=(first, *unit.files[1:]))]), run / "plan" / "gen-0001.parquet")


def copies(folder: Path) -> list[bytes]:
    """The content of everything that an export has written."""
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def test_pictures_elsewhere_need_trust(run: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["export", str(run), str(folder / "out"), "--images"]
    assert main(command) == 2 and not copies(folder / "out")
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and str(folder / "data") in error and "--trust-plan" in error
    assert main([*command, "--trust-plan"]) == 0 and sorted(READERS["coco"](folder / "out")) == [(1, 1), (2, 2), (3, 3)]
    assert main(["export", str(run), str(folder / "labels")]) == 0  # without pictures nothing of the input is read


@pytest.mark.parametrize("trust", [[], ["--trust-plan"]])
@pytest.mark.parametrize("kind", ["text", "link", "larger", "cut"])
def test_another_file_is_never_copied(
    run: Path, folder: Path, kind: str, trust: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    secret = folder / "private.txt"
    secret.write_bytes(b"root:x:0:0:nobody is to see this")
    near = write_folder(folder / "shared" / "near", numbered(["a.png", "b.png", "c.png"]))
    data = (near / "a.png").read_bytes()
    target = near / "target.png"
    if kind == "text":
        target.write_bytes(secret.read_bytes())
    elif kind == "link":
        target.symlink_to(secret)
    elif kind == "cut":  # its header is a picture's of that size
        target.write_bytes(data[:60] + secret.read_bytes())
    else:
        Image.new("RGB", (64, 64)).save(target)
    forge(run, str(target))
    forbidden = target.read_bytes()
    assert main(["export", str(run), str(folder / "out"), "--images", *trust]) != 0
    assert not any(forbidden in copy for copy in copies(folder / "out"))
    assert capfd.readouterr().err.count("\n") == 1


def test_near_is_the_bucket_or_the_folder_beside_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def far(output: str, url: str) -> bool:
        file = PlannedFile(url, 1, "", "k", "k")
        return outside(RunFiles(output), [Unit(kind="files", url="", size=1, version="", files=(file,))]) == url

    home = folder / "home"
    (home / "x").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    (folder / "runs" / "in").mkdir(parents=True)
    os.symlink("/etc", folder / "runs" / "in" / "etc")
    assert not far("s3://b/run", "s3://b/in/a.png") and far("s3://b/run", "s3://b2/in/a.png")
    assert far("s3://b/run", "/etc/passwd") and far("s3://b/run", "http://169.254.169.254/latest/meta-data")
    assert not far(f"{folder}/runs/r", f"{folder}/runs/in/a.png") and far(f"{folder}/runs/r", f"{folder}/a.png")
    assert far(f"{folder}/runs/r", f"{folder}/runs/in/etc/passwd") and far(
        f"{folder}/runs/r", f"{folder}/runs/../a.png"
    )
    assert far("/run1", "/etc/passwd") and far(str(home / "r"), str(home / "x" / "a.png"))


def test_reports_show_no_pictures_from_elsewhere(run: Path, folder: Path) -> None:
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "data:image/" not in page and "--trust-plan" in page
    assert main(["report", str(run), "--trust-plan"]) == 0 and "data:image/" in (run / "report.html").read_text()


def test_names_of_strangers_do_not_steer_the_terminal(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    document = json.loads((run / "run.json").read_text())
    document["vocabulary"]["name"] = "\x1b]0;mine\x07street\nrun  fine"
    (run / "run.json").write_text(json.dumps(document))
    for verb in ("status", "verify", "report"):
        main([verb, str(run)])
        shown = "".join(capfd.readouterr())
        assert "\x1b" not in shown and "\x07" not in shown and "\nrun  fine" not in shown


def test_an_export_of_an_own_run_asks_for_nothing(folder: Path) -> None:
    made = stand_in_run(folder / "own" / "run", [write_folder(folder / "data", numbered(["a.png"]))])
    assert READERS["coco"](exported(made, "coco")) == [(1, 1)]

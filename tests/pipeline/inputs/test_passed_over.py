"""What is left out of a plan is counted by kind, with an example, and said in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from odd_inputs import (
    coco_file,
    delta_table,
    fake_export,
    fake_run,
    good_picture,
    img2dataset_folder,
    link,
    rows_of,
    write_bytes,
)
from odd_tables import CAFE, CAFE_BYTES, write_parquet

from scclip.pipeline.inputs.chunks import EncodedImage, ResumePoint
from scclip.pipeline.inputs.names import HEIF
from scclip.pipeline.inputs.passed_over import PassedOver
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.readers import image_files
from scclip.pipeline.inputs.resolve import InputError
from scclip.pipeline.inputs.units import PlannedFile, Unit
from scclip.pipeline.storage.retries import StorageError

HELPERS = Path(__file__).parents[2] / "helpers"


def passed_of(*inputs: Path | str, exclude: list[str] | None = None) -> dict[str, int]:
    passed = PassedOver()
    plan_units([str(name) for name in inputs], exclude=exclude or [], passed=passed)
    return {kind: count for kind, (count, _) in passed.kinds.items()}


def test_every_kind_of_file_that_is_no_input_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    names = {
        "a.png": None,
        "b.heic": None if HEIF else ".heic",
        "c.MPO": ".mpo",
        "d.jpe": ".jpe",
        "e.tar.xz": ".tar.xz",
        "f.tar.zst": ".tar.zst",
        "g.json": ".json",
        "h.json": ".json",
        "README": "without a usual extension",
        "log.2024-01-02T10_11_12": "without a usual extension",
        "a.seg.png": "labels beside images",
        "@eaDir/a.png/thumb.png": "@eaDir",
        "$RECYCLE.BIN/a.png": "$RECYCLE.BIN",
        "sub/#recycle/a.png": "#recycle",
        "__MACOSX/a.png": "__MACOSX",
        ".ipynb_checkpoints/a.png": "hidden",
        "._a.png": "hidden",
        "sub/.DS_Store": "hidden",
        "labels/images/made.png": None,
    }
    for name in names:
        write_bytes(folder / name, good_picture(1))
    link(folder / "gone.png", "nowhere.png")
    link(folder / "again.png", "a.png")
    os.mkfifo(folder / "pipe.png")
    expected: dict[str, int] = {}
    for kind in [*filter(None, names.values()), "links that lead nowhere", "pipes, sockets and devices"]:
        expected[kind] = expected.get(kind, 0) + 1
    expected["other names of files already taken"] = 1
    assert passed_of(folder, exclude=[str(folder / "labels")]) == expected


def test_what_other_programs_and_this_one_wrote_is_counted(tmp_path: Path) -> None:
    assert passed_of(img2dataset_folder(tmp_path / "laion")) == {"Parquet without an image column": 2, ".json": 2}
    delta_table(tmp_path / "delta", [good_picture(1)])
    assert passed_of(tmp_path / "delta") == {"_delta_log": 2, "without a usual extension": 1, "hidden": 1}
    write_bytes(tmp_path / "photos/a.png", good_picture(1))
    write_bytes(tmp_path / "photos/x/y/images/z/a.png", good_picture(2))
    fake_run(tmp_path / "photos/labels")
    fake_export(tmp_path / "photos/for/training")
    assert passed_of(tmp_path / "photos") == {"in a run's folder": 6, "in an export's folder": 3}
    assert passed_of(f"{tmp_path}/photos/**") == {"in a run's folder": 6, "in an export's folder": 3}
    assert passed_of(f"{tmp_path}/photos/*/*/images/*/*.png") == {"in an export's folder": 1}


@pytest.mark.parametrize("below", ["", "/*", "/**"])
def test_a_run_itself_is_no_input_but_an_export_is(below: str, tmp_path: Path) -> None:
    fake_run(tmp_path / "labels")
    with pytest.raises(InputError, match="is the output of a run"):
        plan_units([f"{tmp_path}/labels{below}"])
    fake_export(tmp_path / "export")
    assert len(plan_units([f"{tmp_path}/export"])) == 2


def test_the_line_is_short_and_reads_back(tmp_path: Path) -> None:
    passed = PassedOver()
    assert passed.lines() == []
    for number in range(12):
        passed.add(".json", f"s3://user:secret@bucket/{number}.json?signature=1")
    passed.add("hidden", os.fsdecode(b"/in/." + CAFE_BYTES))
    (line,) = passed.lines()
    assert line == f"13 files passed over: 12 .json (0.json?…), 1 hidden (.{CAFE})"
    again = PassedOver.from_json(json.loads(json.dumps(passed.to_json())))
    assert again == passed and "secret" not in repr(again)
    for number in range(1000):
        passed.add(f".x{number}", f"/in/{number}")
    assert len(passed.lines()[0]) < 300 and sum(count for count, _ in passed.kinds.values()) == 1013


def test_examples_of_a_list_are_the_same_every_time(tmp_path: Path) -> None:
    for number in range(40):
        write_bytes(tmp_path / f"in/{number:02d}/{number:02d}.json", b"{}")
        write_bytes(tmp_path / f"in/{number:02d}/a.png", good_picture(number % 7))
    (tmp_path / "all.txt").write_text(
        "".join(f"in/{number:02d}\n" for number in range(40)) + "in/*.gif\nin/00/00.doc\n"
    )
    write_bytes(tmp_path / "in/00/00.doc", b"")
    passed = PassedOver()
    plan_units([str(tmp_path / "all.txt")], passed=passed)
    assert passed.kinds[".json"] == (40, f"{tmp_path}/in/00/00.json")
    assert passed.kinds["lines of lists that name nothing to label"][0] == 1 and passed.kinds[".doc"][0] == 2


def test_rows_that_cannot_be_read_are_planned_once(tmp_path: Path) -> None:
    write_bytes(tmp_path / "in/a.png", good_picture(1))
    link(tmp_path / "in/there", "../elsewhere")
    write_bytes(tmp_path / "elsewhere/b.png", good_picture(2))
    names = ["a.png", "../a.png", "/a.png", "https://x/a.png", "gone.png", "there/gone.png", "there/b.png", "a\0b.png"]
    coco = coco_file(tmp_path / "in/val.json", [{"id": index, "file_name": name} for index, name in enumerate(names)])
    (tmp_path / "all.txt").write_text("in/a.png\nin/lost.png\nin/there/lost.png\nlost.tar\n")
    for path in (coco, tmp_path / "all.txt"):
        units = plan_units([str(path)])
        assert plan_units([str(path)], units) == []
        rows = rows_of(units)
        assert len(rows) == (8 if path == coco else 4) and all(row["error"] for row in rows if row["status"] != "ok")
        assert {row["status"] for row in rows} == {"ok", "missing"}


def test_a_table_that_the_user_names_must_hold_images(tmp_path: Path) -> None:
    write_parquet(tmp_path / "in/a.parquet", {"url": ["x"]})
    write_bytes(tmp_path / "in/b.png", good_picture(1))
    assert len(plan_units([str(tmp_path / "in")])) == 1
    with pytest.raises(InputError, match=r"a\.parquet.*url"):
        plan_units([str(tmp_path / "in/../in/a.parquet"), str(tmp_path / "in")])


def test_names_are_kept_whatever_the_locale(tmp_path: Path) -> None:
    """Under a C locale without UTF-8 mode every é is bytes that are no text; the plan is the same."""
    write_bytes(tmp_path / "in/é.png", good_picture(1))
    write_bytes(os.fsencode(tmp_path) + b"/in/" + CAFE_BYTES + b".png", good_picture(2))
    code = """
import sys
from odd_inputs import pictures_of, rows_of
from scclip.pipeline.inputs.plan import plan_units
assert sys.getfilesystemencoding() == sys.argv[2], sys.getfilesystemencoding()
print(ascii(sorted(pictures_of(sys.argv[1] + "/in"))), len(rows_of(plan_units([sys.argv[1] + "/in/*.png"]))))
"""
    said = []
    for encoding, settings in {"ascii": {"LC_ALL": "C", "PYTHONUTF8": "0"}, "utf-8": {"PYTHONUTF8": "1"}}.items():
        environment = os.environ | settings | {"PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(HELPERS)}
        command = [sys.executable, "-c", code, str(tmp_path), encoding]
        said.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert said[0] == said[1] == f"{sorted(['é', CAFE])!a} 2\n"


def test_a_web_server_that_fails_costs_a_row_and_a_store_ends_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str, **options: int) -> bytes:
        raise StorageError(f"cannot read {url}: 403")

    monkeypatch.setattr(image_files, "difference", lambda file: None)
    monkeypatch.setattr(image_files, "read_bytes", fail)

    def read(url: str) -> list[EncodedImage]:
        files = (PlannedFile(url, 3, "", "a", "a.png"),)
        unit = Unit(kind="files", url="", size=3, version="", files=files)
        return list(image_files.ImageFilesReader().read(unit, ResumePoint(), None))

    (image,) = read("https://host/a.png")
    assert image.status == "unreadable" and "403" in str(image.error)
    with pytest.raises(StorageError):
        read("s3://bucket/a.png")

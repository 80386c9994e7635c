"""Every form of input, the generations of a plan, and what is said about wrong input."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scclip.pipeline.inputs.names import expand_braces, split_name
from scclip.pipeline.inputs.plan import count_images, plan_units
from scclip.pipeline.inputs.resolve import InputError
from scclip.pipeline.inputs.units import Unit, plan_from_table, plan_to_table
from scclip.pipeline.storage import files as storage


def tar_bytes(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Shards, a table, nested photographs with labels beside them, and things that are none of these."""
    for name in ("shards/b.tar", "shards/a.tar", "shards/c.TAR.GZ", "shards/deep/d.tgz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(tar_bytes("1.jpg", "2.jpg", "3.jpg"))
    for name in ("photos/x.jpg", "photos/x.seg.png", "photos/sub/y.v2.PNG", "photos/.hidden.jpg", "photos/notes.doc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    pq.write_table(pa.table({"image": [b"x"] * 25}), tmp_path / "table.parquet", row_group_size=10)
    return tmp_path


def names_of(units: list[Unit], root: Path) -> list[str]:
    return [unit.url.removeprefix(f"{root}/") for unit in units]


def test_any_mix_of_inputs_becomes_numbered_units(root: Path) -> None:
    units = plan_units(
        [str(root / "shards" / "*.tar"), f"file://{root}/shards", str(root / "table.parquet"), str(root / "photos")]
    )
    assert names_of(units, root) == [
        *("shards/a.tar", "shards/b.tar", "shards/c.TAR.GZ", "shards/deep/d.tgz", "table.parquet", "photos/sub")
    ]
    assert [unit.number for unit in units] == [1, 2, 3, 4, 5, 6]
    assert [(file.key, file.file_name) for file in units[-1].files] == [("sub/y.v2", "sub/y.v2.PNG"), ("x", "x.jpg")]
    assert [unit.kind for unit in units] == ["tar"] * 4 + ["parquet", "files"] and units[4].row_stop == 25
    assert plan_from_table(plan_to_table(units)) == units
    assert names_of(plan_units([str(root)], exclude=[str(root / "shards")]), root) == ["table.parquet", "photos/sub"]


def test_later_generations_hold_only_what_is_new(root: Path) -> None:
    first = plan_units([str(root)])
    assert plan_units([str(root), str(root / "shards")], first) == []
    (root / "shards" / "aa.tar").write_bytes(tar_bytes())
    (root / "photos" / "new.jpg").write_bytes(b"")
    second = plan_units([str(root)], first)
    assert [(unit.number, unit.kind) for unit in second] == [(7, "tar"), (8, "files")]
    assert [file.key for file in second[1].files] == ["photos/new"]
    (root / "shards" / "a.tar").write_bytes(tar_bytes("changed.jpg"))
    assert plan_units([str(root)], first + second) == []  # a changed shard is reported when it is read


def test_a_list_names_any_of_these(root: Path) -> None:
    (root / "inner.txt").write_text("photos\n")
    lines = [
        "# shards first",
        "",
        "shards/b.tar",
        "photos/x.jpg",
        f"file://{root}/shards/a.tar",
        "inner.txt",
        "table.parquet",
    ]
    (root / "all.txt").write_text("\n".join(lines))
    units = plan_units([str(root / "all.txt")])
    assert names_of(units, root)[:3] == ["shards/b.tar", "shards/a.tar", "table.parquet"]
    assert [file.key for file in units[3].files] == ["photos/x", "sub/y.v2"]  # each file once, under its first name
    (root / "loop.txt").write_text("loop.txt")
    with pytest.raises(InputError, match="names itself"):
        plan_units([str(root / "loop.txt")])


@pytest.mark.parametrize("layout", [".", "images", "val2017", "../images", "../val2017", "../images/val2017"])
def test_a_coco_file_gives_its_ids_as_keys(tmp_path: Path, layout: str) -> None:
    annotations, folder = tmp_path / "annotations", tmp_path / "annotations" / layout
    annotations.mkdir()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "000000142238.jpg").write_bytes(b"abc")
    images = [{"id": 142238, "file_name": "000000142238.jpg"}, {"id": 7, "file_name": "gone.jpg"}]
    (annotations / "instances_val2017.json").write_text(json.dumps({"images": images, "annotations": []}))
    (unit,) = plan_units([str(annotations / "instances_val2017.json")])
    found = [(file.key, file.file_name, file.size) for file in unit.files]
    assert found == [("142238", "000000142238.jpg", 3), ("7", "gone.jpg", -1)]
    assert storage.read_bytes(unit.files[0].url) == b"abc"


def test_many_files_and_rows_are_split(tmp_path: Path) -> None:
    for number in range(300):
        storage.create(f"memory://many/{number:03d}.jpg", b"x")
    units = plan_units(["memory://many"])
    assert [len(unit.files) for unit in units] == [256, 44] and units[1].files[0].key == "256"
    pq.write_table(pa.table({"image": [b"x"] * 30_000}), tmp_path / "a.parquet", row_group_size=4000)
    ranges = [(unit.row_start, unit.row_stop) for unit in plan_units([str(tmp_path / "a.parquet")])]
    assert ranges == [(0, 8000), (8000, 16000), (16000, 24000), (24000, 30000)]


def test_a_limit_cuts_the_plan_at_that_image(root: Path) -> None:
    everything = [str(root / "shards"), str(root / "table.parquet"), str(root / "photos")]
    total = sum(count_images(unit) for unit in plan_units(everything))
    assert total == 4 * 3 + 25 + 2
    for limit in range(1, total + 2):
        units = plan_units(everything, limit=limit)
        assert sum(count_images(unit) for unit in units) == min(limit, total)
        assert plan_units(everything, units, limit=limit) == []
        assert all(unit.image_limit is None for unit in units[:-1])


def test_wrong_input_is_one_line_with_the_remedy(root: Path, tmp_path: Path) -> None:
    (root / "empty").mkdir()
    (root / "blank.txt").write_text("# nothing\n")
    (root / "not.json").write_text("{}")
    (root / "away.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "../../etc/passwd"}]}))
    (root / "lost.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "nowhere.jpg"}]}))
    pq.write_table(pa.table({"picture": [b"x"], "image": ["text"]}), root / "columns.parquet")
    wrong = {
        "absent.tar": "no such file",
        "*.zip": "holds nothing",
        "empty": "holds nothing",
        "photos/notes.doc": "unsupported kind of file",
        "blank.txt": "empty; write one path",
        "not.json": "not a COCO file",
        "away.json": "leaves the image folder",
        "lost.json": "nowhere.jpg is neither beside it",
        "columns.parquet": "name it with --image-column; columns: picture: binary, image: string",
    }
    for name, message in wrong.items():
        with pytest.raises(InputError, match=message) as failure:
            plan_units([str(root / name)])
        assert "\n" not in str(failure.value) and name.split("/")[-1] in str(failure.value)
    for inputs, options, message in [
        ([], {}, "no input"),
        ([""], {}, "empty string"),
        (["x"], {"limit": 0}, "limit is 0"),
    ]:
        with pytest.raises(InputError, match=message):
            plan_units(inputs, **options)


def test_the_rule_of_names() -> None:
    rule = {
        "a/photo.jpg": ("a/photo", "jpg"),
        "a.b/photo.v2.JPG": ("a.b/photo.v2", "jpg"),
        "photo.seg.png": ("photo", "seg.png"),
        "photo.v2.SEG.png": ("photo.v2", "seg.png"),
        "seg.png": ("seg", "png"),
        ".seg.png": ("", ""),
        "._photo.jpg": ("", ""),
        "README": ("", ""),
    }
    assert {name: split_name(name) for name in rule} == rule
    assert split_name("x_gt.TIF", "_gt.tif") == ("x_gt", "tif") and split_name("a/x.gt.tif", ".gt.tif") == (
        "a/x",
        "gt.tif",
    )


def test_braces_stand_for_names_unless_a_file_or_folder_has_them(tmp_path: Path) -> None:
    expected = {
        "{00008..00011}": ["00008", "00009", "00010", "00011"],
        "{3..1}x": ["3x", "2x", "1x"],
        "{7..7}": ["7"],
        "{a,b}{1,2}": ["a1", "a2", "b1", "b2"],
        "{a,}/c": ["a/c", "/c"],
        "{a}": ["{a}"],
        "a{1..b}": ["a{1..b}"],
    }
    assert {name: list(expand_braces(name)) for name in expected} == expected
    for folder in ("{a,b}", "a", "b"):
        storage.create(f"{tmp_path}/{folder}/1.jpg", b"x")
    assert [unit.url for unit in plan_units([f"{tmp_path}/{{a,b}}/*.jpg"])] == [f"{tmp_path}/{{a,b}}"]
    (unit,) = plan_units([f"{tmp_path}/{{a,b}}/{{1..1}}.jpg"])
    assert unit.url == f"{tmp_path}/{{a,b}}"
    storage.remove([f"{tmp_path}/{{a,b}}/1.jpg"], prune=True)
    (unit,) = plan_units([f"{tmp_path}/{{a,b}}/{{1..1}}.jpg"])
    assert [file.url for file in unit.files] == [f"{tmp_path}/a/1.jpg", f"{tmp_path}/b/1.jpg"]
    for name in ("{0..1000000}", "{0..999}{0..999}{0..1}"):
        with pytest.raises(InputError, match="more than 1,000,000 names"):
            plan_units([name])

"""Links and names as people have them: every file once, under one name, as reading finds it."""

import os
import shutil
from ast import literal_eval
from pathlib import Path

import pytest
from odd_inputs import (
    circle_of_links,
    coco_file,
    good_picture,
    hugging_face_cache,
    link,
    pictures_of,
    rows_of,
    write_bytes,
)
from odd_tables import CAFE, CAFE_BYTES, write_parquet
from pictures import tar_bytes

from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.resolve import InputError
from scclip.pipeline.inputs.units import plan_from_table, plan_to_table
from scclip.pipeline.storage import files as storage
from scclip.pipeline.storage import ranges

# Links


@pytest.mark.parametrize("shape", ["relative", "absolute", "chain"])
@pytest.mark.parametrize("kind", ["a.png", "train.parquet", "shard.tar", "shard.tar.gz"])
def test_a_linked_file_is_read_as_its_target(kind: str, shape: str, tmp_path: Path) -> None:
    if kind.endswith("parquet"):
        data = write_parquet(tmp_path / "made.parquet", {"id": ["a"], "image": [good_picture(1)]}).read_bytes()
    else:
        data = good_picture(1) if kind == "a.png" else tar_bytes({"a.png": good_picture(1)})
    path = hugging_face_cache(tmp_path / "hub", kind, data, absolute=shape == "absolute", chain=shape == "chain")
    for name in (path, path.parent, f"{path.parent}/*", f"file://{path}"):
        assert pictures_of(name) == {"a": good_picture(1)}
    (listed,) = storage.list_files(str(path.parent))
    assert (listed.size, listed.version) == (storage.info(str(path)).size, storage.info(str(path)).version)
    assert listed.size == len(data) and float(listed.version) == 1_500_000_000


def test_a_target_that_changes_is_still_noticed(tmp_path: Path) -> None:
    path = hugging_face_cache(tmp_path, "a.png", good_picture(1))
    units = plan_units([str(path.parent)])
    path.resolve().write_bytes(good_picture(2) + b"more")
    assert [row["status"] for row in rows_of(units)] == ["changed"]
    path.unlink()
    assert [row["status"] for row in rows_of(units)] == ["missing"]


def test_linked_folders_are_followed_each_once(tmp_path: Path) -> None:
    folder = circle_of_links(tmp_path)
    found = pictures_of(folder)
    assert sorted(found.values()) == sorted([good_picture(1), good_picture(2)])
    assert "a" in found and set(found) <= {"a", "linked/deep/b", "again/b", "up/elsewhere/deep/b"}
    assert pictures_of(folder, folder / "linked", folder / "again", folder / "up") == found


@pytest.mark.parametrize("pattern", ["photos/*.png", "photos/**/*.png", "photos/*/*.png", "*/again/*.png"])
def test_linked_folders_are_followed_in_globs(pattern: str, tmp_path: Path) -> None:
    circle_of_links(tmp_path)
    expected = {"photos/*.png": [1], "photos/**/*.png": [1, 2]}.get(pattern, [2])
    found = pictures_of(f"{tmp_path}/{pattern}")
    assert set(found.values()) >= {good_picture(seed) for seed in expected}
    if pattern != "photos/*/*.png":  # which also reaches photos itself through its links
        assert sorted(found.values()) == sorted(good_picture(seed) for seed in expected)


def test_linked_folders_are_followed_below_a_coco_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "store/a.png", good_picture(1))
    write_bytes(tmp_path / "store/deep/b.png", good_picture(2))
    link(tmp_path / "coco/images", "../store")
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "deep/b.png"}]
    found = pictures_of(coco_file(tmp_path / "coco/val.json", images))
    assert found == {"1": good_picture(1), "2": good_picture(2)}
    images = [{"id": 1, "file_name": "images/a.png"}, {"id": 2, "file_name": "images/deep/b.png"}]
    assert pictures_of(coco_file(tmp_path / "coco/all.json", images)) == found


def test_links_that_lead_nowhere_end_nothing(tmp_path: Path) -> None:
    write_bytes(tmp_path / "in/a.png", good_picture(1))
    link(tmp_path / "in/gone.tar", "/nowhere/at/all.tar")
    link(tmp_path / "in/gone.parquet", "gone.parquet")
    link(tmp_path / "in/folder", "missing")
    rows = rows_of(plan_units([str(tmp_path / "in")]))
    assert [row["data"] for row in rows if row["status"] == "ok"] == [good_picture(1)]
    assert all(row["status"] in ("missing", "bad_shard") for row in rows if row["status"] != "ok")


def test_pipes_and_sockets_among_the_files_are_not_opened(tmp_path: Path) -> None:
    write_bytes(tmp_path / "in/a.png", good_picture(1))
    os.mkfifo(tmp_path / "in/pipe.png")
    rows = rows_of(plan_units([str(tmp_path / "in")]))
    assert [row["data"] for row in rows if row["status"] == "ok"] == [good_picture(1)]


# One file has one name


@pytest.mark.parametrize("second", [".", "../photos", "sub/..", "./", "/", "//", "../photos/./sub/..", "../linked"])
def test_a_folder_is_one_folder_however_it_is_spelled(second: str, tmp_path: Path) -> None:
    write_bytes(tmp_path / "photos/a.png", good_picture(1))
    write_bytes(tmp_path / "photos/sub/b.png", good_picture(2))
    link(tmp_path / "linked", "photos")
    first = str(tmp_path / "photos")
    units = plan_units([first, f"{first}/{second}"])
    assert sorted(row["key"] for row in rows_of(units)) == ["a", "sub/b"]
    assert plan_units([f"{first}/{second}"], plan_units([first])) == []
    assert plan_units([first], plan_units([f"{first}/{second}"])) == []


@pytest.mark.parametrize("spelling", ["photos/../photos/a.png", "photos//a.png", "./photos/a.png", "linked/a.png"])
def test_a_file_is_one_file_however_it_is_spelled(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes(tmp_path / "photos/a.png", good_picture(1))
    link(tmp_path / "linked", "photos")
    monkeypatch.chdir(tmp_path)
    for names in ([spelling, "photos"], ["photos", f"{tmp_path}/{spelling}"], [spelling, f"file://{tmp_path}/photos"]):
        assert [row["data"] for row in rows_of(plan_units(names))] == [good_picture(1)]


def test_two_names_of_one_file_are_one_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "photos/a.png", good_picture(1))
    write_bytes(tmp_path / "photos/s.tar", tar_bytes({"b.png": good_picture(2)}))
    link(tmp_path / "others/x.png", "../photos/a.png")
    link(tmp_path / "others/t.tar", "../photos/s.tar")
    units = plan_units([str(tmp_path / "photos"), str(tmp_path / "others")])
    assert sorted(row["key"] for row in rows_of(units)) == ["a", "b"]
    assert plan_units([str(tmp_path / "others")], plan_units([str(tmp_path / "photos")])) == []
    assert plan_units([str(tmp_path / "photos")], plan_units([str(tmp_path / "others")])) == []


@pytest.mark.parametrize("output", ["photos/labels", "../photos/labels", "photos/./labels", "photos//labels", "to"])
def test_the_output_is_left_out_however_it_is_spelled(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes(tmp_path / "here/photos/a.png", good_picture(1))
    write_bytes(tmp_path / "here/photos/labels/images/made.png", good_picture(2))
    link(tmp_path / "here/to", "photos/labels")
    monkeypatch.chdir(tmp_path / "here")
    output = output.replace("../photos", "../here/photos")
    for name in ("photos", "../here/photos", str(tmp_path / "here/photos"), "photos/*.png", "photos/**/*.png"):
        units = plan_units([name], exclude=[output])
        assert [row["data"] for row in rows_of(units)] == [good_picture(1)], name


def test_a_plan_of_other_spellings_is_known(tmp_path: Path) -> None:
    """A plan written before names were canonical: through a linked folder above the input."""
    write_bytes(tmp_path / "disk/photos/a.png", good_picture(1))
    write_bytes(tmp_path / "disk/photos/s.tar", tar_bytes({"b.png": good_picture(2)}))
    link(tmp_path / "home", "disk")
    old = plan_units([str(tmp_path / "disk/photos")])
    text = repr(plan_to_table(old).to_pylist()).replace(f"{tmp_path}/disk/", f"{tmp_path}/home/")
    known = plan_from_table(plan_to_table(old).from_pylist(literal_eval(text), schema=plan_to_table(old).schema))
    assert any("/home/" in unit.url for unit in known)
    assert plan_units([str(tmp_path / "home/photos")], known) == []
    assert sorted(row["key"] for row in rows_of(known)) == ["a", "b"]


# Names


@pytest.mark.parametrize(
    "name",
    [CAFE_BYTES, b"\xff\xfe", b"sub\x80/caf\xe9", "é".encode("latin-1") * 3],
    ids=["Latin-1", "no text", "folder too", "nothing but odd bytes"],
)
@pytest.mark.parametrize("kind", ["folder", "glob", "file", "list"])
def test_names_that_are_no_utf8_are_kept_as_tars_keep_them(name: bytes, kind: str, tmp_path: Path) -> None:
    write_bytes(os.fsencode(tmp_path / "in") + b"/" + name + b".png", good_picture(1))
    write_bytes(tmp_path / "in/b.png", good_picture(2))
    place = os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name + b".png")
    if kind == "list":
        (tmp_path / "in.txt").write_bytes(b"in/b.png\nin/" + name + b".png\n")
    inputs = {
        "folder": [f"{tmp_path}/in"],
        "glob": [f"{tmp_path}/in/**/*.png"],
        "file": [place, f"{tmp_path}/in/b.png"],
        "list": [f"{tmp_path}/in.txt"],
    }[kind]
    found = pictures_of(*inputs)
    key = name.decode("utf-8", "backslashreplace")
    above = "in/" if kind == "list" else ""
    assert found == {
        above + (key.rpartition("/")[2] if kind == "file" else key): good_picture(1),
        f"{above}b": good_picture(2),
    }
    assert plan_units(inputs, plan_from_table(plan_to_table(plan_units(inputs)))) == []


def test_a_shard_whose_name_is_no_utf8_is_read(tmp_path: Path) -> None:
    write_bytes(os.fsencode(tmp_path) + b"/in/" + CAFE_BYTES + b".tar", tar_bytes({"a.png": good_picture(1)}))
    assert pictures_of(tmp_path / "in") == {"a": good_picture(1)}


def test_what_is_said_of_such_a_name_can_be_printed(tmp_path: Path) -> None:
    write_bytes(os.fsencode(tmp_path) + b"/in/" + CAFE_BYTES + b".png", good_picture(1))
    units = plan_units([str(tmp_path / "in")])
    shutil.rmtree(tmp_path / "in")
    (row,) = rows_of(units)
    assert row["status"] == "missing" and CAFE in row["error"] and row["file_name"] == f"{CAFE}.png"
    with pytest.raises(InputError) as caught:
        plan_units([os.fsdecode(os.fsencode(tmp_path) + b"/" + CAFE_BYTES + b".xyz")])
    str(caught.value).encode("utf-8")


NAMES = {
    "times": "rec 12::30::05",
    "colons alone": "::",
    "one pair": "a::b",
    "protocol zip": "zip::a",
    "protocol within": "col::on://x",
    "C++": "c++::std::string",
    "protocol file": "file::name",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_colons_in_a_name_are_part_of_the_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = name.replace("/", "")
    write_bytes(tmp_path / f"in/{plain}.png", good_picture(1))
    write_bytes(tmp_path / "in/b.png", good_picture(2))
    expected = {plain: good_picture(1), "b": good_picture(2)}
    assert pictures_of(tmp_path / "in") == expected and pictures_of(f"{tmp_path}/in/*.png") == expected
    assert pictures_of(f"{tmp_path}/in/{plain}.png", f"file://{tmp_path}/in/b.png") == expected
    monkeypatch.chdir(tmp_path / "in")
    assert pictures_of(".") == expected


def test_colons_in_a_key_of_a_store_are_part_of_the_key(tmp_path: Path) -> None:
    for name in ("photos/col::on.png", "photos/a::b/zip::c.png", "more::photos/x.png"):
        fs, _ = storage.filesystem("memory://odd")
        fs.pipe_file(f"/odd/{name}", good_picture(1))
    assert set(pictures_of("memory://odd/photos")) == {"col::on", "a::b/zip::c"}
    assert set(pictures_of("memory://odd/more::photos")) == {"x"}
    assert set(pictures_of("memory://odd/photos/col::on.png")) == {"col::on"}


def test_chains_stay_chains(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/a.png", good_picture(1))
    assert storage.read_bytes(f"zip://in/a.png::{tmp_path}/a.zip") == good_picture(1)
    assert storage.read_bytes(f"zip://in/a.png::file://{tmp_path}/a.zip") == good_picture(1)
    write_bytes(tmp_path / "b.png", good_picture(2))
    assert storage.read_bytes(f"simplecache::file://{tmp_path}/b.png") == good_picture(2)


@pytest.mark.parametrize("folder", ["set [1]", "100% *done*", "what?", "a[b", "[x]/[y]"])
def test_a_glob_below_a_folder_of_wildcards_finds_its_files(folder: str, tmp_path: Path) -> None:
    write_bytes(tmp_path / folder / "a.png", good_picture(1))
    write_bytes(tmp_path / folder / "sub/b.png", good_picture(2))
    assert pictures_of(tmp_path / folder) == {"a": good_picture(1), "sub/b": good_picture(2)}
    assert list(pictures_of(f"{tmp_path}/{folder}/*.png").values()) == [good_picture(1)]
    assert sorted(pictures_of(f"{tmp_path}/{folder}/**/*.png").values()) == sorted([good_picture(1), good_picture(2)])


def test_a_shard_that_may_not_be_read_costs_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read once it may be, by `--retry-failed`."""
    write_bytes(tmp_path / "in/a.png", good_picture(1))
    write_bytes(tmp_path / "in/b.tar", tar_bytes({"b.png": good_picture(2)}))
    write_parquet(tmp_path / "in/c.parquet", {"id": ["c"], "image": [good_picture(3)]})
    write_parquet(tmp_path / "in/d.parquet", {"id": ["d"], "image": [good_picture(4)]})

    def opened(path: str, mode: str) -> object:
        if str(path).endswith(("b.tar", "c.parquet")):
            raise PermissionError(13, "Permission denied")
        return open(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(ranges, "open", opened, raising=False)
        units = plan_units([str(tmp_path / "in")])
        found = {row["key"]: (row["status"], row["error"]) for row in rows_of(units)}
        assert len(rows_of(plan_units([str(tmp_path / "in")], limit=2))) == 2
    assert found.keys() == {"a", "b.tar", "c.parquet", "d"} and found["a"] == found["d"] == ("ok", None)
    for key in ("b.tar", "c.parquet"):
        assert found[key] == ("unreadable", f"cannot read {tmp_path}/in/{key}: Permission denied")
    assert sorted(row["key"] for row in rows_of(units)) == ["a", "b", "c", "d"]


def test_a_table_that_vanishes_while_planning_costs_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        write_parquet(tmp_path / f"in/{name}.parquet", {"id": [name], "image": [good_picture(1)]})
    listed = storage.listing(f"{tmp_path}/in", ())
    (tmp_path / "in/b.parquet").unlink()
    monkeypatch.setattr(storage, "listing", lambda *words: listed)
    rows = rows_of(plan_units([str(tmp_path / "in")]))
    assert [(row["key"], row["status"]) for row in rows] == [("a", "ok"), ("b.parquet", "missing")]

"""Folders that others wrote, COCO files and lists as people have them."""

import functools
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from odd_inputs import (
    coco_file,
    delta_table,
    fake_export,
    fake_run,
    good_picture,
    img2dataset_folder,
    link,
    pictures_of,
    rows_of,
    write_bytes,
)
from odd_pictures import avif, jpeg
from odd_tables import write_parquet
from pictures import tar_bytes
from PIL import features

from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.resolve import InputError
from scclip.pipeline.storage import files as storage

# Folders that others wrote


@pytest.mark.parametrize("place", ["a", "deep/er/a"])
@pytest.mark.parametrize("other", [fake_run, fake_export])
@pytest.mark.parametrize("pattern", ["", "/**"], ids=["folder", "glob"])
def test_a_folder_that_holds_a_run_or_an_export_is_no_input(
    other: Any, place: str, pattern: str, tmp_path: Path
) -> None:
    write_bytes(tmp_path / "photos/x.png", good_picture(3))
    write_bytes(tmp_path / "photos/deep/y.png", good_picture(4))
    other(tmp_path / "photos" / place)
    found = pictures_of(f"{tmp_path}/photos{pattern}", exclude=[f"{tmp_path}/photos/b"])
    assert found == {"x": good_picture(3), "deep/y": good_picture(4)}


def test_a_folder_with_another_run_json_is_input(tmp_path: Path) -> None:
    write_bytes(tmp_path / "photos/a.png", good_picture(1))
    write_bytes(tmp_path / "photos/run.json", b'{"experiment": 7}')
    write_bytes(tmp_path / "photos/sub/export.json", b"not even JSON")
    write_bytes(tmp_path / "photos/sub/b.png", good_picture(2))
    assert pictures_of(tmp_path / "photos") == {"a": good_picture(1), "sub/b": good_picture(2)}


def test_runs_on_a_store_are_no_input_either() -> None:
    fs, _ = storage.filesystem("memory://marks")
    run = {"options": {}, "model": {}, "segmentation": {}, "vocabulary": {}, "chunk_limits": {}, "versions": {}}
    fs.pipe_file("/marks/a/run.json", json.dumps(run).encode())
    fs.pipe_file("/marks/a/masks/0000001.tar", tar_bytes({"a.seg.png": b""}))
    fs.pipe_file("/marks/x.png", good_picture(1))
    assert pictures_of("memory://marks") == {"x": good_picture(1)}


@pytest.mark.parametrize("output", ["photos", "photos/", ".", "photos/../photos", "linked"])
def test_an_output_that_is_or_holds_the_input_works_or_is_named(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes(tmp_path / "photos/a.png", good_picture(1))
    write_bytes(tmp_path / "photos/sub/b.png", good_picture(2))
    link(tmp_path / "linked", "photos")
    monkeypatch.chdir(tmp_path)
    try:
        found = pictures_of("photos", exclude=[output])
    except InputError as error:
        assert "OUTPUT" in str(error) and "photos" in str(error) and "nothing" not in str(error)
    else:
        assert found == {"a": good_picture(1), "sub/b": good_picture(2)}


def test_img2datasets_own_folder_is_its_shards(tmp_path: Path) -> None:
    found = pictures_of(img2dataset_folder(tmp_path / "laion"))
    assert sorted(found) == [f"{shard:05d}{number:04d}" for shard in range(2) for number in range(3)]
    assert found["000000000"] == jpeg(0)
    assert pictures_of(f"{tmp_path}/laion/*") == found


def test_deltas_own_folder_is_its_pictures(tmp_path: Path) -> None:
    delta_table(tmp_path / "table", [good_picture(1), good_picture(2)])
    write_parquet(tmp_path / "table/_metadata", {"n": [1]})
    found = pictures_of(tmp_path / "table")
    assert sorted(found.values()) == sorted([good_picture(1), good_picture(2)])


def test_a_list_passes_over_tables_without_pictures_beside_shards(tmp_path: Path) -> None:
    img2dataset_folder(tmp_path / "laion")
    (tmp_path / "all.txt").write_text("laion/*\nlaion/00000.parquet\nlaion/00001.tar\n")
    assert len(pictures_of(tmp_path / "all.txt")) == 6


def test_a_folder_of_nothing_but_tables_without_pictures_says_which_columns_there_are(tmp_path: Path) -> None:
    write_parquet(tmp_path / "t/a.parquet", {"url": ["x"], "caption": ["y"]})
    with pytest.raises(InputError, match="url") as caught:
        plan_units([str(tmp_path / "t")])
    assert "caption" in str(caught.value) and "\n" not in str(caught.value)


# COCO


SPELLINGS = ["dot", "two slashes", "dot within", "dot and slashes", "up again", "backslash"]


@pytest.mark.parametrize(
    "name", ["./b.jpg", "sub//c.jpg", "sub/./c.jpg", ".//b.jpg", "sub/../b.jpg", "sub\\c.jpg"], ids=SPELLINGS
)
def test_a_coco_file_name_is_found_however_it_is_spelled(name: str, tmp_path: Path) -> None:
    write_bytes(tmp_path / "b.jpg", jpeg(1))
    write_bytes(tmp_path / "sub/c.jpg", jpeg(2))
    path = coco_file(tmp_path / "val.json", [{"id": 5, "file_name": name}, {"id": 6, "file_name": "b.jpg"}])
    (first, second) = rows_of(plan_units([str(path)]))
    assert (first["status"], first["key"], first["file_name"]) == ("ok", "5", name)
    assert first["data"] == (jpeg(2) if "c.jpg" in name else jpeg(1)) and second["data"] == jpeg(1)


def test_one_odd_entry_of_a_coco_file_costs_its_own_row(tmp_path: Path) -> None:
    write_bytes(tmp_path / "in/b.jpg", jpeg(1))
    write_bytes(tmp_path / "secret.jpg", jpeg(2))
    images = [
        {"id": 1, "file_name": "b.jpg"},
        {"id": 2, "file_name": "../secret.jpg"},
        {"id": 3, "file_name": "https://host/x.jpg"},
        {"id": "4", "file_name": "b.jpg"},
        {"id": 5.0, "file_name": ""},
        {"id": 6, "file_name": None},
        {"id": 7, "file_name": "sub"},
        {"id": 8, "file_name": "x" * 300 + ".jpg"},
    ]
    write_bytes(tmp_path / "in/sub/c.jpg", jpeg(3))
    rows = rows_of(plan_units([str(coco_file(tmp_path / "in/val.json", images))]))
    assert [row["key"] for row in rows] == [str(number) for number in range(1, 9)]
    assert [row["key"] for row in rows if row["status"] == "ok"] == ["1", "4"]
    assert all(row["error"] and row["data"] is None for row in rows if row["status"] != "ok")


@pytest.mark.parametrize("identity", ["img-b", 1.5, "1.5", None, [1]])
def test_a_coco_id_that_is_no_number_is_named(identity: Any, tmp_path: Path) -> None:
    write_bytes(tmp_path / "b.jpg", jpeg(1))
    with pytest.raises(InputError, match=re.escape(repr(identity))) as caught:
        plan_units([str(coco_file(tmp_path / "val.json", [{"id": identity, "file_name": "b.jpg"}]))])
    assert "id" in str(caught.value) and "\n" not in str(caught.value)


# Lists and single files


def test_single_files_group_as_folders_do(tmp_path: Path) -> None:
    for number in range(96):
        write_bytes(tmp_path / f"in/{number:02d}.png", good_picture(number % 7))
    names = [str(tmp_path / f"in/{number:02d}.png") for number in range(96)]
    (unit,) = plan_units(names)
    assert [file.key for file in unit.files] == [f"{number:02d}" for number in range(96)]
    assert len(plan_units([*names[:50], str(tmp_path / "in")])) == 1


class _Server(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/dead"):
            self.send_error(404)
            return
        super().do_GET()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    """A server of `tmp_path/www`."""
    for number in range(3):
        write_bytes(tmp_path / f"www/{number:05d}.png", good_picture(number))
    write_bytes(tmp_path / "www/image", good_picture(5))
    write_bytes(tmp_path / "www/s.tar", tar_bytes({"t.png": good_picture(6)}))
    handler = functools.partial(_Server, directory=str(tmp_path / "www"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_a_list_of_urls_as_people_have_them(website: str, tmp_path: Path) -> None:
    lines = [
        f"{website}/00000.png?width=300&auto=webp",
        f"{website}/image?id=7",
        f"{website}/image",
        f"{website}/s.tar?download=true",
    ]
    (tmp_path / "urls.txt").write_text("\n".join(lines))
    rows = rows_of(plan_units([str(tmp_path / "urls.txt")]))
    assert [row["status"] for row in rows] == ["ok"] * len(rows), [row["error"] for row in rows]
    expected = [good_picture(0), good_picture(5), good_picture(5), good_picture(6)]
    assert sorted(row["data"] for row in rows) == sorted(expected)
    assert len({row["key"] for row in rows}) >= 3 and all(row["key"] for row in rows)


def test_one_dead_line_of_a_list_costs_its_own_row(website: str, tmp_path: Path) -> None:
    write_bytes(tmp_path / "here.png", good_picture(4))
    lines = [f"{website}/00000.png", f"{website}/dead.png", "nowhere.png", "here.png", f"{website}/00001.png"]
    lines += ["nothing://x/a.png", "zip://a.png::gone.zip", "folder/*.png", "http://[::1/a.png", "here.png/below.png"]
    (tmp_path / "urls.txt").write_text("\n".join(lines))
    rows = rows_of(plan_units([str(tmp_path / "urls.txt")]))
    assert [row["data"] for row in rows if row["status"] == "ok"] == [good_picture(0), good_picture(4), good_picture(1)]
    bad = [row for row in rows if row["status"] != "ok"]
    assert {row["status"] for row in bad} <= {"missing", "unreadable"} and len(bad) == 4
    assert {row["file_name"].rpartition("/")[2] for row in bad} == {"dead.png", "nowhere.png", "a.png", "below.png"}


def test_brace_ranges_expand_as_webdataset_writes_them(website: str, tmp_path: Path) -> None:
    for number in range(12):
        write_bytes(tmp_path / f"s/{number:05d}.tar", tar_bytes({f"k{number}.png": good_picture(number % 7)}))
    assert len(plan_units([f"{tmp_path}/s/{{00000..00009}}.tar"])) == 10
    assert len(plan_units([f"{tmp_path}/s/{{00003,00011}}.tar"])) == 2
    (tmp_path / "all.txt").write_text(f"s/{{00000..00002}}.tar\n{website}/{{00000..00002}}.png\n")
    rows = rows_of(plan_units([str(tmp_path / "all.txt")]))
    assert [row["status"] for row in rows] == ["ok"] * 6


def test_a_file_whose_name_holds_braces_is_that_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "{0..3}.png", good_picture(1))
    write_bytes(tmp_path / "a{b,c}.png", good_picture(2))
    names = [str(tmp_path / name) for name in ("{0..3}.png", "a{b,c}.png")]
    assert pictures_of(*names) == {"{0..3}": good_picture(1), "a{b,c}": good_picture(2)}


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_files_are_images_where_pillow_reads_them(tmp_path: Path) -> None:
    write_bytes(tmp_path / "in/a.avif", avif())
    write_bytes(tmp_path / "in/s.tar", tar_bytes({"b.avif": avif()}))
    assert pictures_of(tmp_path / "in") == {"a": avif(), "b": avif()}

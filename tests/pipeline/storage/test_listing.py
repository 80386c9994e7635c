"""Local files as folders of links, odd names and globs hold them; what is a chain of filesystems and what a name."""

import os
from pathlib import Path

import pytest
from odd_inputs import circle_of_links, link, write_bytes

from scclip.pipeline.storage import files as storage
from scclip.pipeline.storage.files import canonical, from_root, list_files, listing
from scclip.pipeline.storage.ranges import FilesystemMissing, filesystem
from scclip.pipeline.storage.retries import StorageError, redact


def test_every_real_folder_is_entered_once_and_the_way_without_links_names_it(tmp_path: Path) -> None:
    write_bytes(tmp_path / "in/z/real.png", b"1")
    link(tmp_path / "in/a/to", "../z")
    link(tmp_path / "in/b", "/proc/self/cwd/nowhere")
    link(tmp_path / "in/c", "../outside")
    write_bytes(tmp_path / "outside/x.png", b"2")
    link(tmp_path / "outside/back", tmp_path)
    found = listing(f"{tmp_path}/in/../in//")
    assert found.root == f"{tmp_path}/in" and [kind for kind, _ in found.odd] == ["links that lead nowhere"]
    assert {file.path: file.url for file in found.files} == {
        "z/real.png": f"{tmp_path}/in/z/real.png",
        "c/x.png": f"{tmp_path}/outside/x.png",
    }


def test_a_link_to_a_file_keeps_its_name_and_tells_its_target(tmp_path: Path) -> None:
    write_bytes(tmp_path / "blobs/1", b"123")
    link(tmp_path / "in/a.png", "../blobs/1")
    link(tmp_path / "there", "in")
    (file,) = list_files(str(tmp_path / "there"))
    assert (file.url, file.target, file.size) == (f"{tmp_path}/in/a.png", f"{tmp_path}/blobs/1", 3)
    assert canonical(f"{tmp_path}/there/../there/a.png") == file.url and storage.info(file.url).target == file.target


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a.png"]),
        ("**", ["a.png", "sub/b.png", "sub/deep/c.png"]),
        ("**/*.png", ["a.png", "sub/b.png", "sub/deep/c.png"]),
        ("**/deep/*.png", ["sub/deep/c.png"]),
        ("s?b/**/[a-c].png", ["sub/b.png", "sub/deep/c.png"]),
        ("*/b.png", ["sub/b.png"]),
        ("sub/../*/../a.*", ["a.png"]),
        ("[!a]*/**.png", ["sub/b.png"]),
        ("*/nothing/*", []),
    ],
)
def test_globs_find_what_they_match(pattern: str, expected: list[str], tmp_path: Path) -> None:
    for name in ("a.png", "sub/b.png", "sub/deep/c.png"):
        write_bytes(tmp_path / "[in]" / name, b"x")
        storage.create(f"memory://{tmp_path}/{name}", b"x")
    assert [file.url for file in list_files(f"{tmp_path}/[in]/{pattern}")] == [f"{tmp_path}/[in]/{n}" for n in expected]
    if ".." not in pattern:
        found = [file.url for file in list_files(f"memory://{tmp_path}/{pattern}")]
        assert found == [f"memory://{tmp_path}/{name}" for name in expected]


def test_a_glob_tells_the_markers_on_its_way(tmp_path: Path) -> None:
    for place in (str(tmp_path), f"memory://{tmp_path}"):
        for name in ("a/run.json", "a/x/b.png", "c/x/d.png", "c/x/run.json.png"):
            storage.create(f"{place}/{name}", b"x")
        found = listing(f"{place}/*/*/*.png", ("run.json",))
        assert [file.path for file in found.files] == ["a/x/b.png", "c/x/d.png", "c/x/run.json.png"]
        assert [(file.path, file.url) for file in found.markers] == [("a/run.json", f"{place}/a/run.json")]


def test_folders_that_may_not_be_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "in/closed/a.png", b"x")
    write_bytes(tmp_path / "in/b.png", b"x")
    scan = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = listing(str(tmp_path / "in"))
    assert [file.path for file in found.files] == ["b.png"]
    assert found.odd == [("folders that may not be read", f"{tmp_path}/in/closed")]


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    circle_of_links(tmp_path / "x")
    with pytest.raises(StorageError, match="a pipe"):
        storage.info(str(tmp_path / "pipe.png"))
    with pytest.raises(StorageError, match=r"ring\.png"):
        storage.info(str(tmp_path / "x/photos/ring.png"))


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/a/b::c", "/a/b::c"),
        ("file:///a/b::c", "/a/b::c"),
        ("/a/zip::b://c", "/a/zip::b://c"),
        ("s3::x", f"{os.getcwd()}/s3::x"),
        ("memory://a::b/c", "/a::b/c"),
    ],
)
def test_colons_are_part_of_a_path(url: str, path: str) -> None:
    assert filesystem(url)[1] == path


def test_workers_find_what_a_person_names_from_the_current_folder() -> None:
    here = os.getcwd()
    names = {"out/": f"{here}/out", "../out": f"{here}/../out", ".": f"{here}/.", "a::b": f"{here}/a::b", "/": "/"}
    names |= {name: name for name in ("/out", "~/out", "s3://bucket/out", "file:///out", "memory://out")}
    assert {name: from_root(name) for name in names} == names


def test_an_unknown_protocol_is_named() -> None:
    for url in ("nothing://a", "a::b://c"):
        with pytest.raises(FilesystemMissing, match=r"not known: (nothing|a)"):
            filesystem(url)


def test_messages_can_be_printed_whatever_the_name() -> None:
    assert redact(os.fsdecode(b"/in/caf\xe9.png")) == "/in/caf\\xe9.png"
    assert redact("é \ud800 日本") == "é \\ud800 日本"

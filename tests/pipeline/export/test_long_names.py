"""Names of many bytes or of none: every image is in its export exactly once, in files that a file system can hold."""

import os
from pathlib import Path

import pytest
from export_readers import FILE_FORMATS, FORMATS, assert_whole, exported, pictures
from stand_in_runs import numbered, stand_in_run, write_folder, write_parquet, write_tar

LIMIT = 255  # bytes of a file's name, on ext4, XFS, APFS and NTFS
LONG = {
    "a tar's key of 300 characters": ["k" * 300 + ".png", "k" * 300 + "2.png", "k" * 299 + ".png"],
    "80 Chinese characters": ["街" * 80 + ".png", "街" * 79 + "道.png"],
    "as long as a file system allows": ["e" * (LIMIT - 4) + ".png", "é" * 125 + ".png", "e" * (LIMIT - 5) + ".jfif"],
    "folders": ["/".join(["f" * 200] * 6) + "/x.png", "/".join(["f" * 200] * 7) + "/x.png", "é" * 200 + "/x.png"],
    "emoji of four bytes": ["🦊" * 63 + ".png", "🦊" * 60 + "街.png", "🦊" * 100 + ".png"],
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", LONG)
def test_bytes_of_a_name_count_and_not_its_characters(folder: Path, name: str, kind: str) -> None:
    run = stand_in_run(folder / "run", [write_tar(folder / "in.tar", numbered(LONG[name]))])
    assert_whole(run, range(1, len(LONG[name]) + 1), [kind])
    for path in (folder / f"run-{kind}").rglob("*"):
        assert len(os.fsencode(path.name)) <= LIMIT


@pytest.mark.parametrize("name", ["80 Chinese characters", "as long as a file system allows", "emoji of four bytes"])
def test_names_that_a_file_system_accepts_stay_as_they_are(folder: Path, name: str) -> None:
    """A name of up to 255 bytes is a file's name in the export as well: what is written first counts its bytes too."""
    names = [text for text in LONG[name] if len(text.encode()) <= LIMIT]
    write_folder(folder / "in", numbered(names))
    output = exported(stand_in_run(folder / "run", [folder / "in"]), "coco")
    assert {path.name for path in (output / "images/train").iterdir()} == set(names)


def test_an_empty_key_is_no_name(folder: Path) -> None:
    """A Parquet id of no characters, or of white space alone, names nothing: the row does."""
    keys = ["", "a", None, " ", "", "\u200b"]
    run = stand_in_run(folder / "run", [write_parquet(folder / "in.parquet", keys, range(len(keys)))])
    assert_whole(run, range(len(keys)))
    for kind in FILE_FORMATS:
        names = [path.stem for path in pictures(folder / f"run-{kind}").iterdir()]
        assert all(name.strip(". \u200b") for name in names) and len(names) == len(keys) and "a" in names

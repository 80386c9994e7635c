"""Every image of a run is in its export exactly once, with its own label, whatever names Hypothesis thinks of.

Names of tar members, of files (of any bytes), and keys of Parquet rows. Pictures carry numbers, as in test_odd_names.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from export_readers import FORMATS, READERS, exported, masks
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from stand_in_runs import numbered, scratch_folder, stand_in_run, write_folder, write_parquet, write_tar

LIMIT = 255  # bytes of a file's name
WORDS = st.sampled_from(
    [
        *("a", "b", "dog", "A", "é", "e\u0301", "_", "~", " ", "a ", "#1", "100%", "a#2", "a~1-0", "con"),
        *("10.22.33", "t 12:30", "t 12_30", "a::b", "a\\b", "a\nb", "a\tb", "[1]", "*", "?", "{a,b}", "\u200c"),
        *("images", "labels", "train", "..", ".", "", "__x__", ".h", "a.png", "a.txt", "a.json", "seg", "a.seg"),
        *("街" * 90, "x" * 250, "🦊" * 62, "y" * 300),
    ]
)
CHARACTERS = st.characters(exclude_characters="/\0", exclude_categories=["Cs"])
PARTS = st.one_of(WORDS, st.text(CHARACTERS, max_size=12), st.builds("{}.{}".format, WORDS, WORDS))
EXTENSIONS = st.sampled_from(["png", "png", "jpg", "JPG", "jpeg", "jfif", "gif", "webp", "bmp", "tif"])
TAGS = ("seg", "mask", "label", "depth", "argmax", "conf")  # KEY.TAG.png is a label, no picture


def is_picture(name: str) -> bool:
    """What the README says: a name before the extension, no leading dot, no label's tag."""
    stem = name.rpartition("/")[2].rpartition(".")[0]
    front, dot, tag = stem.rpartition(".")
    return bool(stem) and not stem.startswith(".") and not (front and dot and tag.lower() in TAGS)


NAMES = st.builds(
    lambda parts, extension: "/".join(parts) + "." + extension, st.lists(PARTS, min_size=1, max_size=3), EXTENSIONS
).filter(is_picture)


def fits(name: str) -> bool:
    """Whether a file below a folder can have this name: parts of 1 to 255 bytes that are no dots alone, not hidden."""
    parts = name.split("/")
    return all(part and not part.startswith(".") and len(os.fsencode(part)) <= LIMIT for part in parts)


def apart(names: list[str]) -> bool:
    """Whether no file stands where another name needs a folder."""
    folders = {name[:place] for name in names for place, letter in enumerate(name) if letter == "/"}
    return not folders & set(names)


FILE_NAMES = NAMES.filter(fits)
RAW = st.text(st.one_of(CHARACTERS, st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)), min_size=1, max_size=9)
RAW_NAMES = st.builds("{}.{}".format, RAW, EXTENSIONS).filter(is_picture).filter(fits)
ODD = settings(
    derandomize=True,
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # the same few names on every run
    suppress_health_check=[HealthCheck.too_slow],
)


def check_everywhere(inputs: Sequence[Path], count: int, run: Path) -> None:
    """Label → export in every format → its own reader: each image once; so have the masks."""
    stand_in_run(run, inputs)
    values = list(range(1, count + 1))
    problems = []
    for kind in FORMATS:
        try:
            output = exported(run, kind, "--val", "0.3")
            found = sorted(READERS[kind](output))
            if found != [(value, value) for value in values]:
                problems.append(f"{kind}: {found}")
        except Exception as error:
            problems.append(f"{kind}: {error!r}")
    if (counted := Counter(masks(run))) != Counter(values):
        problems.append(f"masks: {counted}")
    assert not problems, "\n".join(problems)


@ODD
@given(st.lists(st.lists(NAMES, min_size=1, max_size=8), min_size=1, max_size=3))
@example([["t 12:30.png", "t 12_30.png"], ["t 12:30.png"]])
@example([["a.png", "a.png/b.png", "a.png"]])
def test_any_names_of_tars_give_each_image_exactly_once(shards: list[list[str]]) -> None:
    with scratch_folder() as folder:
        first, tars = 1, []
        for names in shards:
            tars.append(write_tar(folder / f"{len(tars)}.tar", numbered(names, first)))
            first += len(names)
        check_everywhere(tars, first - 1, folder / "run")


def check_files(names: list[str]) -> None:
    with scratch_folder() as folder:
        write_folder(folder / "in", numbered(names))
        check_everywhere([folder / "in"], len(names), folder / "run")


@ODD
@given(st.lists(FILE_NAMES, min_size=1, max_size=10, unique=True).filter(apart))
@example(["dog.jpg", "dog.png", "10.22.33.png", "10.22.34.png"])
def test_any_names_of_files_give_each_image_exactly_once(names: list[str]) -> None:
    check_files(names)


@ODD
@given(st.lists(RAW_NAMES, min_size=1, max_size=10, unique=True).filter(apart))
@example(["caf\udce9.png", "caf\\xe9.png", "caf\u00e9.png"])
def test_any_bytes_of_file_names_give_each_image_exactly_once(names: list[str]) -> None:
    """Names that are no UTF-8 as well: Latin-1 from old disks and archives."""
    check_files(names)


@ODD
@given(st.lists(st.one_of(st.none(), PARTS, st.text(max_size=6)), min_size=1, max_size=10))
@example(["", " ", None, "000000002"])
def test_any_keys_of_parquet_rows_give_each_image_exactly_once(keys: list[str | None]) -> None:
    with scratch_folder() as folder:
        write_parquet(folder / "in.parquet", keys, range(1, len(keys) + 1))
        check_everywhere([folder / "in.parquet"], len(keys), folder / "run")

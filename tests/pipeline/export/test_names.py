"""Names of files and of tar members: unique, of few enough bytes, and plain keys as they are."""

import re
import unicodedata
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scclip.pipeline.annotations.schemas import ImageRecord
from scclip.pipeline.export.formats.yolo import YoloExporter
from scclip.pipeline.export.names import FileNames, NameRules, hash_of
from scclip.pipeline.run.names import tar_names

CHARACTERS = st.one_of(st.sampled_from("aAÉé./\\:~01_ \n"), st.characters(exclude_categories=["Cs"]))
PARTS = st.sampled_from(
    ["a", "a.png", "images", "a~1-0", "a~0", ".", "..", "", "x" * 254, "街" * 85, "f" * 300, "s.PNG"]
)
KEYS = st.lists(st.one_of(st.text(CHARACTERS, max_size=8), st.lists(PARTS, max_size=5).map("/".join)), max_size=12)
EXTENSIONS = ["png", "jpeg", "GIF", "webp", ""]
SAMPLE = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")  # webdataset.tariterators.base_plus_ext


@pytest.mark.parametrize("rules", [NameRules(), YoloExporter.name_rules], ids=["files", "yolo"])
@settings(derandomize=True, max_examples=300, deadline=None)
@given(keys=KEYS)
@example(keys=["a", "A", "e\u0301", "é", "É"])
@example(keys=["x" * 300, "x" * 299, "x" * 251, "/".join("y" * 8) * 50])
def test_names_of_files_are_apart(rules: NameRules, keys: list[str]) -> None:
    files = [f"{key}.{EXTENSIONS[place % 5]}".rstrip(".") for place, key in enumerate(keys)]
    counts = Counter(hash_of(rules.name(*pair)) for pair in zip(keys, files, strict=True))
    names = FileNames(rules=rules, repeated=sorted(value for value, count in counts.items() if count > 1))
    rows = zip(keys, files, strict=True)
    images = [
        ImageRecord(key=key, file_name=file, index=place // 2, unit=place % 2) for place, (key, file) in enumerate(rows)
    ]
    found = [names.of(image) for image in images]
    assert len({unicodedata.normalize("NFC", name.casefold()) for name in found}) == len(keys)
    written = {f"{name}.{extension}" for name in found for extension in ("png", "jpeg", "webp", "txt")}
    folders = {name[:place] for name in found for place, letter in enumerate(name) if letter == "/"}
    assert not {name.casefold() for name in written} & {name.casefold() for name in folders}
    for name, file in zip(found, files, strict=True):
        longest = max(4, rules.extension_bytes(file))
        parts = name.split("/")
        assert all(0 < len(part.encode()) <= 255 for part in parts) and len(parts[-1].encode()) + longest <= 255
        assert len(name.encode()) + longest < 1000 and name.isprintable() and not re.search(r"[\\:]", name)
        assert not any(part.startswith(".") or not part.strip(" .") for part in parts)
        assert not rules.folders & set(parts[:-1])


@settings(derandomize=True, max_examples=300, deadline=None)
@given(keys=KEYS)
@example(keys=["", "____"])
@example(keys=["a.b", "a_b", "a_b~0", "a_b~1", "__x__/1", "-__x__/1", "a\nb"])
def test_names_in_tars_are_samples_of_their_own(keys: list[str]) -> None:
    status = ["ok" if place % 5 else "empty" for place in range(len(keys))]
    images = pa.table({"key": pa.array(keys, pa.string()), "index": range(len(keys)), "status": status})
    names = tar_names(images)
    assert sorted(names) == [place for place in range(len(keys)) if place % 5]
    samples = [SAMPLE.match(f"{name}.seg.png") for name in names.values()]
    assert [match and match.groups() for match in samples] == [(name, "seg.png") for name in names.values()]
    assert len(set(names.values())) == len(names)
    assert not any(re.match(r"__[^/]*__($|/)", f"{name}.seg.png") for name in names.values())


@pytest.mark.parametrize("key", ["000001", "a/b c", "v1.2/x.y", "Straße-3_x (1)", "街/道", "x" * 251, "a~b", "con"])
def test_plain_keys_are_their_own_names(key: str) -> None:
    image = ImageRecord(key=key, file_name=f"{key}.png", index=3, unit=1)
    assert FileNames(rules=NameRules()).of(image) == key


def test_marks_say_unit_and_index() -> None:
    names = FileNames(rules=NameRules(), repeated=[hash_of("t 12_30")])
    images = [ImageRecord(key="t 12:30", file_name="t 12:30.png", index=index, unit=2) for index in range(2)]
    assert [names.of(image) for image in images] == ["t 12_30~2-0", "t 12_30~2-1"]

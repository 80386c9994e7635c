"""What is too large for an image is one row of its own, the same from every kind of input, and is not read."""

from pathlib import Path
from typing import Any

import pytest
from pictures import encoded, tar_bytes
from stand_in_runs import write_folder

from scclip.pipeline.annotations.schemas import Status, records_of
from scclip.pipeline.inputs import refusals
from scclip.pipeline.inputs.chunks import ChunkLimits, EncodedImage
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.readers import image_files
from scclip.pipeline.inputs.readers.unit import read_unit

SMALL, LARGE = encoded(1, (16, 16)), encoded(2, (240, 240))


def read(path: Path, truth: str | None = None) -> list[EncodedImage]:
    units = plan_units([str(path)])
    chunks = [chunk for unit in units for chunk in read_unit(unit, ChunkLimits(), truth=truth)]
    return [image for chunk in chunks for image in records_of(chunk.images, EncodedImage)]


def write_input(kind: str, path: Path) -> Path:
    """A small picture with a large label, a large one with a small label, and a small one with a small label."""
    pictures = {"a": (SMALL, LARGE), "b": (LARGE, SMALL), "c": (SMALL, SMALL)}
    files = {f"{key}.{end}": both[end == "seg"] for key, both in pictures.items() for end in ("png", "seg")}
    if kind == "tar":
        path.with_suffix(".tar").write_bytes(tar_bytes(files))
        return path.with_suffix(".tar")
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        images, labels = zip(*pictures.values(), strict=True)
        table = {"key": list(pictures), "image": pa.array(images), "seg": pa.array(labels)}
        pq.write_table(pa.table(table), path.with_suffix(".parquet"))
        return path.with_suffix(".parquet")
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["tar", "parquet", "folder"])
def test_every_reader_has_the_same_limit(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_input(kind, tmp_path / "in")
    assert [bytes(image.data or b"") for image in read(path)] == [SMALL, LARGE, SMALL]
    for module in (refusals, image_files):
        monkeypatch.setattr(module, "MAX_BODY", len(LARGE) - 1)
    for truth in (None, "seg"):
        first, large, last = read(path, truth)
        assert (large.key, large.data, large.status) == ("b", None, Status.TOO_LARGE)
        assert large.error == f"{len(LARGE):,} bytes; at most {len(LARGE) - 1:,} are read"
        assert [first.status, last.status, bytes(last.data or b"")] == [Status.OK, Status.OK, SMALL]
        assert first.truth is None and bytes(last.truth or b"") == (SMALL if truth else b"")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "small.png").write_bytes(SMALL)
    huge, small = read(tmp_path)
    assert huge.status == Status.TOO_LARGE and bytes(small.data or b"") == SMALL


def test_no_more_bytes_are_read_ahead_than_memory_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "in", [(f"{number:02d}.png", number) for number in range(40)])
    (unit,) = plan_units([str(tmp_path / "in")])
    size, reading, most = max(file.size for file in unit.files), set[int](), 0
    usual = image_files._read_file

    def counted(index: int, *given: Any) -> EncodedImage:
        reading.add(index)
        return usual(index, *given)

    def indices() -> list[int]:
        nonlocal most
        found = []
        for image in image_files.ImageFilesReader().read(unit, image_files.ResumePoint(), None):
            most = max(most, len(reading))
            reading.discard(image.index)
            found.append(image.index)
        return found

    monkeypatch.setattr(image_files, "_read_file", counted)
    monkeypatch.setattr(image_files, "BYTES_AHEAD", 3 * size)
    assert indices() == list(range(40)) and most <= 3 * size // min(file.size for file in unit.files)
    monkeypatch.setattr(image_files, "BYTES_AHEAD", 1)  # one larger than all is read alone
    most = 0
    assert indices() == list(range(40)) and most == 1

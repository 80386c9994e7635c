"""Units read whole against units read on from every chunk; plain against gzip; joins wherever the sidecars stand."""

import gzip
import io
import json
import os
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scclip.pipeline.inputs.chunks import ENCODED_SCHEMA, Chunk, ChunkLimits
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.readers.unit import read_unit
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.storage import files as storage
from scclip.pipeline.storage.retries import StorageError


def png(width: int = 4, height: int = 3, value: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, entries: list[tuple[str, bytes]], *, ending: bool = True) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in entries:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
        length = tar.offset
    data = buffer.getvalue() if ending else buffer.getvalue()[:length]
    path.write_bytes(gzip.compress(data) if path.name.endswith("gz") else data)
    return str(path)


def one_unit(path: str | Path, **options: Any) -> Unit:
    (unit,) = plan_units([str(path)], **options)
    return unit


def rows_of(unit: Unit, limits: ChunkLimits | None = None, **options: Any) -> list[dict[str, Any]]:
    """All images of a unit as dictionaries; checks the shape of the chunks on the way."""
    chunks = list(read_unit(unit, limits or ChunkLimits(), **options))
    assert all(chunk.images.schema.equals(ENCODED_SCHEMA) for chunk in chunks)
    assert all(chunk.to_arrow().num_rows == 1 and Chunk.from_arrow(chunk.to_arrow()) == chunk for chunk in chunks)
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert [chunk.number for chunk in chunks] == list(range(len(chunks))) and len(chunks[-1].images) == 0
    return [row for chunk in chunks for row in chunk.images.to_pylist()]


def mixed_tar(path: Path) -> str:
    """All that is odd at once: interleaved, early, late, duplicate and orphan members, several images of a sample."""
    generator = random.Random(1)
    entries: list[tuple[str, bytes]] = [("early.json", b'{"early": 1}')]
    for number in range(20):
        name, image = f"{number:03d}", png(generator.randrange(1, 30), 20, number)
        sidecars = [(f"{name}.json", json.dumps({"n": number}).encode()), (f"{name}.seg.png", png(2, 2, number))]
        generator.shuffle(sidecars)
        if number % 3 == 0:  # beside it
            entries += [(f"{name}.png", image), *sidecars] if number % 2 else [*sidecars, (f"{name}.png", image)]
        else:
            entries.append((f"{name}.png", image))
            entries = entries + sidecars if number % 3 == 1 else sidecars + entries
    entries += [
        ("early.jpg", b"no image"),
        ("two.jpg", b"1"),
        ("two.gif", b"2"),
        ("two.txt", b"both"),
        ("two.jpg", b"3"),
    ]
    entries += [("photo.v2.jpg", b"4"), ("photo.json", b'{"shared": true}'), ("._a.jpg", b"mac"), ("x.pkl", b"cos")]
    return write_tar(path, entries)


LIMITS = [ChunkLimits(images=1), ChunkLimits(images=4), ChunkLimits(encoded_bytes=400), ChunkLimits(pixels=700)]


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("kind", ["mixed.tar", "mixed.tgz", "files", "table.parquet"])
def test_reading_on_from_every_chunk_equals_reading_whole(tmp_path: Path, kind: str, limits: ChunkLimits) -> None:
    if kind == "files":
        for number in range(26):
            (tmp_path / f"{number}.png").write_bytes(png(number + 1, 20))
        unit = one_unit(tmp_path)
    elif kind.endswith("parquet"):
        table = pa.table({"image": [png(number % 9 + 1, 20) for number in range(43)]})
        pq.write_table(table, tmp_path / kind, row_group_size=5)
        unit = one_unit(tmp_path / kind)
    else:
        unit = one_unit(mixed_tar(tmp_path / kind))
    whole = list(read_unit(unit, limits, truth="seg.png"))
    assert len(whole) > 4
    for done in range(len(whole)):
        start = whole[done - 1].resume if done else None
        assert (start.chunk if start else 0) == done
        rest = list(read_unit(unit, limits, frozenset(range(done)), start, "seg.png"))
        assert rest == whole[done:]
    holes = frozenset([0, 1, 3])
    assert list(read_unit(unit, limits, holes, whole[1].resume, "seg.png")) == [whole[2], *whole[4:]]


@pytest.mark.parametrize("kind", ["plain.tar", "plain.tgz", "files", "table.parquet"])
def test_what_killed_its_reader_costs_a_file_or_the_rest_of_a_shard(tmp_path: Path, kind: str) -> None:
    pictures, limits = [png(number + 1, 20) for number in range(10)], ChunkLimits(images=4)
    if kind == "files":
        for number, data in enumerate(pictures):
            (tmp_path / f"{number}.png").write_bytes(data)
        unit = one_unit(tmp_path)
    elif kind.endswith("parquet"):
        pq.write_table(pa.table({"image": pictures}), tmp_path / kind)
        unit = one_unit(tmp_path / kind)
    else:
        unit = one_unit(write_tar(tmp_path / kind, [(f"{n}.png", data) for n, data in enumerate(pictures)]))
    announced = list[int | None]()

    def careful(index: int | None) -> str | None:
        announced.append(index)
        return "it died" if index == 6 else None

    whole, found = rows_of(unit, limits), rows_of(unit, limits, careful=careful)
    assert announced[:4] == [0, None, 1, None] and found[:6] == whole[:6]
    assert (found[6]["index"], found[6]["status"], found[6]["error"]) == (6, "killed_worker", "it died")
    assert found[7:] == (whole[7:] if kind == "files" else [])
    if kind != "files":  # a chunk behind was committed by an earlier job
        chunks = list(read_unit(unit, limits, {2}, careful=careful))
        assert [(chunk.number, len(chunk.images), chunk.last) for chunk in chunks] == [
            (0, 4, False), (1, 2, False), (3, 1, False), (4, 0, True),
        ]  # fmt: skip


def test_chunks_close_where_the_limits_say(tmp_path: Path) -> None:
    sizes = [(10, 10), (20, 10), (40, 40), (10, 10), (10, 10), (10, 20)]
    images = [png(*size) for size in sizes]
    unit = one_unit(write_tar(tmp_path / "a.tar", [(f"{n}.png", image) for n, image in enumerate(images)]))

    def lengths(**limits: int) -> list[int]:
        return [len(chunk.images) for chunk in read_unit(unit, ChunkLimits(**limits))][:-1]

    assert lengths() == [6]
    assert lengths(images=4) == [4, 2]
    assert lengths(pixels=300) == [2, 1, 2, 1] and lengths(pixels=400) == [2, 1, 3]
    assert lengths(encoded_bytes=len(images[0]) + len(images[1])) == [2, 1, 2, 1]
    with pytest.raises(ValueError, match="images is 0"):
        ChunkLimits(images=0)


def test_samples_are_joined_wherever_their_members_stand(tmp_path: Path) -> None:
    plain = rows_of(one_unit(mixed_tar(tmp_path / "a.tar")), truth=".seg.png")
    zipped = rows_of(one_unit(mixed_tar(tmp_path / "a.tar.gz")), truth="seg.png")
    assert plain == zipped == rows_of(one_unit(tmp_path / "a.tar"), ChunkLimits(images=1), truth="seg.png")
    assert [row["index"] for row in plain] == list(range(25))
    numbered = {row["key"]: row for row in plain if row["key"].isdigit()}
    assert len(numbered) == 20
    for key, row in numbered.items():
        assert json.loads(row["metadata"]) == {"n": int(key)} and row["truth"] == png(2, 2, int(key))
    named = [(row["key"], row["file_name"], json.loads(row["metadata"])) for row in plain if not row["key"].isdigit()]
    assert named == [
        ("early", "early.jpg", {"early": 1}),
        ("two", "two.jpg", {"txt": "both"}),
        ("two", "two.gif", {"txt": "both"}),
        ("two", "two.jpg", {"txt": "both"}),
        ("photo.v2", "photo.v2.jpg", {"shared": True}),
    ]
    assert all(row["truth"] is None for row in rows_of(one_unit(tmp_path / "a.tar")))


def test_metadata_is_json_whatever_the_sidecars_hold(tmp_path: Path) -> None:
    deep = b"[" * 100_000
    sidecars = [
        b'{"a": NaN, "b": "\\ud800"}',
        b"[1, 2]",
        b"nonsense",
        deep,
        b" " * (2**20 + 1),
        b"\xff\xfe",
        b"9" * 9999,
    ]
    entries = [pair for n, data in enumerate(sidecars) for pair in [(f"{n}.jpg", b"x"), (f"{n}.json", data)]]
    entries += [("t.jpg", b"x"), ("t.txt", b"caf\xc3\xa9 \xff"), ("t.cls", b"7")]
    found = [json.loads(row["metadata"]) for row in rows_of(one_unit(write_tar(tmp_path / "a.tar", entries)))]
    assert found[0] == {"a": None, "b": "\ud800"} and found[1] == {"json": [1, 2]}
    assert all(list(value) == ["json_note"] for value in found[2:7])
    assert found[7] == {"txt": "café �", "cls": "7"}


@pytest.mark.parametrize("order", ["images first", "sidecars first", "images alone", "long names"])
def test_a_large_shard_finds_its_late_sidecars_too(tmp_path: Path, order: str) -> None:
    long = "x" * 120 if order == "long names" else ""
    images = [(f"{long}{n}.jpg", os.urandom(400_000)) for n in range(16)]
    sidecars = [(f"{long}{n}.txt", b"%d" % n) for n in range(16)]
    entries = {"sidecars first": sidecars + images, "images alone": images}.get(order, images + sidecars)
    rows = rows_of(one_unit(write_tar(tmp_path / "a.tar", entries)))
    expected = [None] * 16 if order == "images alone" else [json.dumps({"txt": str(n)}) for n in range(16)]
    assert [row["metadata"] for row in rows] == expected


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_broken_shard_gives_its_good_images_and_one_row_that_says_why(tmp_path: Path, suffix: str) -> None:
    entries = [("a.png", png()), ("b.png", png(5, 5)), ("c.png", png(6, 6))]
    path = tmp_path / f"x{suffix}"
    unit = one_unit(write_tar(path, entries, ending=False))
    for limits in (ChunkLimits(), ChunkLimits(images=1), ChunkLimits(images=3)):
        rows = rows_of(unit, limits)
        assert [row["status"] for row in rows] == ["ok"] * 3 + ["bad_shard"]
        assert "end blocks are missing" in rows[-1]["error"] and rows[-1]["file_name"] == path.name
        chunks = list(read_unit(unit, limits))
        for number, chunk in enumerate(chunks[:-1], 1):
            assert list(read_unit(unit, limits, range(number), chunk.resume)) == chunks[number:]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - (800 if suffix == ".tar" else 30)])
    rows = rows_of(one_unit(path))
    assert [row["status"] for row in rows][-1] == "bad_shard" and len(rows) <= 3
    path.write_bytes(b"<!DOCTYPE html> not found")
    (row,) = rows_of(one_unit(path))
    assert row["status"] == "bad_shard" and "not a tar: starts with b'<!DOCTYPE html>" in row["error"]


def test_dangerous_members_do_nothing(tmp_path: Path) -> None:
    path, outside = tmp_path / "evil.tar", tmp_path / "outside.png"
    outside.write_bytes(png())
    with tarfile.open(path, "w") as tar:
        for name, kind in [("link.png", tarfile.SYMTYPE), ("device.jpg", tarfile.CHRTYPE), ("link", tarfile.SYMTYPE)]:
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, str(outside)
            tar.addfile(header)
        for name in ["../../up.png", "/etc/abs.png", "x.pkl", "folder.png/in.png"]:
            header = tarfile.TarInfo(name)
            header.size = len(png())
            tar.addfile(header, io.BytesIO(png()))
    rows = rows_of(one_unit(path))
    assert [row["key"] for row in rows] == ["link", "device", "../../up", "/etc/abs", "folder.png/in"]
    assert [row["status"] for row in rows] == ["unsupported"] * 2 + ["ok"] * 3
    assert rows[0]["data"] is None and "link.png is a link" in rows[0]["error"]
    assert sorted(os.listdir(tmp_path)) == ["evil.tar", "outside.png"]


def test_a_shard_that_vanished_or_changed_is_one_row_in_the_first_missing_chunk(tmp_path: Path) -> None:
    path = Path(write_tar(tmp_path / "a.tar", [(f"{n}.png", png()) for n in range(5)]))
    unit, limits = one_unit(path), ChunkLimits(images=1)
    chunks = list(read_unit(unit, limits))
    write_tar(path, [("other.png", png())] * 9)
    (row,) = rows_of(unit)
    assert (
        (row["status"], row["index"]) == ("changed", 0) and "planned with" in row["error"] and "found" in row["error"]
    )
    after = list(read_unit(unit, limits, {0, 1, 3, 5}, chunks[1].resume))
    assert [(chunk.number, chunk.images["index"].to_pylist()) for chunk in after] == [(2, [2]), (4, []), (6, [])]
    assert after[-1].last
    path.unlink()
    (row,) = rows_of(unit)
    assert row["status"] == "missing" and "a.tar is gone" in row["error"]


def test_a_shard_that_changes_while_it_is_read_is_never_completed(tmp_path: Path) -> None:
    path = Path(write_tar(tmp_path / "a.tar", [(f"{n}.png", png()) for n in range(5)]))
    reading = read_unit(one_unit(path), ChunkLimits(images=1))
    next(reading)
    path.write_bytes(path.read_bytes() + b"\0" * 512)
    with pytest.raises(StorageError, match="has changed"):
        list(reading)


def test_plain_files_report_each_change_and_take_their_truth_from_beside(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "a.png"):
        (tmp_path / name).write_bytes(name.encode())
    unit = one_unit(tmp_path, truth="png")
    assert [file.file_name for file in unit.files] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    (tmp_path / "b.jpg").write_bytes(b"longer than it was")
    (tmp_path / "c.jpg").unlink()
    rows = rows_of(unit, truth="png")
    assert [row["status"] for row in rows] == ["ok", "changed", "missing", "ok"]
    assert [row["truth"] for row in rows] == [b"a.png", None, None, None] and rows[0]["data"] == b"a.jpg"


def test_parquet_rows_with_keys_metadata_nulls_and_truth(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    images = [
        {"bytes": png(), "path": "x/a.b.png"},
        {"bytes": None, "path": "gone.png"},
        None,
        {"bytes": b"", "path": None},
    ]
    columns = {"image": images, "caption": ["one", None, "three", "four"], "score": [1.5, float("nan"), 2.0, 3.0]}
    pq.write_table(pa.table({**columns, "mask": [b"m", None, b"", b"n"]}), path, row_group_size=3)
    rows = rows_of(one_unit(path), truth="mask")
    assert [row["key"] for row in rows] == ["x/a.b", "gone", "000000002", "000000003"]
    assert [row["status"] for row in rows] == ["ok", "unreadable", "unreadable", "ok"]
    assert rows[0]["data"] == png() and rows[0]["truth"] == b"m" and rows[0]["file_name"] == "x/a.b.png"
    assert json.loads(rows[0]["metadata"]) == {"caption": "one", "score": 1.5}
    assert json.loads(rows[1]["metadata"]) == {"score": None} and "is not followed" in rows[1]["error"]

    pq.write_table(pa.table({"id": [7, 8], "jpg": [b"1", b"2"], "file_name": ["f.jpg", None]}), path)
    rows = rows_of(one_unit(path))
    assert [(row["key"], row["file_name"]) for row in rows] == [("7", "f.jpg"), ("8", "8")]


def test_broken_parquet_is_rows_that_say_so(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"image": [os.urandom(500) for _ in range(20)]}), path, row_group_size=5, compression="snappy"
    )
    data = bytearray(path.read_bytes())
    second = pq.ParquetFile(path).metadata.row_group(1).column(0)
    begin = second.dictionary_page_offset or second.data_page_offset
    data[begin : begin + 40] = b"\xff" * 40
    path.write_bytes(data)
    rows = rows_of(one_unit(path))
    assert [row["index"] for row in rows if row["status"] == "ok"] == [*range(5), *range(10, 20)]
    assert [row["index"] for row in rows if row["status"] == "bad_shard"] == [5, 6, 7, 8, 9]
    assert all(row["error"].startswith("rows 5 to 9 cannot be read: ") for row in rows[5:10])
    path.write_bytes(b"PAR1 garbage PAR1")
    (row,) = rows_of(one_unit(path))
    assert row["status"] == "bad_shard" and "not a Parquet file" in row["error"]
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), path)
    assert rows_of(one_unit(path)) == []


def test_the_limit_holds_for_every_kind_and_from_every_chunk(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    for number in range(6):
        (tmp_path / "f" / f"{number}.png").write_bytes(png())
    pq.write_table(pa.table({"image": [png()] * 6}), tmp_path / "t.parquet", row_group_size=2)
    for source in (
        write_tar(tmp_path / "a.tar", [(f"{n}.png", png()) for n in range(6)]),
        tmp_path / "f",
        tmp_path / "t.parquet",
    ):
        unit = one_unit(source, limit=4)
        chunks = list(read_unit(unit, ChunkLimits(images=3)))
        assert [len(chunk.images) for chunk in chunks] == [3, 1, 0]
        assert list(read_unit(unit, ChunkLimits(images=3), {0}, chunks[0].resume)) == chunks[1:]


def test_a_shard_in_memory_reads_as_on_disk(tmp_path: Path) -> None:
    local = one_unit(mixed_tar(tmp_path / "a.tar"))
    storage.create("memory://shards/a.tar", (tmp_path / "a.tar").read_bytes())
    assert rows_of(one_unit("memory://shards/*.tar"), truth="seg.png") == rows_of(local, truth="seg.png")


@pytest.mark.parametrize("name", ["a.Seg.PNG", "a.seg.png", "a.SEG.PNG"])
def test_truth_beside_a_file_is_found_in_its_own_case(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(png())
    (tmp_path / name).write_bytes(b"truth")
    (row,) = rows_of(one_unit(tmp_path, truth="Seg.PNG"), truth="Seg.PNG")
    assert row["truth"] == b"truth"

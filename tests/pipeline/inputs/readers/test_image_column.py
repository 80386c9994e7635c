"""The column that --image-column names, what is said where it cannot be read, and which column is taken without it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from odd_inputs import good_picture, rows_of
from odd_tables import damage_column, image_columns, spark_images, write_parquet
from pictures import picture

from scclip.pipeline.inputs.decoding import DecodeConfig, decode_image
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.readers.parquet import ParquetReader
from scclip.pipeline.inputs.readers.table_rows import NoImageColumn, TableColumns, find_column
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.storage.files import info

IMAGES = [good_picture(1), good_picture(2)]


def draft(path: Path, column: str | None) -> Unit:
    file = info(str(path))
    return Unit(kind="parquet", url=file.url, size=file.size, version=file.version, image_column=column)


def table_rows(path: Path, column: str | None = None, truth: str | None = None) -> list[dict[str, Any]]:
    return rows_of(ParquetReader().plan(draft(path, column)), truth)


@pytest.mark.parametrize("name", ["photo", "image.jpg", "Bild Nr. 1", "é", "caption"])
@pytest.mark.parametrize("kind", image_columns([b"x"]))
def test_any_name_and_type_is_read(name: str, kind: str, tmp_path: Path) -> None:
    columns = {"id": ["a", "b"], "image": [good_picture(8)] * 2, name: image_columns(IMAGES)[kind]}
    rows = table_rows(write_parquet(tmp_path / "a.parquet", columns), name)
    assert [row["data"].rstrip(b"\0") for row in rows] == [image.rstrip(b"\0") for image in IMAGES]
    assert [row["key"] for row in rows] == ["a", "b"] and {row["metadata"] for row in rows} == {
        '{"id": "a"}',
        '{"id": "b"}',
    }


def test_a_list_tells_how_many_images_it_holds(tmp_path: Path) -> None:
    lists = [[{"bytes": IMAGES[0], "path": "x/a.png"}, {"bytes": IMAGES[1], "path": "x/b.png"}], [], None, [None]]
    rows = table_rows(write_parquet(tmp_path / "a.parquet", {"pictures": lists}), "pictures")
    assert [row["status"] for row in rows] == ["ok", "unreadable", "unreadable", "unreadable"]
    assert rows[0]["data"] == IMAGES[0] and rows[0]["file_name"] == "x/a.png" and rows[0]["key"] == "x/a"
    assert json.loads(rows[0]["metadata"]) == {"images_in_row": 2} and rows[1]["metadata"] is None
    assert rows[1]["error"] == "the list of images is empty" and rows[3]["error"] == "the image is null"


def test_sparks_image_struct_under_another_name(tmp_path: Path) -> None:
    scenes = [picture(1, (20, 31)), picture(2, (7, 5))]
    rows = table_rows(write_parquet(tmp_path / "a.parquet", {"picture": spark_images(scenes)}), "picture")
    for row, scene in zip(rows, scenes, strict=True):
        np.testing.assert_array_equal(decode_image(row["data"], DecodeConfig()).rgb, scene)
    assert [row["file_name"] for row in rows] == ["file:///data/s0.png", "file:///data/s1.png"]


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"data": None}, "unreadable", "null"),
        ({"data": b"", "height": -1, "width": -1, "mode": -1}, "unreadable", "null"),
        ({"data": b"12345"}, "undecodable", "20 rows, 31 columns and 3 channels has 5 bytes"),
        ({"height": 0}, "undecodable", "0 rows"),
        ({"height": None}, "undecodable", "None rows"),
        ({"mode": 21}, "unsupported", "mode 21"),
    ],
)
def test_an_image_struct_that_holds_no_image_says_why(
    change: dict[str, Any], status: str, reason: str, tmp_path: Path
) -> None:
    good = spark_images([picture(1, (20, 31))])
    cells = pa.array([good[0].as_py() | change, good[0].as_py()], good.type)
    rows = table_rows(write_parquet(tmp_path / "a.parquet", {"image": cells}))
    assert [row["status"] for row in rows] == [status, "ok"] and reason in rows[0]["error"]


def test_an_absent_column_is_named_with_the_first_of_those_that_there_are(tmp_path: Path) -> None:
    columns = {"image": IMAGES} | {f"c{number}": [1, 2] for number in range(69)}
    path = write_parquet(tmp_path / "a.parquet", columns)
    with pytest.raises(
        NoImageColumn, match=r"^no column 'photo' for --image-column; columns: image: binary, c0.*62 more$"
    ):
        ParquetReader().plan(draft(path, "photo"))
    with pytest.raises(NoImageColumn, match=r"^--image-column 'c3' is int64; it must hold bytes"):
        ParquetReader().plan(draft(path, "c3"))
    pq.write_table(pq.read_table(path).drop_columns("image"), path)
    with pytest.raises(
        NoImageColumn, match=r"^no image column; name it with --image-column; columns: c0: int64.*61 more$"
    ):
        ParquetReader().plan(draft(path, None))


def test_single_images_come_before_lists_and_structs() -> None:
    structs = pa.list_(pa.struct([("bytes", pa.binary())]))
    schema = pa.schema(
        [("caption", pa.string()), ("image", structs), ("image", pa.string()), ("png", pa.binary_view())]
    )
    assert TableColumns.of(schema, None, None) == TableColumns(3, None, {0: "caption", 1: "image", 2: "image"})
    assert TableColumns.of(schema.remove(3), None, None).image == 1


def test_columns_of_bytes_are_not_read_unless_they_are_asked_for() -> None:
    schema = pa.schema([("jpg", pa.binary()), ("mask", pa.binary()), ("id", pa.binary()), ("raw", pa.binary(9))])
    assert TableColumns.of(schema, None, None) == TableColumns(0, None, {2: "id"})
    assert TableColumns.of(schema, "raw", "Mask") == TableColumns(3, 1, {2: "id"})


def test_a_column_is_found_by_its_own_name_first() -> None:
    names = ["Mask", "mask", "Seg.PNG", "LABEL", "label"]
    for wanted, place in {
        "Mask": 0,
        "mask": 1,
        ".MASK": 1,
        "seg.png": 2,
        "LABEL": 3,
        "Label": 4,
        "depth": None,
    }.items():
        assert find_column(names, wanted) == place
    assert find_column(["Label", "LABEL"], "label") is None


def test_rows_whose_image_cannot_be_read_keep_key_and_metadata(tmp_path: Path) -> None:
    columns = {"image": [good_picture(row % 5) for row in range(30)], "id": [f"k{row}" for row in range(30)]}
    path = write_parquet(tmp_path / "a.parquet", columns, row_group_size=10)
    damage_column(path, "image", group=1)
    (unit,) = plan_units([str(path)])
    rows = rows_of([unit])
    assert [row["status"] for row in rows] == ["ok"] * 10 + ["bad_shard"] * 10 + ["ok"] * 10
    assert [row["index"] for row in rows] == list(range(30)) and [row["key"] for row in rows] == columns["id"]
    assert len({row["error"] for row in rows}) == 2 and json.loads(rows[12]["metadata"]) == {"id": "k12"}
    part = dataclasses.replace(unit, row_start=13, row_stop=22)
    assert [row["key"] for row in rows_of([part])] == columns["id"][13:22]


def test_binary_keys_are_text(tmp_path: Path) -> None:
    columns = {"image": IMAGES, "id": [b"one", b"caf\xe9"], "file_name": [b"x/a.png", None]}
    rows = table_rows(write_parquet(tmp_path / "a.parquet", columns))
    assert [(row["key"], row["file_name"]) for row in rows] == [("one", "x/a.png"), ("caf\\xe9", "caf\\xe9")]

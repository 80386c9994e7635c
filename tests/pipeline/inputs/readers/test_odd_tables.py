"""Parquet files with columns that nobody asked for, image columns of every type, and what a broken cell costs."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from odd_inputs import good_picture, rows_of
from odd_tables import (
    CAFE,
    CAFE_BYTES,
    damage_column,
    image_columns,
    odd_columns,
    spark_images,
    text_of,
    write_parquet,
)
from pictures import picture
from PIL import Image

from scclip.pipeline.inputs.decoding import DecodeConfig, decode_image
from scclip.pipeline.inputs.plan import plan_units

ROWS = 100
ODD_COLUMNS = tuple(odd_columns(1))
IMAGE_TYPES = tuple(image_columns([b"x"]))


def table_rows(path: Path, truth: str | None = None) -> list[dict[str, Any]]:
    """All rows of this table, in order."""
    return rows_of(plan_units([str(path)]), truth)


@pytest.mark.parametrize("column", ODD_COLUMNS)
def test_a_column_that_nobody_asked_for_costs_no_image(column: str, tmp_path: Path) -> None:
    images = [good_picture(seed % 7) for seed in range(ROWS)]
    columns = {"image": images, "caption": ["a cat"] * ROWS, "odd": odd_columns(ROWS)[column]}
    rows = table_rows(write_parquet(tmp_path / "a.parquet", columns, row_group_size=40))
    assert [row["status"] for row in rows] == ["ok"] * ROWS and [row["data"] for row in rows] == images
    assert [row["index"] for row in rows] == list(range(ROWS))
    for row in rows:
        assert json.loads(row["metadata"])["caption"] == "a cat"


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("year-30000", "30025-05-02"),
        ("berlin-9999", "9999-12-31 23:59:59"),
        ("not-utf8", "caf"),
        ("zone-pdt", "1970-01-01"),
    ],
    ids=["year-30000", "berlin-9999", "not-utf8", "zone-pdt"],
)
def test_what_arrow_can_say_of_such_a_value_is_kept_as_text(column: str, text: str, tmp_path: Path) -> None:
    odd = odd_columns(1)[column]
    (row,) = table_rows(write_parquet(tmp_path / "a.parquet", {"image": [good_picture(1)], "odd": odd}))
    value = json.loads(row["metadata"] or "{}").get("odd")
    assert value is None or value.startswith(text)


def test_ordinary_metadata_reads_as_it_always_did(tmp_path: Path) -> None:
    columns = {
        "image": [good_picture(1)],
        "n": pa.array([3]),
        "x": [0.5],
        "nan": [float("nan")],
        "yes": [True],
        "when": pa.array([0], pa.timestamp("us")),
        "day": pa.array([1], pa.date32()),
        "words": [["a", "b"]],
        "box": [{"w": 1, "raw": b"x"}],
        "raw": [b"left out"],
    }
    (row,) = table_rows(write_parquet(tmp_path / "a.parquet", columns))
    assert json.loads(row["metadata"]) == {
        "n": 3, "x": 0.5, "nan": None, "yes": True, "when": "1970-01-01 00:00:00", "day": "1970-01-02",
        "words": ["a", "b"], "box": {"w": 1, "raw": None},
    }  # fmt: skip


def test_one_bad_caption_of_a_hundred_loses_no_image(tmp_path: Path) -> None:
    captions = pa.array([CAFE_BYTES if row == 70 else b"fine" for row in range(ROWS)], pa.binary()).view(pa.string())
    images = [good_picture(seed % 7) for seed in range(ROWS)]
    rows = table_rows(write_parquet(tmp_path / "a.parquet", {"image": images, "caption": captions}))
    assert [row["status"] for row in rows] == ["ok"] * ROWS and [row["data"] for row in rows] == images
    assert {json.loads(row["metadata"])["caption"] for n, row in enumerate(rows) if n != 70} == {"fine"}


@pytest.mark.parametrize("column", ["id", "file_name", "path in the struct"])
def test_a_key_that_is_no_utf8_is_kept_as_tars_keep_it(column: str, tmp_path: Path) -> None:
    names = text_of(CAFE_BYTES + b".png", 2)
    images: Any = [good_picture(1), good_picture(2)]
    columns: dict[str, Any] = {"image": images, column: names}
    if column not in ("id", "file_name"):
        columns = {"image": pa.StructArray.from_arrays([pa.array(images, pa.binary()), names], ["bytes", "path"])}
    rows = table_rows(write_parquet(tmp_path / "a.parquet", columns))
    assert [row["status"] for row in rows] == ["ok", "ok"] and [row["data"] for row in rows] == images
    assert {row["key"] for row in rows} == {f"{CAFE}.png" if column == "id" else CAFE}


def test_a_broken_metadata_column_costs_metadata_alone(tmp_path: Path) -> None:
    images = [good_picture(seed % 7) for seed in range(30)]
    columns = {"image": images, "caption": [f"c{row}" for row in range(30)], "n": list(range(30))}
    path = write_parquet(tmp_path / "a.parquet", columns, row_group_size=10)
    damage_column(path, "caption", group=1)
    rows = table_rows(path)
    assert [row["status"] for row in rows] == ["ok"] * 30 and [row["data"] for row in rows] == images
    assert [json.loads(row["metadata"])["n"] for row in rows] == list(range(30))


def test_a_column_name_that_is_no_utf8_costs_no_image(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"image": [good_picture(1)], "cafX": ["x"]}, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"cafX", CAFE_BYTES))
    (row,) = table_rows(path)
    assert row["status"] == "ok" and row["data"] == good_picture(1)


def test_columns_of_one_name_cost_no_image(tmp_path: Path) -> None:
    images = pa.array([good_picture(1)], pa.binary())
    twice = pa.Table.from_arrays([images, pa.array(["a"]), pa.array(["b"])], ["image", "caption", "caption"])
    pq.write_table(twice, tmp_path / "a.parquet")
    (row,) = table_rows(tmp_path / "a.parquet")
    assert row["status"] == "ok" and row["data"] == good_picture(1)


def test_an_empty_id_is_no_key(tmp_path: Path) -> None:
    images = [good_picture(1)] * 3
    columns = {"image": images, "id": ["", "b", ""], "file_name": ["x/a.png", "x/b.png", ""]}
    rows = table_rows(write_parquet(tmp_path / "a.parquet", columns))
    assert all(row["key"] for row in rows) and rows[0]["key"] == "x/a" and rows[1]["key"] == "b"
    assert all(row["file_name"] for row in rows)


@pytest.mark.parametrize("kind", IMAGE_TYPES)
def test_image_columns_of_every_binary_type_are_read(kind: str, tmp_path: Path) -> None:
    images = [good_picture(1), good_picture(2), good_picture(1)]
    rows = table_rows(write_parquet(tmp_path / "a.parquet", {"image": image_columns(images)[kind]}))
    assert [row["status"] for row in rows] == ["ok"] * 3
    for row, image in zip(rows, images, strict=True):
        assert row["data"].rstrip(b"\0") == image.rstrip(b"\0")
        assert decode_image(row["data"], DecodeConfig()).rgb.shape == (20, 30, 3)


@pytest.mark.parametrize("kind", ["dictionary", "view", "fixed", "struct of view"])
def test_nulls_in_such_columns_stay_rows(kind: str, tmp_path: Path) -> None:
    column = image_columns([good_picture(1), good_picture(1)])[kind]
    column = pa.concat_arrays([column, pa.nulls(1, column.type)])
    rows = table_rows(write_parquet(tmp_path / "a.parquet", {"image": column}))
    assert [row["status"] for row in rows] == ["ok", "ok", "unreadable"]


@pytest.mark.parametrize("large", [False, True], ids=["list", "large list"])
def test_a_list_of_images_gives_its_image(large: bool, tmp_path: Path) -> None:
    structs = image_columns([good_picture(1), good_picture(2)])["struct"]
    offsets = pa.array([0, 1, 1, 2], pa.int64() if large else pa.int32())
    lists = (pa.LargeListArray if large else pa.ListArray).from_arrays(offsets, structs)
    rows = table_rows(write_parquet(tmp_path / "a.parquet", {"image": lists}))
    assert [row["data"] for row in rows] == [good_picture(1), None, good_picture(2)]
    assert [row["status"] for row in rows] == ["ok", "unreadable", "ok"] and rows[1]["error"]


@pytest.mark.parametrize("kind", [0, 16, 24], ids=["grey", "BGR", "BGRA"])
def test_sparks_image_struct_gives_its_pixels(kind: int, tmp_path: Path) -> None:
    scenes = [picture(1, (20, 31)), picture(2, (7, 5))]  # rows that are no multiple of four bytes
    if kind == 0:
        scenes = [np.repeat(scene[:, :, :1], 3, axis=2) for scene in scenes]
    path = write_parquet(tmp_path / "a.parquet", {"image": spark_images(scenes, kind)})
    rows = table_rows(path)
    assert [row["status"] for row in rows] == ["ok", "ok"]
    for row, scene in zip(rows, scenes, strict=True):
        np.testing.assert_array_equal(decode_image(row["data"], DecodeConfig()).rgb, scene)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row["data"])).convert("RGB")), scene)


@pytest.mark.parametrize("name", ["Annotation", "Seg.PNG", "label_Mask"])
def test_a_truth_column_with_a_capital_is_found(name: str, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"image": [good_picture(1)], name: [b"truth"]})
    (row,) = table_rows(path, truth=name)
    assert row["truth"] == b"truth" and name not in json.loads(row["metadata"] or "{}")


def test_a_truth_column_is_the_one_of_exactly_this_name(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"image": [good_picture(1)], "mask": [b"small"], "Mask": [b"large"]})
    assert table_rows(path, truth="Mask")[0]["truth"] == b"large"
    assert table_rows(path, truth="mask")[0]["truth"] == b"small"


@pytest.mark.parametrize("kind", IMAGE_TYPES)
def test_truth_columns_of_every_binary_type_are_read(kind: str, tmp_path: Path) -> None:
    truth = [good_picture(3), good_picture(4)]
    columns = {"image": [good_picture(1), good_picture(2)], "annotation": image_columns(truth)[kind]}
    rows = table_rows(write_parquet(tmp_path / "a.parquet", columns), truth="annotation")
    assert [row["truth"].rstrip(b"\0") for row in rows] == [image.rstrip(b"\0") for image in truth]

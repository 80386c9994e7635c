"""A small Parquet file may stand for far more bytes than it has: reading it takes the memory of a few rows."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import picture
from processes import PEAK
from stand_in_runs import picture_bytes

from scclip.pipeline.annotations.schemas import records_of
from scclip.pipeline.inputs.chunks import ChunkLimits, EncodedImage
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.readers import parquet
from scclip.pipeline.inputs.readers.unit import read_unit

VALUE, ROWS, ALLOWED = 32 * 2**20, 64, 900 * 2**20  # bytes of a value; rows; bytes that reading may take, of 4 GiB
MEASURE = (
    PEAK
    + """
import sys
from scclip.pipeline.inputs.chunks import ChunkLimits
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.readers.unit import read_unit
(unit,) = plan_units([sys.argv[1]])
before = peak()
rows = sum(len(chunk.images) for chunk in read_unit(unit, ChunkLimits()))
print(rows, peak() - before)
"""
)


def repeated(kind: pa.DataType) -> pa.Array:
    """One large value in all rows, which Parquet keeps once."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(ROWS, np.int32)), pa.array([bytes(VALUE)]).cast(kind))


def columns(form: str) -> dict[str, pa.Array]:
    """The columns of a hostile file."""
    tiny = pa.array([picture_bytes(1)] * ROWS)
    if form == "image":
        return {"image": repeated(pa.binary())}
    if form == "nested":
        names = pa.array([f"{row}.png" for row in range(ROWS)])
        return {"image": pa.StructArray.from_arrays([repeated(pa.binary()), names], ["bytes", "path"])}
    if form == "list":
        values = pa.array(np.zeros(ROWS * 2**20, np.int64))
        return {"image": tiny, "list": pa.ListArray.from_arrays(np.arange(ROWS + 1, dtype=np.int32) * 2**20, values)}
    return {"image": tiny, form: repeated(pa.string() if form in ("caption", "key") else pa.binary())}


OTHERS = [pytest.param(form, marks=pytest.mark.slow) for form in ("caption", "key", "list")]


@pytest.mark.parametrize("form", ["image", "nested", "unused", *OTHERS])
def test_a_bomb_takes_the_memory_of_a_few_rows(form: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    kept = {"compression": "zstd", "dictionary_pagesize_limit": 2**30, "write_statistics": False, "store_schema": False}
    pq.write_table(pa.table(columns(form)), path, **kept)
    assert path.stat().st_size < 100_000
    run = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    rows, peak = map(int, run.stdout.split())
    assert (rows, peak < ALLOWED) == (ROWS, True), f"{peak:,} bytes"


def test_a_page_of_many_large_rows_is_held_twice_at_most(tmp_path: Path) -> None:
    """Arrow writes up to 1,024 rows to a page: its bytes, what is unpacked of them, and the memory of a few rows."""
    random, path = np.random.default_rng(0), tmp_path / "large.parquet"
    pictures = pa.array([random.bytes(VALUE) for _ in range(16)], pa.binary())
    pq.write_table(pa.table({"image": pictures}), path, compression="none", use_dictionary=False)
    run = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    rows, peak = map(int, run.stdout.split())
    assert rows == 16 and peak < 2 * 16 * VALUE + 8 * VALUE


def test_the_rows_are_those_of_one_large_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"image": [picture(seed, (8, 8)).tobytes() for seed in range(200)], "id": list(range(200))}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")

    def images() -> list[tuple[str, bytes, str | None]]:
        chunks = read_unit(plan_units([str(tmp_path / "a.parquet")])[0], ChunkLimits())
        read = (image for chunk in chunks for image in records_of(chunk.images, EncodedImage))
        return [(image.key, bytes(image.data or b""), image.metadata) for image in read]

    usual = images()
    monkeypatch.setattr(parquet, "BATCH_BYTES", 1)
    assert images() == usual and [data for _, data, _ in usual] == table["image"]


def test_a_page_that_unpacks_to_gigabytes_is_refused_whatever_the_footer_says(tmp_path: Path) -> None:
    """The sizes in the footer say some bytes: only the header of the page tells what Arrow would unpack."""
    path = tmp_path / "lying.parquet"
    value = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), pa.array([bytes(2**28 + 2**20)]))
    kept = {"compression": "zstd", "dictionary_pagesize_limit": 2**30, "write_statistics": False, "store_schema": False}
    pq.write_table(pa.table({"image": value}), path, **kept)
    data, metadata = path.read_bytes(), pq.read_metadata(path)
    said = metadata.row_group(0).column(0).total_uncompressed_size

    def varint(number: int) -> bytes:
        return bytes([*(number >> shift & 127 | 128 for shift in (0, 7, 14, 21)), number >> 28])

    folded = varint(2 * said)
    assert data.count(folded) >= 1
    path.write_bytes(data.replace(folded, varint(2 * 1000)[:4] + b"\0"))
    assert pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size == 1000
    run = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    rows, peak = map(int, run.stdout.split())
    assert rows == 1 and peak < 2**27


def test_large_columns_are_read_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty pictures of 32 MiB in one row group take the memory of a few, where each has a page of its own."""
    random, path = np.random.default_rng(0), tmp_path / "large.parquet"
    schema = pa.schema({"image": pa.binary()})
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False, write_batch_size=1) as writer:
        writer.write_table(pa.table({"image": pa.array([random.bytes(VALUE) for _ in range(20)], pa.binary())}))
    run = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    rows, peak = map(int, run.stdout.split())
    assert rows == 20 and peak < 350 * 2**20

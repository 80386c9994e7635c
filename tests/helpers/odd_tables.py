"""Columns of tables as people really bring them: odd metadata, images in every binary type, broken pages.

write_parquet(path, {"image": images, "born": odd_columns(2)["year-30000"]})
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CAFE_BYTES = b"caf\xe9"  # "café" in Latin-1: no UTF-8
CAFE = "caf\\xe9"  # the same as keys show it


def write_parquet(path: Path, columns: Mapping[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path, **options)
    return path


def odd_columns(rows: int) -> dict[str, pa.Array]:
    """Name → a column of metadata whose values Python's types cannot hold, or cannot hold without more packages."""
    date = pa.date32()

    def of(value: Any, kind: pa.DataType, plain: Any = None) -> pa.Array:
        return pa.array([value] * rows, plain or kind).cast(kind) if plain else pa.array([value] * rows, kind)

    last = 253_402_300_799 * 10**6  # 9999-12-31 23:59:59 UTC, in µs
    far = pa.array([10_247_000] * rows, pa.int32()).cast(date)
    bad = text_of(CAFE_BYTES, rows)
    offsets = pa.array(range(rows + 1), pa.int32())
    return {
        "year-30000": far,
        "least-date32": of(-(2**31), date, pa.int32()),
        "date64-30000": of(10_247_000 * 86_400_000, pa.date64(), pa.int64()),
        "berlin-9999": of(last, pa.timestamp("us", "Europe/Berlin"), pa.int64()),
        "year-1-losangeles": of(-62_135_596_800 * 10**6, pa.timestamp("us", "America/Los_Angeles"), pa.int64()),
        "timestamp-largest": of(2**63 - 1, pa.timestamp("us"), pa.int64()),
        "timestamp-ms-largest": of(2**63 - 1, pa.timestamp("ms"), pa.int64()),
        "timestamp-ns": of(1_700_000_000_123_456_789, pa.timestamp("ns"), pa.int64()),
        "zone-pdt": of(0, pa.timestamp("us", "PDT"), pa.int64()),
        "zone-nowhere": of(0, pa.timestamp("us", "Nowhere/Atlantis"), pa.int64()),
        "duration-largest": of(2**63 - 1, pa.duration("s"), pa.int64()),
        "duration-ns": of(1_000_000_001, pa.duration("ns"), pa.int64()),
        "time-ns": of(1_000_000_001, pa.time64("ns"), pa.int64()),
        "decimal256": of("1" + "0" * 60, pa.decimal256(70, 2), pa.string()),
        "not-utf8": bad,
        "not-utf8-large": bad.cast(pa.binary()).cast(pa.large_binary()).view(pa.large_string()),
        "list-of-dates": pa.ListArray.from_arrays(offsets, far),
        "struct-of-dates": pa.StructArray.from_arrays([far, bad], ["born", "name"]),
        "map-to-dates": pa.MapArray.from_arrays(offsets, of("k", pa.string()), far),
        "nulls": pa.nulls(rows),
        "half": pa.array(np.full(rows, 1.5, np.float16)),
    }


def text_of(data: bytes, rows: int) -> pa.Array:
    """A string column that holds these bytes, whatever they are: Arrow and Parquet do not look."""
    return pa.array([data] * rows, pa.binary()).view(pa.string())


def image_columns(images: Sequence[bytes]) -> dict[str, pa.Array]:
    """Name of a type → a column of that type which holds the images, all of one length for fixed_size_binary."""
    plain, paths = pa.array(images, pa.binary()), pa.array([f"p{n}.png" for n in range(len(images))])
    structs = pa.StructArray.from_arrays([plain, paths], ["bytes", "path"])
    view = plain.cast(pa.binary_view())
    coded = plain.dictionary_encode()
    longest = max(map(len, images))
    return {
        "dictionary": coded,
        "dictionary of large": plain.cast(pa.large_binary()).dictionary_encode(),
        "view": view,
        "fixed": pa.array([image.ljust(longest, b"\0") for image in images], pa.binary(longest)),
        "struct of view": pa.StructArray.from_arrays([view, paths], ["bytes", "path"]),
        "struct of dictionary": pa.StructArray.from_arrays([coded, paths], ["bytes", "path"]),
        "struct of large": pa.StructArray.from_arrays([plain.cast(pa.large_binary()), paths], ["bytes", "path"]),
        "struct": structs,
    }


def spark_images(scenes: Sequence[np.ndarray], kind: int = 16) -> pa.Array:
    """Spark's image struct of RGB scenes: OpenCV's rows of BGR (16), grey (0) or BGRA (24) bytes."""

    def pixels(scene: np.ndarray) -> bytes:
        if kind == 0:
            return scene[:, :, 0].tobytes()
        planes = scene[:, :, ::-1]
        return (np.dstack([planes, np.full(planes.shape[:2], 255, np.uint8)]) if kind == 24 else planes).tobytes()

    channels = {0: 1, 16: 3, 24: 4}[kind]
    entries = [
        {
            "origin": f"file:///data/s{number}.png",
            "height": scene.shape[0],
            "width": scene.shape[1],
            "nChannels": channels,
            "mode": kind,
            "data": pixels(scene),
        }
        for number, scene in enumerate(scenes)
    ]
    fields = [("origin", pa.string()), ("height", pa.int32()), ("width", pa.int32()), ("nChannels", pa.int32())]
    return pa.array(entries, pa.struct([*fields, ("mode", pa.int32()), ("data", pa.binary())]))


def damage_column(path: Path, column: str, group: int = 0) -> None:
    """Overwrites the pages of one column of one row group, so that Arrow cannot read them."""
    metadata = pq.ParquetFile(path).metadata.row_group(group)
    for number in range(metadata.num_columns):
        chunk = metadata.column(number)
        if chunk.path_in_schema.partition(".")[0] == column:
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            data = bytearray(path.read_bytes())
            data[start : start + 8] = b"\xff" * 8
            path.write_bytes(data)

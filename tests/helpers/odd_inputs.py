"""Files, links and folders as people really have them, and what the pipeline reads of them.

circle_of_links(folder)                     # folders that link to each other
pictures_of(folder)                         # {"a": b"…", "sub/b": b"…"}
"""

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from odd_pictures import jpeg
from odd_tables import write_parquet
from pictures import encoded, tar_bytes

from scclip.pipeline.inputs.chunks import ChunkLimits
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.readers.unit import read_unit
from scclip.pipeline.inputs.units import Unit, plan_from_table, plan_to_table

# What is read


def rows_of(units: Sequence[Unit], truth: str | None = None) -> list[dict[str, Any]]:
    """All rows of these units, after they were written to a plan and read again."""
    units = plan_from_table(plan_to_table(units))
    chunks = (chunk for unit in units for chunk in read_unit(unit, ChunkLimits(), truth=truth))
    return [row for chunk in chunks for row in chunk.images.to_pylist()]


def pictures_of(*inputs: Path | str, **options: Any) -> dict[str, bytes]:
    """Key → bytes of all images of these inputs; every row must be read, and every key be there once."""
    rows = rows_of(plan_units([str(name) for name in inputs], **options))
    assert [row["status"] for row in rows] == ["ok"] * len(rows), [row["error"] for row in rows]
    found = {row["key"]: row["data"] for row in rows}
    assert len(found) == len(rows)
    return found


# Files and links


def good_picture(seed: int) -> bytes:
    return encoded(seed, (20, 30))


def write_bytes(path: Path | str | bytes, data: bytes) -> None:
    """A file with its folders; the name may be bytes that are no UTF-8."""
    os.makedirs(os.path.dirname(os.fsencode(path)), exist_ok=True)
    with open(os.fsencode(path), "wb") as file:
        file.write(data)


def link(path: Path, target: Path | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


def hugging_face_cache(root: Path, name: str, data: bytes, *, absolute: bool = False, chain: bool = False) -> Path:
    """`snapshots/NAME`, a link to a blob without an extension, as the Hub's cache has it; the blob is older."""
    blob = root / "blobs" / f"{zlib.crc32(name.encode() + data):08x}"
    write_bytes(blob, data)
    os.utime(blob, (1_500_000_000, 1_500_000_000))
    target: Path = blob
    if chain:
        target = link(root / "refs" / name.replace("/", "-"), blob)
    path = root / "snapshots" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return link(path, target if absolute else os.path.relpath(target, path.parent))


def circle_of_links(folder: Path) -> Path:
    """`photos/` with a picture, a linked folder beside it, links into itself, to above, and one that dangles."""
    write_bytes(folder / "photos/a.png", good_picture(1))
    write_bytes(folder / "elsewhere/deep/b.png", good_picture(2))
    link(folder / "photos/linked", folder / "elsewhere")
    link(folder / "photos/again", "../elsewhere/deep")
    link(folder / "photos/self", ".")
    link(folder / "photos/up", "..")
    link(folder / "elsewhere/back", "../photos")
    link(folder / "photos/gone.png", "nowhere.png")
    link(folder / "photos/ring.png", "ring.png")
    return folder / "photos"


# Folders that others write


def img2dataset_folder(folder: Path, shards: int = 2, each: int = 3) -> Path:
    """NNNNN.tar, NNNNN.parquet without pictures and NNNNN_stats.json, as img2dataset leaves them."""
    folder.mkdir(parents=True)
    for shard in range(shards):
        keys = [f"{shard:05d}{number:04d}" for number in range(each)]
        members = {f"{key}.jpg": jpeg(number) for number, key in enumerate(keys)}
        members |= {f"{key}.json": json.dumps({"key": key, "status": "success"}).encode() for key in keys}
        (folder / f"{shard:05d}.tar").write_bytes(tar_bytes(members))
        columns = {"url": [f"http://x/{key}" for key in keys], "key": keys, "status": ["success"] * each}
        write_parquet(folder / f"{shard:05d}.parquet", columns)
        (folder / f"{shard:05d}_stats.json").write_text(json.dumps({"count": each}))
    return folder


def delta_table(folder: Path, images: Sequence[bytes]) -> Path:
    """A table as Delta and Spark leave it: a log of its own with a Parquet checkpoint, a marker, checksums."""
    write_parquet(folder / "part-00000-c000.snappy.parquet", {"image": images})
    write_parquet(folder / "_delta_log/00000000000000000010.checkpoint.parquet", {"txn": ["a"], "add": ["b"]})
    (folder / "_delta_log/00000000000000000010.json").write_text("{}")
    (folder / "_SUCCESS").write_bytes(b"")
    (folder / ".part-00000-c000.snappy.parquet.crc").write_bytes(b"crc")
    return folder


def fake_run(folder: Path) -> Path:
    """What the folder of a run holds, as far as its listing goes."""
    run = {"options": {}, "model": {}, "segmentation": {}, "vocabulary": {}, "chunk_limits": {}, "versions": {}}
    write_bytes(folder / "run.json", json.dumps(run).encode())
    for name in ("plan/gen-0001.parquet", "images/0000001.parquet", "segments/0000001.parquet"):
        write_parquet(folder / name, {"key": ["a"]})
    write_bytes(folder / "masks/0000001.tar", tar_bytes({"a.seg.png": good_picture(1)}))
    write_bytes(folder / "coco/0000001.json", b'{"images": []}')
    return folder


def fake_export(folder: Path) -> Path:
    """What the folder of an export with pictures holds."""
    export = {"options": {"format": "coco"}, "classes": {}, "thresholds": {}, "run_sha256": "0" * 64, "units": 1,
              "units_sha256": "0" * 64}  # fmt: skip
    write_bytes(folder / "export.json", json.dumps(export).encode())
    write_bytes(folder / "images/train/a.png", good_picture(1))
    write_bytes(folder / "data/train-00000.tar", tar_bytes({"a.png": good_picture(1)}))
    return folder


# COCO

COCO_CATEGORIES = [{"id": 44, "name": "bottle"}, {"id": 3, "name": "car"}]


def coco_file(path: Path, images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]] = ()) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"images": list(images), "annotations": list(annotations), "categories": COCO_CATEGORIES}
    path.write_text(json.dumps(document))
    return path


SQUARE = [10.0, 5.0, 20.0, 5.0, 20.0, 15.0, 10.0, 15.0]

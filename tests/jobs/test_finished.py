"""A finished run of 1,000 units and 100,000 images is recognised in seconds; an added shard is labeled alone."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pictures import encoded, tar_bytes
from processes import QUICK

from scclip.jobs.cli.main import main
from scclip.pipeline.annotations import coco
from scclip.pipeline.annotations.schemas import SEGMENTS_SCHEMA
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.run.files import DIGESTS_KEY, TOTALS_KEY, RunFiles, parquet_bytes
from scclip.pipeline.run.generations import read_plan, write_generation

pytestmark = [pytest.mark.scale, pytest.mark.usefixtures("local_ray")]
UNITS, IMAGES = 1000, 100


def copy_unit(files: RunFiles, unit: int) -> None:
    """Unit 1's files as those of another unit with the same images: ids moved, digests made again."""
    output, name = Path(files.output), f"{unit:07d}"
    images = pq.read_table(output / "images/0000001.parquet")
    segments = pq.read_table(output / "segments/0000001.parquet").cast(SEGMENTS_SCHEMA)
    metadata, step = dict(images.schema.metadata), (unit - 1) << 20
    images = moved(images, "image_id", step)
    images = images.set_column(
        images.schema.get_field_index("unit"),
        pa.field("unit", pa.int32(), False),
        pa.array([unit] * len(images), pa.int32()),
    )
    segments = moved(segments, "image_id", step)
    document = json.loads((output / "coco/0000001.json").read_bytes())
    again = coco.document(images, segments, categories=document["categories"], info=document["info"])
    contents = {"coco": coco.dump(again), "segments": parquet_bytes(segments, {})}
    metadata[DIGESTS_KEY] = json.dumps({kind: hashlib.sha256(d).hexdigest() for kind, d in contents.items()}).encode()
    (output / f"coco/{name}.json").write_bytes(contents["coco"])
    (output / f"segments/{name}.parquet").write_bytes(contents["segments"])
    kept = {key: metadata[key] for key in (DIGESTS_KEY, TOTALS_KEY)}
    (output / f"images/{name}.parquet").write_bytes(parquet_bytes(images, kept))


def moved(table: pa.Table, name: str, step: int) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place), pc.add(table[name], step))


def test_a_thousand_units(
    small_model: str, vocabulary_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, files = tmp_path / "in", RunFiles(str(tmp_path / "out"))
    folder.mkdir()
    data = tar_bytes({f"{seed:03d}.png": encoded(seed, (16, 16)) for seed in range(IMAGES)})
    (folder / "0001.tar").write_bytes(data)
    flags: list[Any] = ["--model", small_model, "--vocabulary", str(vocabulary_file), *QUICK]
    words = ["label", str(folder), files.output, *flags]
    assert main(words) == 0
    for number in range(2, UNITS + 1):
        (folder / f"{number:04d}.tar").write_bytes(data)
    known = read_plan(files)
    write_generation(files, known, plan_units([str(folder)], known), lambda seen: [])
    for unit in range(2, UNITS + 1):
        copy_unit(files, unit)
    capsys.readouterr()

    began = time.perf_counter()
    assert main(words) == 0
    recognised = time.perf_counter() - began
    assert "nothing to do" in capsys.readouterr().out

    began = time.perf_counter()
    assert main(["verify", files.output]) == 0
    verified = time.perf_counter() - began
    assert f"{UNITS:,} units, {UNITS * IMAGES:,} images read" in capsys.readouterr().out

    (folder / "0500-added.tar").write_bytes(tar_bytes({"a.png": encoded(7), "b.png": encoded(8)}))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/images").iterdir()}
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(pq.read_table(tmp_path / "out/images/0001001.parquet")) == 2
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert (summary["images_read"], summary["images_labeled_this_time"]) == (UNITS * IMAGES + 2, 2)
    with capsys.disabled():
        print(json.dumps({"recognised_seconds": round(recognised, 1), "verified_seconds": round(verified, 1)}))
    assert recognised < 20

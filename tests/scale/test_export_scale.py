"""The merged COCO document of 200,000 images: valid, ids unique, under 1 GB of memory (`-m scale`).

The run is a stand-in: no model, but tables by the run's own writers. Prints one JSON line.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from scclip.pipeline.annotations import coco
from scclip.pipeline.annotations.schemas import ImageRecord
from scclip.pipeline.annotations.statistics import labeled_record, part_table, split_part
from scclip.pipeline.inputs.units import Unit, plan_to_table
from scclip.pipeline.run.files import DIGESTS_KEY, TOTALS_KEY, RunFiles, parquet_bytes
from scclip.pipeline.run.totals import totals
from scclip.pipeline.storage.files import create, join
from scclip.segmentation.statistics import SegmentationSummary
from scclip.segmentation.types import Segmentation

pytestmark = pytest.mark.scale

IMAGES, UNITS, CLASSES = int(os.environ.get("SCALE_IMAGES", "200000")), 100, 20
LIMIT = 10**9  # bytes
SIZE = (120, 160)
RUN = {
    "options": {"image_ids": "plan", "save_confidence": False, "masks": "none", "exif": "apply", "limit": None},
    "model": {
        **{"method": "scclip", "model": "stand-in", "weights_sha256": "0", "precision": "float32"},
        **{"attention": None, "without": [], "quick_gelu": False, "calibration": {}},
    },
    "vocabulary": {
        "name": "stand-in",
        "background": [],
        "classes": [{"name": f"class {number}", "thing": number % 2 == 0} for number in range(1, CLASSES + 1)],
        "sha256": "0",
        **{"templates": ["{}"], "logit_scale": 40, "threshold": 0, "area_threshold": 0},
    },
    "chunk_limits": {},
    "segmentation": {"confidence_threshold": 0.0, "category_thresholds": []},
    "versions": {"scclip-pipeline": "0"},
}


def template(images: int) -> tuple[pa.Table, pa.Table]:
    """Tables of one unit, from coarse random label maps, about six classes each."""
    random, rows = np.random.default_rng(0), []
    for index in range(images):
        coarse = random.integers(1, CLASSES + 1, (2, 3)).astype(np.uint8)
        labels = np.kron(coarse, np.ones((60, 54), np.uint8))[:, : SIZE[1]]
        flat = random.integers(90, 250, SIZE).astype(np.uint8)
        maps = Segmentation(labels, labels, flat, np.roll(labels, 54, 1), flat // 2, 1.0, 0, 4)
        image = ImageRecord(image_id=index, key=f"{index:06d}", file_name=f"{index:06d}.jpg", unit=1, index=index)
        image.width, image.height, image.seconds = 160, 120, 0.1
        rows.append(labeled_record(image, SegmentationSummary.of(maps)))
    return split_part(part_table(rows))


def moved(table: pa.Table, unit: int) -> pa.Table:
    """The template's rows as another unit's."""
    ids = pa.array(table["image_id"].to_numpy() + coco.image_id(unit, 0), pa.int64())
    table = table.set_column(table.schema.get_field_index("image_id"), table.schema.field("image_id"), ids)
    if "unit" not in table.schema.names:
        return table
    for name, values in (
        ("unit", pa.array([unit] * len(table), pa.int32())),
        ("key", pa.array([f"{unit}-{key}" for key in table["key"].to_pylist()])),
    ):
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)
    return table


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("scale") / "run"
    files, (images, segments) = RunFiles(str(output)), template(IMAGES // UNITS)
    sums = json.dumps(vars(totals(images, segments))).encode()
    units = [
        Unit(number=number, kind="tar", url=f"/none/{number}.tar", size=1, version="") for number in range(1, UNITS + 1)
    ]
    create(join(str(output), "run.json"), json.dumps(RUN).encode())
    create(join(str(output), "plan", "gen-0001.parquet"), parquet_bytes(plan_to_table(units), {}))
    for unit in units:
        create(files.unit_file("segments", unit.number), parquet_bytes(moved(segments, unit.number), {}))
        metadata = {TOTALS_KEY: sums, DIGESTS_KEY: b"{}"}
        create(files.unit_file("images", unit.number), parquet_bytes(moved(images, unit.number), metadata))
    return output


def peak(process: int) -> int:
    """VmHWM of a process in bytes; 0 where it is gone."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM")), 0)


def family(parent: int) -> set[int]:
    """A process and everything it started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    found = {parent}
    while more := {process for process, above in parents.items() if above in found} - found:
        found |= more
    return found


@pytest.mark.parametrize("through_ray", [True, False])
def test_a_merged_document_of_200_000_images(stand_in: Path, tmp_path: Path, through_ray: bool) -> None:
    few = 8 if through_ray else UNITS
    words = ["export", str(stand_in), str(tmp_path / "out"), "--format", "coco", "--val", "0.1"]
    script = f"import sys, scclip.jobs.export as e, scclip.jobs.cli.main as m; e.FEW_UNITS = {few};"
    script += f"sys.exit(m.main({words!r}))"
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    began, peaks = time.monotonic(), dict[int, int]()
    job = subprocess.Popen([sys.executable, "-c", script], env=environment)
    while job.poll() is None:
        for process in family(job.pid):
            peaks[process] = max(peaks.get(process, 0), peak(process))
        time.sleep(0.2)
    seconds = time.monotonic() - began
    assert job.returncode == 0
    driver, others = peaks.pop(job.pid), max(peaks.values(), default=0)
    images, annotations = set[int](), list[int]()
    for split in ("train", "val"):
        document = json.loads((tmp_path / f"out/annotations/instances_{split}.json").read_bytes())
        own = {image["id"] for image in document["images"]}
        assert len(own) == len(document["images"]) and not own & images
        assert {annotation["image_id"] for annotation in document["annotations"]} == own
        images |= own
        annotations += [annotation["id"] for annotation in document["annotations"]]
    assert len(images) == IMAGES // UNITS * UNITS and len(annotations) == len(set(annotations)) > 3 * len(images)
    figures = {"images": len(images), "annotations": len(annotations), "seconds": round(seconds, 1)}
    memory = {"driver_mb": driver // 10**6, "largest_other_process_mb": others // 10**6, "ray": through_ray}
    print(json.dumps(figures | memory))
    assert driver < LIMIT and others < LIMIT

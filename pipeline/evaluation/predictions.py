"""Labels of an earlier run as predictions: what `scclip evaluate --labels` puts in the model's place.

    spec = find_labels(RunFiles("labels"), truth_units)
    predicted = spec.start()(decoded)     # chunks, whose images have PREDICTED_FIELDS then

An image of the truth's shards finds its labels by key: in the unit of the same shard where the run was made from these
shards, else in the whole run.
"""

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scclip.categories import Categories
from scclip.pipeline.annotations.label_map import label_map
from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.evaluation.scoring import predicted_chunk
from scclip.pipeline.inputs.chunks import Chunk
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.watch import FREE, Watch
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.fingerprint import read_run
from scclip.pipeline.run.generations import read_plan
from scclip.pipeline.storage.files import read_bytes

IDENTITY = ["image_id", "key", "index", "width", "height", "status", "error", "windows", "anomaly_tokens"]
UNITS_KEPT = 4  # of the run, in a process's memory


@dataclass(frozen=True, kw_only=True)
class LabelsSpec:
    """A run, and where it holds the labels of the truth's images."""

    run: RunFiles
    """The labeling run."""
    categories: Categories
    """Of the run."""
    same_shard: Mapping[int, tuple[int, ...]]
    """Unit of the truth → units of the run that were read from the same shard."""
    by_key: Mapping[str, tuple[int, ...]]
    """Key → units of the run that have it, for units of the truth that are not in `same_shard`."""

    def start(self) -> "LabelsReader":
        """What an actor works with."""
        return LabelsReader(self)


def find_labels(run: RunFiles, truth: Sequence[Unit]) -> LabelsSpec:
    """Where a run holds the labels for these units; reads its keys only where the shards are not its own."""
    by_url: dict[str, list[int]] = defaultdict(list)
    plan = read_plan(run)
    for unit in plan:
        if not unit.files:
            by_url[unit.url].append(unit.number)
    same = {unit.number: tuple(by_url[unit.url]) for unit in truth if not unit.files and unit.url in by_url}
    by_key: dict[str, list[int]] = defaultdict(list)
    if len(same) < len(truth):
        with ThreadPoolExecutor(16) as threads:
            keys = threads.map(lambda unit: read_identities(run, unit.number)["key"].to_pylist(), plan)
            for unit, found in zip(plan, keys, strict=True):
                for key in found:
                    by_key[key].append(unit.number)
    return LabelsSpec(
        run=run,
        categories=read_run(run).categories,
        same_shard=same,
        by_key={key: tuple(units) for key, units in by_key.items()},
    )


def read_identities(run: RunFiles, unit: int) -> pa.Table:
    """The columns IDENTITY of a unit's images/."""
    return pq.read_table(pa.BufferReader(read_bytes(run.unit_file("images", unit))), columns=IDENTITY)


class LabelsReader:
    """Looks labels up, chunk by chunk."""

    def __init__(self, spec: LabelsSpec) -> None:
        self.spec = spec
        self.images = functools.lru_cache(UNITS_KEPT)(self.load_images)
        self.segments = functools.lru_cache(UNITS_KEPT)(self.load_segments)

    def __call__(self, chunk: Chunk, watch: Watch = FREE) -> Chunk:
        """A decoded chunk → the run's labels of its images; an image that has none becomes a row that says so."""
        rows = chunk.images.drop(["rgb"]).to_pylist()
        return predicted_chunk(chunk, [self.labeled(chunk.unit, row) for row in rows])

    def labeled(self, unit: int, row: dict[str, Any]) -> dict[str, Any]:
        """An image's row with the run's labels, or why it has none."""
        if row["status"] != Status.OK:
            return row
        found = self.find(unit, row)
        if len(found) != 1:
            what = f"{len(found)} images of this key" if found else "no image of this key"
            return row | {"status": Status.NOT_LABELED, "error": f"{self.spec.run.output} holds {what}"}
        number, image = found[0]
        if image["status"] != Status.OK:
            return row | {"status": image["status"], "error": image["error"]}
        size = image["width"], image["height"]
        if size != (row["width"], row["height"]):
            error = f"its labels are {size[0]} × {size[1]} pixels, the image {row['width']} × {row['height']}"
            return row | {"status": Status.LABEL_SIZE, "error": error}
        labels = label_map(self.segments_of(number, image["image_id"]), size[1], size[0], self.spec.categories)
        measured = {name: image[name] for name in ("windows", "anomaly_tokens")}
        return row | measured | {"predictions": [np.ascontiguousarray(labels).tobytes()]}

    def find(self, unit: int, row: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
        """(unit, row of images/) of the run's images that this one can be; of equal keys that of the same place."""
        same = self.spec.same_shard.get(unit)
        units = dict.fromkeys(same or self.spec.by_key.get(row["key"], ()))
        found = [(number, image) for number in units for image in self.images(number).get(row["key"], [])]
        if same and len(found) > 1:
            found = [(number, image) for number, image in found if image["index"] == row["index"]]
        return found

    def load_images(self, unit: int) -> dict[str, list[dict[str, Any]]]:
        """Rows of images/ of a unit by key."""
        rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in read_identities(self.spec.run, unit).to_pylist():
            rows[row["key"]].append(row)
        return rows

    def load_segments(self, unit: int) -> pa.Table:
        """category_id and rle of a unit's segments."""
        source = pa.BufferReader(read_bytes(self.spec.run.unit_file("segments", unit)))
        return pq.read_table(source, columns=["image_id", "category_id", "rle"])

    def segments_of(self, unit: int, image_id: int) -> list[dict[str, Any]]:
        """The segments of one image."""
        table = self.segments(unit)
        return list(table.filter(pc.equal(table["image_id"], image_id)).to_pylist())

"""Evaluation on the labeling graph: predictions and truth in, int64 confusion matrices out.

    for outcome in label_units(units, evaluation_job): ...       # the same chain; `commit_scores` writes the parts
    totals, matrices = read_scores(files, units, scoring)        # sums over the committed units

A part holds a row per image and, in its metadata, one matrix per variant; a finished unit's file holds their sum. Both
are created once and whole, so that the sum is the same after kills, in any order and for any number of parts.
"""

import base64
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scclip.categories import Categories
from scclip.metrics import confusion, mean_iou
from scclip.pipeline.annotations import coco
from scclip.pipeline.annotations.png import png
from scclip.pipeline.annotations.schemas import CARRIED, LABELED_FIELDS, Status
from scclip.pipeline.evaluation.truth import TruthConfig, TruthError, read_truth
from scclip.pipeline.inputs.chunks import Chunk
from scclip.pipeline.inputs.decoding import decode_chunk
from scclip.pipeline.inputs.readers.unit import read_unit
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.run.commit import read_parts, write_part
from scclip.pipeline.run.files import TOTALS_KEY, RunFiles, parquet_bytes
from scclip.pipeline.run.totals import Totals, unit_metadata
from scclip.pipeline.storage.files import create, remove

if TYPE_CHECKING:
    from scclip.pipeline.labeling.job import LabelJob

CONFUSION_KEY = b"confusion"  # Parquet metadata of parts and units: packed int64 (V, C, C + 1)
IntArray = npt.NDArray[np.int64]

PREDICTED_FIELDS: list[pa.Field] = [
    *(field for field in LABELED_FIELDS if field.name in CARRIED),
    pa.field("truth", pa.large_binary()),
    pa.field("predictions", pa.list_(pa.large_binary())),
    pa.field("anomaly_tokens", pa.int32()),
    pa.field("windows", pa.int32()),
    pa.field("seconds", pa.float64()),
]
# One row per image read; measured columns are null where the status is not "ok". Lists have one entry per variant.
SCORED_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("file_name", pa.string(), nullable=False),
        pa.field("unit", pa.int32(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("orientation", pa.int8()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("truth_pixels", pa.int64()),  # those that are not ignored
        pa.field("correct_pixels", pa.list_(pa.int64())),
        pa.field("mean_iou", pa.list_(pa.float64())),  # over the classes of this image's truth and prediction
        pa.field("anomaly_tokens", pa.int32()),
        pa.field("windows", pa.int32()),
        pa.field("labels_png", pa.large_binary()),  # of the first variant, for the unit's worst images
        pa.field("seconds", pa.float64()),  # the one column that differs between equal runs
    ]
)


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How predictions are compared with the truth."""

    categories: Categories
    """Of the predictions and the truth."""
    variants: tuple[str, ...]
    """V names, in the order of the predictions."""
    truth: TruthConfig
    """What the values of the truth mean."""
    worst: int = 8
    """Images of a unit whose labels are kept for the report."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """V, C, C + 1."""
        classes = max(self.categories) + 1
        return len(self.variants), classes, classes + 1


def predicted_chunk(chunk: Chunk, rows: Sequence[Mapping[str, Any]]) -> Chunk:
    """The chunk with rows of PREDICTED_FIELDS as its images; other columns are left out."""
    return chunk.with_images(pa.Table.from_pylist(list(rows), schema=pa.schema(PREDICTED_FIELDS)))


def commit_scores(predicted: Chunk, files: RunFiles, scoring: Scoring) -> pa.Table:
    """Writes the part of a predicted chunk, once, and returns its SCORED_SCHEMA table."""
    rows, total = [], np.zeros(scoring.shape, np.int64)
    for row in predicted.images.to_pylist():
        scored, matrices = score_image(row, scoring)
        rows.append(scored | {"unit": predicted.unit, "image_id": coco.image_id(predicted.unit, row["index"])})
        total += 0 if matrices is None else matrices
    part = keep_worst(pa.Table.from_pylist(rows, schema=SCORED_SCHEMA), scoring.worst)
    write_part(predicted, files, part, {CONFUSION_KEY: pack(total)})
    return part


def score_image(row: Mapping[str, Any], scoring: Scoring) -> tuple[dict[str, Any], IntArray | None]:
    """A row of PREDICTED_FIELDS → its columns of SCORED_SCHEMA and its matrices (V, C, C + 1), None where it failed."""
    kept = {name: row[name] for name in row if name in SCORED_SCHEMA.names}
    if row["status"] != Status.OK:
        return kept, None
    shape = (row["height"], row["width"])
    try:
        truth = read_truth(row["truth"], shape, scoring.truth, scoring.categories)
    except TruthError as error:
        return kept | {"status": error.status, "error": str(error)}, None
    maps = [np.frombuffer(data, scoring.categories.dtype).reshape(shape) for data in row["predictions"]]
    matrices = np.stack([confusion(truth, labels, scoring.shape[1]) for labels in maps])
    measured = {
        "truth_pixels": int(matrices[0].sum()),
        "correct_pixels": [int(np.trace(matrix)) for matrix in matrices],
        "mean_iou": [None if np.isnan(value := mean_iou(matrix)) else value for matrix in matrices],
        "labels_png": png(maps[0]),
    }
    return kept | measured, matrices


def keep_worst(table: pa.Table, count: int) -> pa.Table:
    """The table with the labels of only the `count` images of lowest mean IoU (first variant)."""
    scores = [None if values is None else values[0] for values in table["mean_iou"].to_pylist()]
    ranked = sorted((score, place) for place, score in enumerate(scores) if score is not None)
    worst = {place for _, place in ranked[:count]}
    kept = [data if place in worst else None for place, data in enumerate(table["labels_png"].to_pylist())]
    column = SCORED_SCHEMA.get_field_index("labels_png")
    field = SCORED_SCHEMA.field(column)
    return table.set_column(column, field, pa.array(kept, field.type))


def finish_scores(unit: int, chunks: int, files: RunFiles, scoring: Scoring) -> None:
    """Turns a unit's parts into its images/ file, which commits it and carries its matrices; then removes the parts."""
    parts = read_parts(files, unit, chunks, SCORED_SCHEMA)
    if parts is None:
        return
    images = pa.concat_tables([SCORED_SCHEMA.empty_table(), *(table for table, _ in parts)])
    total = sum((unpack(metadata[CONFUSION_KEY], scoring) for _, metadata in parts), np.zeros(scoring.shape, np.int64))
    metadata = {CONFUSION_KEY: pack(total), TOTALS_KEY: json.dumps(scored_totals(images).to_dict()).encode()}
    create(files.unit_file("images", unit), parquet_bytes(keep_worst(images, scoring.worst), metadata))
    remove((files.part(unit, chunk) for chunk in range(chunks)), prune=True)


def scored_totals(images: pa.Table) -> Totals:
    """Totals of a SCORED_SCHEMA table: statuses, pixels, windows, anomaly tokens."""
    ok = images.filter(pc.equal(images["status"], Status.OK))
    width, height = (ok[name].to_numpy().astype(np.int64) for name in ("width", "height"))
    windows, anomalies = (pc.sum(ok[name]).as_py() or 0 for name in ("windows", "anomaly_tokens"))
    return Totals(
        statuses=Counter(images["status"].to_pylist()),
        pixels=int((width * height).sum()),
        windows=windows,
        anomaly_tokens=anomalies,
    )


def read_scores(files: RunFiles, units: Iterable[int], scoring: Scoring) -> tuple[Totals, IntArray]:
    """Totals and matrices (V, C, C + 1) summed over finished units, from the metadata of their images/ files."""
    totals, matrices = Totals(), np.zeros(scoring.shape, np.int64)
    with ThreadPoolExecutor(16) as threads:
        for metadata in threads.map(lambda unit: unit_metadata(files, unit), units):
            totals += Totals.from_json(metadata[TOTALS_KEY])
            matrices += unpack(metadata[CONFUSION_KEY], scoring)
    return totals, matrices


def pack(matrices: IntArray) -> bytes:
    """Matrices as text: mostly zeros, they shrink to the pairs that occur."""
    return base64.b64encode(zlib.compress(matrices.astype("<i8").tobytes()))


def unpack(data: bytes, scoring: Scoring) -> IntArray:
    """The matrices (V, C, C + 1) that `pack` wrote; ValueError for another number of variants or classes."""
    return np.frombuffer(zlib.decompress(base64.b64decode(data)), "<i8").astype(np.int64).reshape(scoring.shape)


def evaluate_here(units: Iterable[Unit], job: "LabelJob") -> None:
    """The same work in this process, without Ray and without resuming inside a unit: for a few images."""
    predict = job.spec.start()
    for unit in units:
        for chunk in read_unit(unit, job.limits, truth=job.truth):
            if chunk.last:
                job.finish(unit.number, chunk.number, job.files)
            else:
                job.commit(predict(decode_chunk(chunk, job.decode)), job.files)

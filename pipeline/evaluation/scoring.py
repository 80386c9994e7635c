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
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scclip.categories import Categories
from scclip.metrics import IntArray, confusion, mean_iou
from scclip.pipeline.annotations import coco, schemas
from scclip.pipeline.annotations.png import png
from scclip.pipeline.annotations.schemas import ImageRecord, Status, labeled_rows, records_of, schema_of, table_of
from scclip.pipeline.evaluation.truth import TruthConfig, TruthError, read_truth
from scclip.pipeline.inputs.chunks import Chunk
from scclip.pipeline.run.commit import read_parts, remove_parts, write_part
from scclip.pipeline.run.files import TOTALS_KEY, RunFiles, parquet_bytes
from scclip.pipeline.run.totals import Totals, unit_metadata
from scclip.pipeline.storage.files import create
from scclip.pipeline.storage.threads import map_threads

CONFUSION_KEY = b"confusion"  # Parquet metadata of parts and units: packed int64 (V, C, C + 1)


@dataclass(kw_only=True)
class PredictedImage(ImageRecord):
    """An image with its ground truth and what is compared with it."""

    truth: Annotated[bytes | memoryview | None, pa.large_binary(), "The file of its ground truth."] = None
    predictions: Annotated[list[bytes] | None, pa.list_(pa.large_binary()), "A label map's bytes per variant."] = None


@dataclass(kw_only=True)
class ScoredImage(ImageRecord):
    """An image that was compared with its ground truth; lists have one entry per variant."""

    truth_pixels: Annotated[int | None, pa.int64(), "Those that are not ignored."] = None
    correct_pixels: Annotated[list[int] | None, pa.list_(pa.int64()), "Those with the label of the truth."] = None
    mean_iou: Annotated[list[float | None] | None, pa.list_(pa.float64()), "Of classes in truth or prediction."] = None
    labels_png: Annotated[bytes | None, pa.large_binary(), "Of the first variant, for the unit's worst images."] = None


PREDICTED_SCHEMA = schema_of(PredictedImage)
# One row per image read; measured columns are null where the status is not "ok".
_known = schemas.IMAGES_SCHEMA.names[: schemas.IMAGES_SCHEMA.get_field_index("error") + 1]
_scores = ("truth_pixels", "correct_pixels", "mean_iou", "anomaly_tokens", "windows", "labels_png", "seconds")
SCORED_SCHEMA = pa.schema([schema_of(ScoredImage).field(name) for name in (*_known, *_scores)])
SCORED_SCHEMA = SCORED_SCHEMA.set(0, SCORED_SCHEMA.field("image_id").with_nullable(False))


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


def commit_scores(predicted: Chunk, files: RunFiles, scoring: Scoring) -> pa.Table:
    """Writes the part of a predicted chunk, once, and returns its SCORED_SCHEMA table."""
    images, total = [], np.zeros(scoring.shape, np.int64)
    for predictions in records_of(predicted.images, PredictedImage):
        image, matrices = score_image(predictions, scoring)
        images.append(image)
        total += 0 if matrices is None else matrices
    part = keep_worst(table_of(images, SCORED_SCHEMA), scoring.worst)
    write_part(predicted, files, part, {CONFUSION_KEY: pack(total)})
    return part


def score_image(predicted: PredictedImage, scoring: Scoring) -> tuple[ScoredImage, IntArray | None]:
    """The image's scores and its matrices (V, C, C + 1); None where it cannot be compared."""
    image = ScoredImage.of(predicted, image_id=coco.image_id(predicted.unit, predicted.index))
    if image.status != Status.OK or predicted.predictions is None:
        return image, None
    try:
        truth = read_truth(predicted.truth, image.shape, scoring.truth, scoring.categories)
    except TruthError as error:
        image.status, image.error = error.status, str(error)
        return image, None
    maps = [np.frombuffer(data, scoring.categories.dtype).reshape(image.shape) for data in predicted.predictions]
    matrices = np.stack([confusion(truth, labels, scoring.shape[1]) for labels in maps])
    image.truth_pixels = int(matrices[0].sum())
    image.correct_pixels = [int(np.trace(matrix)) for matrix in matrices]
    image.mean_iou = [None if np.isnan(value := mean_iou(matrix)) else value for matrix in matrices]
    image.labels_png = png(maps[0])
    return image, matrices


def keep_worst(table: pa.Table, count: int) -> pa.Table:
    """The table with the labels of only the `count` images of lowest mean IoU (first variant)."""
    scores = [values[0] if values else None for values in table["mean_iou"].to_pylist()]
    ranked = sorted((score, index) for index, score in enumerate(scores) if score is not None)
    worst = {index for _, index in ranked[:count]}
    kept = [data if index in worst else None for index, data in enumerate(table["labels_png"].to_pylist())]
    field = SCORED_SCHEMA.field("labels_png")
    return table.set_column(table.column_names.index(field.name), field, pa.array(kept, field.type))


def finish_scores(unit: int, chunks: int, files: RunFiles, scoring: Scoring) -> None:
    """Turns a unit's parts into its images/ file, which commits it and carries its matrices; then removes the parts."""
    if (parts := read_parts(files, unit, chunks, SCORED_SCHEMA)) is None:
        return
    images, packed = parts[0], [metadata[CONFUSION_KEY] for metadata in parts[1]]
    total = sum((unpack(data, scoring) for data in packed), np.zeros(scoring.shape, np.int64))
    metadata = {CONFUSION_KEY: pack(total), TOTALS_KEY: json.dumps(vars(scored_totals(images))).encode()}
    create(files.unit_file("images", unit), parquet_bytes(keep_worst(images, scoring.worst), metadata))
    remove_parts(files, unit, chunks)


def scored_totals(images: pa.Table) -> Totals:
    """Totals of a SCORED_SCHEMA table: statuses, pixels, windows, anomaly tokens."""
    ok, statuses = labeled_rows(images), Counter(images["status"].to_pylist())
    width, height = (ok[name].to_numpy().astype(np.int64) for name in ("width", "height"))
    windows, anomalies = (pc.sum(ok[name]).as_py() or 0 for name in ("windows", "anomaly_tokens"))
    return Totals(statuses=statuses, pixels=int((width * height).sum()), windows=windows, anomaly_tokens=anomalies)


def read_scores(files: RunFiles, units: Iterable[int], scoring: Scoring) -> tuple[Totals, IntArray]:
    """Totals and matrices (V, C, C + 1) summed over finished units, from the metadata of their images/ files."""
    totals, matrices = Totals(), np.zeros(scoring.shape, np.int64)
    for metadata in map_threads(lambda unit: unit_metadata(files, unit), units):
        totals += Totals.from_json(metadata[TOTALS_KEY])
        matrices += unpack(metadata[CONFUSION_KEY], scoring)
    return totals, matrices


def truth_warnings(totals: Totals, matrix: IntArray, truth: TruthConfig) -> tuple[str, ...]:
    """One warning where all truth is 0 or the highest value, as masks of a single object have it; else none.

    Args:
        totals: of all images.
        matrix: int64 (C, C + 1) of one variant over the same images.
        truth: what the values mean.
    """
    counted = int(matrix.sum())
    if truth.ignore or counted == totals.pixels or counted != matrix[truth.offset].sum():
        return ()
    share = f"{100 * (1 - counted / totals.pixels):.1f} % of the pixels are in no figure"
    values = "0 and 255 (in 16 bits 65535), and the highest value is ignored"
    return (f"the ground truth holds only {values}: {share}; write the classes as 0, 1, …",)


def pack(matrices: IntArray) -> bytes:
    """Matrices as text: mostly zeros, they shrink to the pairs that occur."""
    return base64.b64encode(zlib.compress(matrices.astype("<i8").tobytes()))


def unpack(data: bytes, scoring: Scoring) -> IntArray:
    """The matrices (V, C, C + 1) that `pack` wrote; ValueError for another number of variants or classes."""
    return np.frombuffer(zlib.decompress(base64.b64decode(data)), "<i8").astype(np.int64).reshape(scoring.shape)

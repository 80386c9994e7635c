"""The images that an evaluation got most wrong, as pictures: photo, labels and truth.

    pictures, notes = worst_pictures(files, units, scoring, truth="seg.png", exif="ignore", count=12)

Every unit keeps the labels of its own worst images, so that the worst of all are among them.
"""

import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from scclip.pipeline.evaluation.scoring import Scoring
from scclip.pipeline.evaluation.truth import read_truth
from scclip.pipeline.inputs.decoding import DecodeConfig, decode_image
from scclip.pipeline.inputs.readers.unit import read_rows
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.review.gallery import Choice, Frame, Picture, compose
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.storage.files import read_bytes
from scclip.pipeline.storage.retries import redact

SIDE = 480  # pixels of a picture's longer side
COLUMNS = ["image_id", "key", "unit", "index", "width", "height", "mean_iou"]


def worst_pictures(
    files: RunFiles, units: Sequence[Unit], scoring: Scoring, *, truth: str, exif: str, count: int
) -> tuple[list[tuple[float, Picture]], list[str]]:
    """(mean IoU in the image, picture), the worst first, and a note on every unit that cannot be read."""
    chosen = worst_images(files, units, scoring, count)
    by_unit: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in chosen:
        by_unit[row["unit"]].append(row)
    planned, frame = {unit.number: unit for unit in units}, Frame(scoring.categories, DecodeConfig(exif=exif), SIDE)
    drawn: dict[int, Picture] = {}
    notes = []
    for number, rows in by_unit.items():
        try:
            drawn |= dict(draw_unit(files, planned[number], rows, scoring, frame, truth))
        except Exception as error:  # of any storage library: a page without pictures is better than none
            reason = " ".join(redact(str(error)).split())
            notes.append(f"pictures of {redact(planned[number].url)} are missing ({type(error).__name__}: {reason})")
    return [(row["mean_iou"][0], drawn[row["image_id"]]) for row in chosen if row["image_id"] in drawn], notes


def worst_images(files: RunFiles, units: Sequence[Unit], scoring: Scoring, count: int) -> list[dict[str, Any]]:
    """The columns COLUMNS of the images with the lowest mean IoU of the first variant, the lowest first."""

    def read(unit: Unit) -> list[dict[str, Any]]:
        source = pa.BufferReader(read_bytes(files.unit_file("images", unit.number)))
        rows = [row for row in pq.read_table(source, columns=COLUMNS).to_pylist() if row["mean_iou"]]
        return worst(row for row in rows if row["mean_iou"][0] is not None)

    def worst(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(rows, key=lambda row: (row["mean_iou"][0], row["image_id"]))[: min(count, scoring.worst)]

    with ThreadPoolExecutor(16) as threads:
        found = [row for rows in threads.map(read, units) for row in rows]
    return sorted(found, key=lambda row: (row["mean_iou"][0], row["image_id"]))[:count]


def draw_unit(
    files: RunFiles, unit: Unit, rows: Sequence[Mapping[str, Any]], scoring: Scoring, frame: Frame, truth: str
) -> Iterator[tuple[int, Picture]]:
    """(image id, picture) of these images of a unit."""
    source = pa.BufferReader(read_bytes(files.unit_file("images", unit.number)))
    kept = pq.read_table(source, columns=["image_id", "labels_png"]).to_pylist()
    labels = {row["image_id"]: row["labels_png"] for row in kept}
    wanted = {row["index"]: row for row in rows}
    for image in read_rows(unit, sorted(wanted), truth):
        row = wanted.get(image["index"])
        if row is None or row["key"] != image["key"] or labels[row["image_id"]] is None:
            continue
        plane = np.asarray(Image.open(io.BytesIO(labels[row["image_id"]]))).astype(scoring.categories.dtype)
        rgb = decode_image(image["data"], frame.decode).rgb
        real = read_truth(image["truth"], plane.shape, scoring.truth, scoring.categories)
        place = {name: row[name] for name in ("image_id", "unit", "index", "key", "width", "height")}
        yield row["image_id"], compose(Choice(**place, category=0, confidence=0.0), rgb, plane, real, (), frame)

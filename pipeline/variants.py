"""The actor of an evaluation: one tower's weights, several variants of the method, one pass over the images.

    predict = VariantsSpec(base=spec, calibrations=(settings, settings.maskclip())).start()
    predicted = predict(decoded)      # one-row chunk tables, PREDICTED_FIELDS

Every variant is a `Labeler` of its own over the same weights, so that its labels are those that `scclip label` writes.
"""

import copy
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.chunks import is_sentinel, unnest
from pipeline.evaluate import predicted_chunk
from pipeline.labeling import Labeler, LabelerSpec
from pipeline.ledger import FREE, Watch
from pipeline.statistics import OK
from scclip.calibration import CalibrationConfig
from scclip.model import SelfCalibratedCLIP
from scclip.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True)
class VariantsSpec:
    """What an evaluating actor needs."""

    base: LabelerSpec
    """Weights, text features, segmenter and device."""
    calibrations: tuple[CalibrationConfig, ...]
    """The variants, in the order of the matrices."""

    def start(self) -> "VariantLabeler":
        """What an actor works with."""
        return VariantLabeler(self)


class VariantLabeler:
    """One `Labeler` per variant."""

    def __init__(self, spec: VariantsSpec) -> None:
        first = spec.base.start()
        self.labelers = [share(first, calibration) for calibration in spec.calibrations]

    def __call__(self, chunk: pa.Table, watch: Watch = FREE) -> pa.Table:
        """A decoded chunk → its predictions; an image that fails in one variant has failed."""
        if is_sentinel(chunk):
            return predicted_chunk(chunk, [])
        found = [unnest(labeler(chunk, watch)).to_pylist() for labeler in self.labelers]
        truths = unnest(chunk)["truth"].to_pylist()
        rows = [merged(list(row), truth) for *row, truth in zip(*found, truths, strict=True)]
        return predicted_chunk(chunk, rows)


def share(labeler: Labeler, calibration: CalibrationConfig) -> Labeler:
    """The same labeler, weights and all, with other settings of the method."""
    old, other = labeler.segmenter, copy.copy(labeler)
    model = SelfCalibratedCLIP(old.model.visual, calibration)
    other.segmenter = Segmenter(model, old.text_features, old.query_category, old.config)
    return other


def merged(rows: list[dict[str, Any]], truth: bytes | None) -> dict[str, Any]:
    """One image's rows of all variants as one; the first failure stands for it."""
    failed = next((row for row in rows if row["status"] != OK), None)
    predictions = None if failed else [row["labels"] for row in rows]
    seconds = sum(row["seconds"] or 0.0 for row in rows)
    return (failed or rows[0]) | {"truth": truth, "predictions": predictions, "seconds": seconds}

"""The actor of an evaluation: one tower's weights, several variants of the method, one pass over the images.

    predict = VariantsSpec(base=spec, calibrations=(settings, settings.maskclip())).start()
    predicted = predict(decoded)      # chunks, whose images have PREDICTED_FIELDS then

The tower runs once for all variants; the labels of each are those that `scclip label` writes.
"""

from dataclasses import dataclass
from typing import Any

from scclip.encoder.calibration import CalibrationConfig
from scclip.pipeline.annotations.schemas import CARRIED
from scclip.pipeline.evaluation.scoring import predicted_chunk
from scclip.pipeline.inputs.chunks import Chunk
from scclip.pipeline.labeling.labeler import Labeler, LabelerSpec, Outcome, failed_columns
from scclip.pipeline.labeling.watch import FREE, Watch


@dataclass(frozen=True, kw_only=True)
class VariantsSpec:
    """What an evaluating actor needs."""

    base: LabelerSpec
    """Weights, text features, segmenter and device."""
    calibrations: tuple[CalibrationConfig, ...]
    """The variants, in the order of the matrices."""

    def start(self) -> "VariantLabeler":
        """What an actor works with."""
        return VariantLabeler(self.base.build(self.calibrations))


class VariantLabeler(Labeler):
    """A `Labeler` that keeps the label maps of every variant and nothing else of them."""

    def __call__(self, chunk: Chunk, watch: Watch = FREE) -> Chunk:
        """A decoded chunk → its predictions."""
        return predicted_chunk(chunk, self.rows(chunk.images, watch, [*CARRIED, "truth"]))

    def describe(self, outcome: Outcome) -> dict[str, Any]:
        """The columns of one outcome; counts are those of the first variant."""
        if isinstance(outcome, Exception):
            return failed_columns(outcome)
        counts = {name: getattr(outcome[0], name) for name in ("anomaly_tokens", "windows")}
        return counts | {"predictions": [labels.labels.tobytes() for labels in outcome]}

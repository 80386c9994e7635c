"""The actor of an evaluation: one tower's weights, several variants of the method, one pass over the images.

    predict = VariantsSpec(base=spec, calibrations=(settings, settings.maskclip())).start()
    predicted = predict(decoded)      # the same chunk, its images as PredictedImage

The tower runs once for all variants; the labels of each are those that `scclip label` writes.
"""

from dataclasses import dataclass

from scclip.encoder.calibration import CalibrationConfig
from scclip.pipeline.annotations.schemas import ImageRecord
from scclip.pipeline.evaluation.scoring import PREDICTED_SCHEMA, PredictedImage
from scclip.pipeline.inputs.decoding import DecodedImage
from scclip.pipeline.labeling.labeler import LabelerSpec, MapLabeler, VariantLabels


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


class VariantLabeler(MapLabeler):
    """A `Labeler` that keeps the label maps of every variant and nothing else of them."""

    schema = PREDICTED_SCHEMA

    def describe(self, image: DecodedImage, labels: VariantLabels) -> ImageRecord:
        """The record of an image that has labels; counts are those of the first variant."""
        return PredictedImage.of(
            image,
            truth=image.truth,
            predictions=[variant.labels.tobytes() for variant in labels],
            anomaly_tokens=labels[0].anomaly_tokens,
            windows=labels[0].windows,
        )

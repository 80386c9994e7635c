"""How images are cut and scored: by what the user says, else by the vocabulary, else by the model.

    config = segmenter_config(SegmentationOptions(short_side=560), vocabulary, source, cuda=False)

Needs neither PyTorch nor open_clip.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from scclip.errors import UserError
from scclip.segmentation.types import SegmentationOptions, SegmenterConfig
from scclip.vocabulary.vocabulary import Vocabulary

if TYPE_CHECKING:
    from scclip.encoder.checkpoints import WeightsSource


def segmenter_config(
    options: SegmentationOptions, vocabulary: Vocabulary, source: "WeightsSource", cuda: bool
) -> SegmenterConfig:
    """Returns how images are cut and scored; flags win over the settings of vocabulary and model."""
    values: dict[str, Any] = {
        "logit_scale": vocabulary.logit_scale,
        "confidence_threshold": vocabulary.threshold,
        "area_threshold": vocabulary.area_threshold,
        **source.windows(),
        **{name: value for name, value in asdict(options).items() if value is not None},
    }
    if options.window_batch is None:
        whole = values.get("window") == 0  # pictures differ in size, and a batch is padded to its number
        values["window_batch"] = 1 if whole else (64 if cuda else SegmenterConfig().window_batch)
    thresholds = ((index, entry.threshold) for index, entry in enumerate(vocabulary.classes, start=1))
    own = tuple((index, threshold) for index, threshold in thresholds if threshold is not None)
    try:
        return SegmenterConfig(**values, category_thresholds=own)
    except ValueError as error:
        raise UserError(str(error)) from None

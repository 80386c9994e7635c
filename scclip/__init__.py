"""Self-Calibrated CLIP (arXiv 2411.15869): open-vocabulary segmentation without training, an image in, a label map out.

    from scclip import Segmenter

    segmenter = Segmenter.from_pretrained("ViT-B-16-quickgelu", "openai", vocabulary=["car", "road", "sky"])
    result = segmenter("photo.jpg")     # or an array, bytes, a PIL image, a URL, a list of these
    result.labels                       # (H, W) category index; also .masks, .segments, .overlay(), .to_coco()

Each of these names is imported when it is first used: `import scclip` alone loads neither PyTorch nor open_clip.
The method below (`scclip.encoder`, `scclip.vocabulary`, `scclip.segmentation`) knows neither Ray nor files. `Segmenter`
reads pictures as the command does, so its home is `scclip.pipeline.predict`, which starts no Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scclip.categories import Categories as Categories
    from scclip.encoder.checkpoints import find_weights as find_weights
    from scclip.encoder.checkpoints import load_clip as load_clip
    from scclip.encoder.config import ModelConfig as ModelConfig
    from scclip.errors import UserError as UserError
    from scclip.pipeline.predict.result import SegmentedImage as SegmentedImage
    from scclip.pipeline.predict.segmenter import Segmenter as Segmenter
    from scclip.segmentation.types import Segmentation as Segmentation
    from scclip.segmentation.types import SegmenterConfig as SegmenterConfig
    from scclip.vocabulary.text_features import encode_queries as encode_queries
    from scclip.vocabulary.vocabulary import Vocabulary as Vocabulary
    from scclip.vocabulary.vocabulary import VocabularyClass as VocabularyClass

_MODULES = {
    "Categories": "scclip.categories",
    "ModelConfig": "scclip.encoder.config",
    "Segmentation": "scclip.segmentation.types",
    "SegmentedImage": "scclip.pipeline.predict.result",
    "Segmenter": "scclip.pipeline.predict.segmenter",
    "SegmenterConfig": "scclip.segmentation.types",
    "UserError": "scclip.errors",
    "Vocabulary": "scclip.vocabulary.vocabulary",
    "VocabularyClass": "scclip.vocabulary.vocabulary",
    "encode_queries": "scclip.vocabulary.text_features",
    "find_weights": "scclip.encoder.checkpoints",
    "load_clip": "scclip.encoder.checkpoints",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on its first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'scclip' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})

"""Self-Calibrated CLIP (arXiv 2411.15869): open-vocabulary segmentation without training, an image in, a label map out.

    from scclip import ModelConfig, Segmenter, SegmenterConfig, Vocabulary, encode_queries, find_weights, load_clip

    clip = load_clip(find_weights(ModelConfig(model="ViT-B-16-quickgelu", pretrained="openai")))
    vocabulary = Vocabulary.load("voc20")
    features = encode_queries(clip.model, clip.tokenizer, vocabulary)
    segmenter = Segmenter(clip.visual(), features, vocabulary.query_category, SegmenterConfig(logit_scale=40))
    labels = segmenter.segment([image])[0].labels  # image: uint8 RGB (H, W, 3); labels: (H, W) category index

Each of these names is imported when it is first used: `import scclip` alone loads neither PyTorch nor open_clip.
Nothing here knows Ray or object storage; `scclip.pipeline` does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scclip.encoder.checkpoints import find_weights as find_weights
    from scclip.encoder.checkpoints import load_clip as load_clip
    from scclip.encoder.config import ModelConfig as ModelConfig
    from scclip.segmentation.segmenter import Segmenter as Segmenter
    from scclip.segmentation.types import Segmentation as Segmentation
    from scclip.segmentation.types import SegmenterConfig as SegmenterConfig
    from scclip.vocabulary.text_features import encode_queries as encode_queries
    from scclip.vocabulary.vocabulary import Vocabulary as Vocabulary

_MODULES = {
    "ModelConfig": "scclip.encoder.config",
    "Segmentation": "scclip.segmentation.types",
    "Segmenter": "scclip.segmentation.segmenter",
    "SegmenterConfig": "scclip.segmentation.types",
    "Vocabulary": "scclip.vocabulary.vocabulary",
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

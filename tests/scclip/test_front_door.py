"""The names that `scclip` exports: they work together, and importing them costs only what they need."""

import subprocess
import sys

import numpy as np
import pytest

import scclip

NAMES = [
    "Categories",
    "ModelConfig",
    "Segmentation",
    "SegmentedImage",
    "Segmenter",
    "SegmenterConfig",
    "UserError",
    "Vocabulary",
    "VocabularyClass",
    "encode_queries",
    "find_weights",
    "load_clip",
]


def test_the_parts_of_the_method_give_what_the_front_door_gives() -> None:
    """Weights, text features and windows put together by hand, with the settings that the front door has found."""
    from scclip import ModelConfig, Segmenter, Vocabulary, encode_queries, find_weights, load_clip
    from scclip.segmentation.segmenter import WindowSegmenter as Method

    clip = load_clip(find_weights(ModelConfig()))
    vocabulary = Vocabulary.load("demo")
    features = encode_queries(clip.model, clip.tokenizer, vocabulary)
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    front = Segmenter.from_pretrained("demo", vocabulary=vocabulary, device="cpu", precision="float32")
    (result,) = Method(clip.visual(), features, vocabulary.query_category, front.config).segment([image])
    assert isinstance(result, scclip.Segmentation)
    np.testing.assert_array_equal(front(image).labels, result.labels)


def test_every_name_is_the_one_of_its_module() -> None:
    for name in NAMES:
        exported = getattr(scclip, name)
        assert exported is getattr(sys.modules[exported.__module__], name)
    assert set(NAMES) <= set(dir(scclip))
    with pytest.raises(AttributeError, match="module 'scclip' has no attribute 'segment'"):
        scclip.segment  # noqa: B018


@pytest.mark.parametrize(
    "code",
    [
        "import scclip",
        "from scclip import ModelConfig, Segmentation, SegmenterConfig; ModelConfig(), SegmenterConfig()",
        "from scclip import Vocabulary; [Vocabulary.load(name) for name in ('voc21', 'ade20k', 'demo')]",
        "from scclip import Vocabulary; Vocabulary.parse(b'car, sedan\\nroad', 'words.txt').digest()",
        "from scclip.encoder.variants import VARIANTS",
    ],
)
def test_vocabularies_and_options_need_neither_pytorch_nor_open_clip(code: str) -> None:
    check = "import sys\nassert not {'torch', 'open_clip'} & sys.modules.keys(), 'imported'"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{check}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

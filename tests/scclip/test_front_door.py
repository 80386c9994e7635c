"""The names that `scclip` exports: README's example works with them, and importing them costs only what they need."""

import subprocess
import sys

import numpy as np
import pytest

import scclip

NAMES = [
    "ModelConfig",
    "Segmentation",
    "Segmenter",
    "SegmenterConfig",
    "Vocabulary",
    "encode_queries",
    "find_weights",
    "load_clip",
]


def test_the_example_of_the_readme() -> None:
    from scclip import ModelConfig, Segmenter, SegmenterConfig, Vocabulary, encode_queries, find_weights, load_clip

    clip = load_clip(find_weights(ModelConfig()))
    vocabulary = Vocabulary.load("demo")
    features = encode_queries(clip.model, clip.tokenizer, vocabulary)
    segmenter = Segmenter(clip.visual(), features, vocabulary.query_category, SegmenterConfig(logit_scale=40))
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    (result,) = segmenter.segment([image])
    assert isinstance(result, scclip.Segmentation)
    assert result.labels.shape == (60, 80)
    assert result.labels.min() >= 1 and result.labels.max() <= len(vocabulary.classes)


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

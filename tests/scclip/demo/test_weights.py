"""The bundled weights: small, loadable through open_clip, and worth their bytes."""

import numpy as np
import open_clip
import torch

from scclip.demo.evaluate import build_segmenter, class_iou, scenes
from scclip.encoder.checkpoints import DEMO_DIRECTORY, find_weights, load_clip
from scclip.encoder.config import ModelConfig
from scclip.vocabulary.vocabulary import Vocabulary


def test_the_weights_are_at_most_twelve_megabytes_and_load_through_open_clip() -> None:
    files = list(DEMO_DIRECTORY.iterdir())
    assert sum(file.stat().st_size for file in files) <= 12_000_000
    model = open_clip.create_model(f"local-dir:{DEMO_DIRECTORY}")
    assert len(model.visual.transformer.resblocks) == 12
    text = model.encode_text(open_clip.get_tokenizer(f"local-dir:{DEMO_DIRECTORY}")(["a drawing of a boat."]))
    assert text.shape == (1, 64) and torch.isfinite(text).all()


def test_scclip_labels_unseen_scenes_better_than_plain_clip() -> None:
    """A small sample of the development split; the README's table is measured on the test split."""
    means = {}
    for method in ("clip", "scclip"):
        segmenter = build_segmenter(load_clip(find_weights(ModelConfig(method=method))), Vocabulary.load("demo"))
        means[method] = float(np.nanmean(class_iou(segmenter, scenes("development", 6))))
    assert means["scclip"] >= 0.70
    assert means["scclip"] >= means["clip"] + 0.10

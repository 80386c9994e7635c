"""The protocol table against the oracle of queries, and against the built-in vocabularies."""

import json
from pathlib import Path

import numpy as np
import pytest

from scclip.pipeline.benchmarks.protocols import BENCHMARKS
from scclip.segmentation.segmenter import WindowSegmenter
from scclip.segmentation.types import SegmenterConfig
from scclip.vocabulary.vocabulary import Vocabulary

DATA = Path(__file__).parents[2] / "scclip" / "vocabulary" / "data"
ORACLE = json.loads((DATA / "benchmark_queries.json").read_text())
SHORT = {"cityscapes": 560}
SETTINGS = {  # name: ViT-B/16 (scale, threshold, area), ViT-L/14
    "voc21": ((50, 0.15, 0.1), (40, 0.2, 0.1)),
    "context60": ((40, 0.15, 0), (40, 0.15, 0)),
    "coco_object": ((55, 0.35, 0), (40, 0.25, 0)),
}


@pytest.mark.parametrize("name", sorted(ORACLE))
def test_protocol_has_the_classes_queries_and_settings(name: str) -> None:
    protocol, vocabulary = BENCHMARKS[name], Vocabulary.load(name)
    queries: list[list[str]] = [[] for _ in range(protocol.classes)]
    for query, category in zip(vocabulary.queries, vocabulary.query_category, strict=True):
        queries[category - protocol.first_category].append(query)
    assert queries == ORACLE[name]
    assert protocol.background == bool(vocabulary.background)
    assert protocol.short_side == SHORT.get(name, 336)
    for backbone, expected in zip(("ViT-B/16", "ViT-L/14"), SETTINGS.get(name, ((40, 0, 0),) * 2), strict=True):
        settings = protocol.settings(backbone)  # type: ignore[arg-type]
        assert (settings.logit_scale, settings.threshold, settings.area_threshold) == expected
    b16 = protocol.settings("ViT-B/16")
    assert (vocabulary.logit_scale, vocabulary.threshold, vocabulary.area_threshold) == (
        b16.logit_scale,
        b16.threshold,
        b16.area_threshold,
    )


def test_all_eight_are_there() -> None:
    assert sorted(BENCHMARKS) == sorted(ORACLE)


def test_equal_queries_give_the_lower_class_on_every_path() -> None:
    """coco_object has "bed" twice: the background wins wherever the class bed would have tied."""
    from towers import clip

    from scclip.encoder.tower import SelfCalibratedCLIP

    vocabulary = Vocabulary.load("coco_object")
    random = np.random.default_rng(0)
    by_text = {query: random.standard_normal(64) for query in sorted(set(vocabulary.queries))}
    features = np.array([by_text[query] for query in vocabulary.queries], np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    bed = next(index for index, name in vocabulary.categories.items() if name == "bed")
    image = random.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    model = SelfCalibratedCLIP(clip().visual)
    for config in (
        SegmenterConfig(),
        SegmenterConfig(pamr_steps=1),
        SegmenterConfig(window=0),
        SegmenterConfig(tile_mib=1),
    ):
        result = WindowSegmenter(model, features, vocabulary.query_category, config).segment([image])[0]
        assert not (result.argmax == bed).any()
        tied = result.runner_up == bed
        assert (result.argmax[tied & (result.margin == 0)] <= bed).all()

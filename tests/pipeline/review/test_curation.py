"""Curation against figures made from pixels, and against plain loops over small tables."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from scclip.pipeline.review.curation import (
    CurationSums,
    MeasuredImage,
    balanced_thresholds,
    conclude,
    doubtful,
    near_queries,
    reached,
    unit_curation,
    vocabulary_queries,
)
from scclip.pipeline.run.manifest import VocabularyRecord, record
from scclip.pipeline.run.totals import Totals

NAMES = {0: "background", 1: "car", 2: "road", 3: "ghost"}


def segments(seed: int, count: int = 300) -> tuple[pa.Table, dict[int, np.ndarray]]:
    """Rows of segments/ made from pixels, and all pixels' confidences by class."""
    random, rows = np.random.default_rng(seed), []
    pixels: dict[int, list[np.ndarray]] = {1: [], 2: []}
    for _ in range(count):
        category = int(random.integers(1, 3))
        level = random.beta(*((4, 3) if category == 1 else (9, 2)))
        values = np.clip(random.normal(level, 0.08, int(random.integers(20, 400))), 0, 1)
        pixels[category].append(values)
        rows.append(
            {
                "category_id": category,
                "area": len(values),
                "mean_confidence": float(values.mean()),
                "p10_confidence": float(np.quantile(values, 0.1)),
                "margin": float(random.random()),
                "runner_up": None if random.random() < 0.1 else int(random.choice([0, 3 - category])),
            }
        )
    return pa.Table.from_pylist(rows), {category: np.concatenate(parts) for category, parts in pixels.items()}


def images(seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    rows = [
        {
            "image_id": seed * 100 + place,
            "key": f"{seed}-{place}",
            "file_name": f"{seed}-{place}.png",
            "unit": seed,
            "status": "ok" if place else "undecodable",
            "coverage": float(random.random()) if place else None,
            "mean_confidence": float(random.random()) if place else None,
            "entropy": float(random.random()) if place else None,
        }
        for place in range(12)
    ]
    return pa.Table.from_pylist(rows)


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.8, 0.95])
def test_thresholds_keep_about_the_share_of_every_classes_pixels(keep: float) -> None:
    """From segments' means and tenth percentiles; the pixels they came from are within 5 points of the wanted share."""
    table, pixels = segments(1)
    thresholds = balanced_thresholds(unit_curation(images(1), table).confidence, keep)
    assert [entry.category for entry in thresholds] == [1, 2]
    for entry in thresholds:
        assert abs(np.mean(pixels[entry.category] >= entry.threshold) - keep) < 0.05
    assert thresholds[0].threshold < thresholds[1].threshold  # the hard class is not judged by the easy one's level


def test_a_share_is_reached_by_the_highest_level_that_has_it() -> None:
    counts = np.zeros(256)
    counts[[51, 102, 204]] = [10, 30, 60]
    assert [round(reached(counts, share), 6) for share in (0.6, 0.61, 0.9, 0.91, 1.0)] == [0.8, 0.4, 0.4, 0.2, 0.2]


def test_units_add_up_in_any_order() -> None:
    parts = [unit_curation(images(seed), segments(seed)[0]) for seed in (1, 2, 3)]
    whole = unit_curation(
        pa.concat_tables([images(seed) for seed in (1, 2, 3)]),
        pa.concat_tables([segments(seed)[0] for seed in (1, 2, 3)]),
    )
    for order in ((0, 1, 2), (2, 0, 1)):
        found = sum((parts[place] for place in order), CurationSums())
        for category, counts in whole.confidence.items():
            np.testing.assert_allclose(found.confidence[category], counts)
        assert found.rivals.keys() == whole.rivals.keys()
        for pair, sums in whole.rivals.items():
            assert found.rivals[pair] == pytest.approx(sums)
        assert len(found.images) == len(whole.images) == 33


def test_confusable_pairs_and_silent_classes() -> None:
    """Against a loop over the rows."""
    table, _ = segments(5)
    curation = conclude(unit_curation(images(5), table), NAMES, Totals(class_pixels={1: 5, 2: 5, 3: 0}), [], None)
    assert curation.silent == (3,) and curation.near == ()
    rows = table.to_pylist()
    for pair in curation.pairs:
        own = [row for row in rows if row["category_id"] == pair.category]
        there = [row for row in own if row["runner_up"] == pair.rival]
        area = sum(row["area"] for row in there)
        assert pair.share == pytest.approx(area / sum(row["area"] for row in own))
        assert pair.margin == pytest.approx(sum(row["area"] * row["margin"] for row in there) / area)
    stakes = [pair.share * (1 - pair.margin) for pair in curation.pairs]
    assert stakes == sorted(stakes, reverse=True) and len(stakes) == 4


def test_near_queries_are_those_of_different_classes() -> None:
    random = np.random.default_rng(3)
    features = random.normal(size=(700, 16)).astype(np.float32)
    features[650], features[3], features[9] = features[5] * 3, features[7], features[8]
    queries = [(f"q{place}", place // 2) for place in range(700)]  # 8 and 9 are one class's
    found = near_queries(queries, features, 0.999)
    assert {pair.queries for pair in found} == {("q5", "q650"), ("q3", "q7")}
    assert all(pair.cosine > 0.999 and pair.categories[0] != pair.categories[1] for pair in found)


def test_doubtful_images_come_first_and_equal_values_share_a_rank() -> None:
    measured = [
        MeasuredImage(
            image_id=index, key=str(index), file_name="x", mean_confidence=1 - index / 10, entropy=0.5, coverage=1.0
        )
        for index in range(6)
    ]
    assert [entry.key for entry in doubtful(measured)] == ["5", "4", "3", "2", "1", "0"]
    worst = replace(measured[0], image_id=9, key="9", mean_confidence=0.1, entropy=2.0, coverage=0.1)
    assert doubtful([*measured, worst])[0].key == "9" and doubtful([]) == ()


def test_queries_are_in_the_order_of_the_features() -> None:
    from scclip.vocabulary.vocabulary import Vocabulary

    for name in ("voc21", "cityscapes", "demo"):
        vocabulary = Vocabulary.load(name)
        wanted = list(zip(vocabulary.queries, vocabulary.query_category, strict=True))
        assert vocabulary_queries(record(VocabularyRecord, {**vocabulary.to_dict(), "sha256": ""})) == wanted

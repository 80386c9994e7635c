"""Tiles, the pre-filter and the scores against a plain softmax over whole images."""

import numpy as np
import pytest
import torch
from towers import clip

from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.segmentation.scoring import PixelScores, QueryScorer, Tile
from scclip.segmentation.segmenter import WindowSegmenter
from scclip.segmentation.types import SegmenterConfig
from scclip.segmentation.windows import axis_bands, axis_windows, stitch_operator

GENERATOR = torch.Generator().manual_seed(5)


def unit_rows(count: int, width: int = 64) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, width, generator=GENERATOR), dim=-1)


def plain_scores(logits: torch.Tensor, categories: list[int], dropped: set[int]) -> tuple[torch.Tensor, ...]:
    """(Q, R, W) → best and second category and their softmax scores, category by category."""
    score = logits.double().softmax(0)
    wanted = sorted(set(categories))
    planes = [score[[i for i, c in enumerate(categories) if c == one]].amax(0) for one in wanted]
    ranked = torch.stack([torch.zeros_like(p) if c in dropped else p for c, p in zip(wanted, planes, strict=True)])
    order = ranked.argsort(dim=0, descending=True, stable=True)
    best = ranked.gather(0, order)
    return order[0], order[1], best[0], best[1]


@pytest.mark.parametrize("synonyms", [1, 3])
@pytest.mark.parametrize("drop", [False, True])
def test_the_prefilter_leaves_best_and_second_as_they_are(synonyms: int, drop: bool) -> None:
    """A tile from few small logits that lie close together, so that most queries cannot win."""
    queries = 120
    categories = [index // synonyms for index in range(queries)]
    scorer = QueryScorer(unit_rows(queries), categories, SegmenterConfig())
    base, spread = 8 * torch.rand(1, 1, queries, generator=GENERATOR), torch.rand(3, 4, queries, generator=GENERATOR)
    down, across = base + spread, torch.rand(10, 4, generator=GENERATOR)
    across /= across.sum(1, keepdim=True)
    tile = Tile(slice(0, 3), slice(0, 10), across @ down, across, down)
    dropped = torch.zeros(len(scorer.categories), dtype=torch.bool)
    if drop:
        dropped[int(tile.logits[0, 0].argmax()) // synonyms] = True
    kept = scorer._contending_members(tile, dropped if drop else None)
    assert kept is not None and 2 <= int(kept.sum()) < queries / 2
    scores = PixelScores.empty((3, 10), torch.device("cpu"))
    scorer.write_scores(tile, dropped if drop else None, scores)
    best, second, best_score, second_score = plain_scores(
        tile.logits.permute(2, 0, 1), categories, set(dropped.nonzero().flatten().tolist())
    )
    assert torch.equal(scores.best.long(), best) and torch.equal(scores.second.long(), second)
    torch.testing.assert_close(scores.best_score.double(), best_score, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(scores.second_score.double(), second_score, rtol=1e-4, atol=1e-6)


def test_the_lowest_of_equal_categories_wins_behind_the_prefilter() -> None:
    text = unit_rows(40)
    scorer = QueryScorer(text[[*range(40), 7]], [*range(1, 41), 41], SegmenterConfig())
    down = torch.rand(2, 3, 40, generator=GENERATOR)
    down[..., 7] += 5  # the text that the categories 8 and 41 share
    tile = Tile(slice(0, 2), slice(0, 2), torch.eye(3)[:2] @ down, torch.eye(3)[:2], down)
    scores = PixelScores.empty((2, 2), torch.device("cpu"))
    scorer.write_scores(tile, None, scores)
    assert (scores.best == 7).all() and (scores.second == 40).all()
    assert torch.equal(scores.best_score, scores.second_score)


@pytest.mark.parametrize("queries", [5, 6, 9, 17, 40])
def test_equal_texts_tie_exactly_wherever_they_stand(queries: int) -> None:
    """A product's equal columns may differ in their last bit, by the place they have in it."""
    scorer = QueryScorer(unit_rows(queries)[[*range(queries), 1]], range(queries + 1), SegmenterConfig())
    down, across = torch.rand(8, 12, queries, generator=GENERATOR), torch.rand(50, 12, generator=GENERATOR)
    across /= across.sum(1, keepdim=True)
    scores = PixelScores.empty((8, 50), torch.device("cpu"))
    scorer.write_scores(Tile(slice(0, 8), slice(0, 50), across @ down, across, down), None, scores)
    assert not (scores.best == queries).any()
    assert torch.equal(scores.best == 1, scores.second == queries)


def test_nothing_is_labeled_where_every_category_is_dropped() -> None:
    scorer, down = QueryScorer(unit_rows(3), [1, 2, 3], SegmenterConfig()), torch.rand(2, 2, 3, generator=GENERATOR)
    scores = PixelScores.empty((2, 2), torch.device("cpu"))
    scorer.write_scores(
        Tile(slice(0, 2), slice(0, 2), torch.eye(2) @ down, torch.eye(2), down), torch.ones(3).bool(), scores
    )
    assert (scorer.label_maps(scores)[0] == 255).all()


@pytest.mark.parametrize("halo", [0, 16])
def test_bands_are_the_operator_without_its_zeros(halo: int) -> None:
    windows = axis_windows(448, 224, 112, 16)
    whole, seen = stitch_operator(640, windows), torch.zeros(640, dtype=torch.int64)
    for band in axis_bands(640, windows, False, 80, halo, torch.device("cpu")):
        again = torch.zeros(band.padded.stop - band.padded.start, whole.shape[1])
        again[:, band.grid] = band.operator
        assert torch.equal(again, whole[band.padded])
        seen[band.pixels] += 1
    assert (seen == 1).all()


def test_labels_do_not_depend_on_the_tiles() -> None:
    image = np.random.default_rng(0).integers(0, 256, (150, 210, 3), dtype=np.uint8)
    text, model = unit_rows(50), SelfCalibratedCLIP(clip().visual)
    one, other = (
        WindowSegmenter(model, text, range(1, 51), SegmenterConfig(tile_mib=mib)).segment([image])[0] for mib in (1, 64)
    )
    assert (one.labels == other.labels).mean() >= 0.9999 and (one.runner_up == other.runner_up).mean() >= 0.9999
    assert np.abs(one.confidence.astype(int) - other.confidence).max() <= 1


def test_an_image_at_reduced_scale_is_labeled_in_its_own_size() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    segmenter = WindowSegmenter(SelfCalibratedCLIP(clip().visual), unit_rows(5), range(1, 6))
    assert segmenter.segment([image], [(240, 320)])[0].labels.shape == (240, 320)

"""From cosine logits to categories: scale, softmax, synonyms, area filter, thresholds, ties.

    scorer = QueryScorer(text_features, query_category, config)
    scorer.write_scores(Tile(rows, cols, logits), None, scores)
    labels, *_ = scorer.label_maps(scores)

Queries with equal text are scored once and shared by their categories, so that equal scores are exactly equal and the
lowest category wins on every device.

Shapes: B windows, N patches, E joint embedding, Q queries, U distinct queries, C categories that have queries
(ascending), M members: pairs of a category and one of its distinct queries (ascending), K categories that can still
win, R × W pixels of a tile, g grid columns that a tile reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scclip.categories import ignore_value, label_dtype

if TYPE_CHECKING:
    from scclip.segmentation.types import SegmenterConfig

PREFILTER_FROM = 32  # queries from which looking for those that can win costs less than comparing them all
ROUNDING = 1e-3  # in scaled logits: float32 rounding of the stitching is below 1e-5
ENTROPY_STEP = 8  # the entropy is a mean over every 8th row and column: it needs all queries' probabilities
MAP_ROWS = 256  # rows whose maps are made at once: int64 indices of a whole 12-megapixel image are 96 MB each


@dataclass
class PixelScores:
    """What is known of every pixel of one image before thresholds; all (H, W) on the device."""

    best: Tensor
    """int16 index, among the C categories, of the highest score."""
    second: Tensor
    """int16 index of the second highest score; equals `best` where there is none."""
    best_score: Tensor
    """float32 softmax score in [0, 1]; 0 where every category was dropped."""
    second_score: Tensor
    """float32 softmax score in [0, 1]; 0 where there is no second category."""

    @classmethod
    def empty(cls, size: tuple[int, int], device: torch.device) -> "PixelScores":
        """Uninitialised scores of an image of `size` (H, W)."""
        indices = (torch.empty(size, dtype=torch.int16, device=device) for _ in range(2))
        scores = (torch.empty(size, device=device) for _ in range(2))
        return cls(*indices, *scores)


@dataclass(frozen=True)
class Tile:
    """The logits of a rectangle of an image."""

    rows: slice
    cols: slice
    logits: Tensor
    """(R, W, U) float32, scaled; queries last, where the softmax is one fused pass."""
    across: Tensor | None = None
    """(W, g) weights of the last product; its rows are not negative and sum to 1. None where logits are no product."""
    down: Tensor | None = None
    """(R, g, U), the product's other side."""

    def select(self, queries: Tensor) -> Tensor:
        """A copy of the logits of `queries` (K,) int64: (R, W, K); computed again, which costs less than a gather."""
        if self.across is None or self.down is None:
            return self.logits[..., queries]
        return self.across @ self.down[..., queries]


class QueryScorer:
    """Scores of categories from logits of queries; built once per vocabulary."""

    def __init__(self, text_features: Tensor, query_category: Sequence[int], config: "SegmenterConfig") -> None:
        """Groups equal queries and the queries of each category.

        Args:
            text_features: (Q, E) float32 of unit norm, on the device that scores.
            query_category: (Q,) category index of each query.
            config: thresholds and the area filter.

        Raises:
            ValueError: the two do not match, or a category is negative or above 65,534.
        """
        if len(query_category) != len(text_features) or not query_category:
            raise ValueError(f"{len(text_features)} text features for {len(query_category)} queries; give one each")
        self.categories = tuple(sorted(set(query_category)))
        if self.categories[0] < 0 or self.categories[-1] > 65534:
            raise ValueError(f"categories {self.categories[0]}…{self.categories[-1]} must lie within 0…65534")
        self.config = config
        device = text_features.device
        self.dtype = label_dtype(self.categories[-1])
        self.ignore = ignore_value(self.dtype)
        distinct, self.distinct_of_query = distinct_rows(text_features)
        self.text_features = text_features[distinct]
        self.log_count = torch.bincount(self.distinct_of_query, minlength=len(distinct)).float().log().to(device)
        self.repeated = len(distinct) < len(text_features)
        self.category_index = torch.tensor(self.categories, device=device)
        owner = self.distinct_of_query.tolist()
        index = {category: position for position, category in enumerate(self.categories)}
        members = sorted({(index[category], owner[query]) for query, category in enumerate(query_category)})
        self.member_category, self.member_query = torch.tensor(members, device=device).T.contiguous()
        self.direct = members == [(query, query) for query in range(len(distinct))]
        override = dict(config.category_thresholds)
        limits = [override.get(category, config.confidence_threshold) for category in self.categories]
        self.thresholds = torch.tensor(limits, device=device)

    def cosines(self, features: Tensor) -> Tensor:
        """Cosines of patch features with the distinct queries: (B, N, E) in any dtype → (B, U, N) float32."""
        unit_BNE = torch.nn.functional.normalize(features.float(), dim=-1)
        return self.text_features.float() @ unit_BNE.transpose(1, 2)

    def write_scores(self, tile: Tile, dropped: Tensor | None, scores: PixelScores) -> Tensor:
        """Scores a tile of scaled logits and writes the result into its rectangle of `scores`.

        Args:
            tile: logits (R, W, U), the cosines times the logit scale.
            dropped: (C,) bool, the categories that cannot win; None: all can.
            scores: the image's scores, changed in place.

        Returns:
            log Σ exp over all Q queries, (R, W) float32.
        """
        weighted_RWU = tile.logits + self.log_count if self.repeated else tile.logits
        log_total_RW = weighted_RWU.amax(-1) - weighted_RWU.softmax(-1).amax(-1).log_()
        logits_RWK, category_K = self._contenders(tile, dropped)
        area = tile.rows, tile.cols
        if not len(category_K):
            for plane in (scores.best, scores.second, scores.best_score, scores.second_score):
                plane[area] = 0
            return log_total_RW
        best, index = logits_RWK.max(-1)
        scores.best[area] = category_K[index]
        scores.best_score[area] = (best - log_total_RW).exp_()
        second, index = logits_RWK.scatter_(-1, index[..., None], -torch.inf).max(-1)
        scores.second[area] = category_K[index]
        scores.second_score[area] = (second - log_total_RW).exp_()
        return log_total_RW

    def _contenders(self, tile: Tile, dropped: Tensor | None) -> tuple[Tensor, Tensor]:
        """The categories that can be best or second in the tile: a copy of their logits (R, W, K), their indices (K,).

        The indices ascend, so that the lowest of equals wins.
        """
        kept_M = self._contending_members(tile, dropped)
        queries, categories = self.member_query, self.member_category
        if kept_M is not None:
            queries, categories = queries[kept_M], categories[kept_M]
        if len(queries) == tile.logits.shape[-1] and self.direct:
            return tile.logits.clone(), categories
        distinct, column_M = queries.unique(return_inverse=True)
        repeated = len(distinct) < len(queries)  # a product's equal columns may differ in their last bit
        logits_RWM = tile.select(distinct)[..., column_M] if repeated else tile.select(queries)
        category_K, counts = categories.unique_consecutive(return_counts=True)
        if len(category_K) == len(categories):
            return logits_RWM, category_K
        groups = logits_RWM.split(counts.tolist(), -1)
        highest = [group[..., 0] if group.shape[-1] == 1 else group.amax(-1) for group in groups]
        return torch.stack(highest, -1), category_K

    def _contending_members(self, tile: Tile, dropped: Tensor | None) -> Tensor | None:
        """The members that can win or come second at any pixel of the tile: (M,) bool, or None for all. Exact.

        Every logit of the tile is a weighted mean of logits in `down`, so a query lies between its smallest and its
        largest one there; a member whose largest is below the second best category's smallest cannot win.
        """
        kept_M = None if dropped is None else ~dropped[self.member_category]
        if tile.down is None or len(self.member_query) < PREFILTER_FROM:
            return kept_M
        down_SU = tile.down.flatten(0, 1)
        low_U, high_U = down_SU.amin(0), down_SU.amax(0)
        low_M = low_U[self.member_query]
        if kept_M is not None:
            low_M = low_M.masked_fill(~kept_M, -torch.inf)
        low_C = low_M.new_full((len(self.categories),), -torch.inf)
        low_C.scatter_reduce_(0, self.member_category, low_M, "amax")
        limit = low_C.topk(min(2, len(low_C)))[0][-1] - ROUNDING
        possible_M = high_U[self.member_query] >= limit
        return possible_M if kept_M is None else possible_M & kept_M

    def entropy(self, logits: Tensor, log_total: Tensor) -> Tensor:
        """Entropy in nats of the softmax over queries: scaled logits (R, W, U) and log Σ exp (R, W) → (R, W)."""
        weighted = logits + self.log_count if self.repeated else logits
        probability = (weighted - log_total[..., None]).exp_()
        return (log_total - (probability * logits).sum(-1)).clamp_min_(0)

    def small_categories(self, area: Tensor) -> Tensor:
        """The classes with at most `area_threshold` of all non-background pixels: (C,) pixels of each → (C,) bool."""
        is_class = self.category_index != 0
        return is_class & (area <= self.config.area_threshold * (area * is_class).sum())

    def label_maps(self, scores: PixelScores) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """labels, argmax, confidence, runner_up, margin as `Segmentation` describes them."""
        step = MAP_ROWS if scores.best.device.type == "cpu" else len(scores.best)
        blocks = [self._block_maps(scores, slice(top, top + step)) for top in range(0, len(scores.best), step)]
        categories, levels = (np.concatenate(planes, axis=1) for planes in zip(*blocks, strict=True))
        return categories[0], categories[1], levels[0], categories[2], levels[1]

    def _block_maps(self, scores: PixelScores, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Maps of some rows: labels, argmax and runner-up in the maps' dtype; confidence and margin as uint8."""
        best_score, second_score = scores.best_score[rows], scores.second_score[rows]
        index = scores.best[rows].long()
        fallback = 0 if self.categories[0] == 0 else self.ignore
        lost = best_score == 0
        best = self.category_index[index].masked_fill_(lost, fallback)
        labels = best.masked_fill((best_score < self.thresholds[index]) | lost, fallback)
        second = self.category_index[scores.second[rows].long()].masked_fill_(second_score == 0, self.ignore)
        kind = torch.uint8 if self.dtype == np.uint8 else torch.int32
        categories = torch.stack([plane.to(kind) for plane in (labels, best, second)])
        levels = torch.stack([quantised(best_score), quantised(best_score - second_score)])
        return categories.cpu().numpy().astype(self.dtype, copy=False), levels.cpu().numpy()


def quantised(score: Tensor) -> Tensor:
    """round(255 · score) of scores in [0, 1], as uint8."""
    return (score * 255).round_().to(torch.uint8)


def distinct_rows(features: Tensor) -> tuple[list[int], Tensor]:
    """Groups equal rows of (Q, E) features.

    Returns:
        The index of each distinct row's first occurrence (U,), and for every row its index among those, (Q,) int64.
    """
    seen: dict[bytes, int] = {}
    group = [seen.setdefault(row.tobytes(), len(seen)) for row in features.cpu().contiguous().numpy()]
    _, first = np.unique(group, return_index=True)
    return first.tolist(), torch.tensor(group, device=features.device)

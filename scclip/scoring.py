"""From cosine logits to categories: scale, softmax, synonyms, area filter, thresholds, ties (DESIGN.md section 4).

    scorer = QueryScorer(text_features, query_category, config)
    scorer.write_scores(logits, None, scores, slice(0, rows))
    labels, *_ = scorer.label_maps(scores)

Queries with equal text are scored once and shared by their categories, so that equal scores are exactly equal and the
lowest category wins on every device.

Shapes: Q queries, U distinct queries, C categories that have queries (ascending), N patches, R rows of a tile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from scclip.segmenter import SegmenterConfig

MAP_ROWS = 256  # rows whose maps are made at once: int64 indices of a whole 12-megapixel image are 96 MB each


@dataclass
class PixelScores:
    """What is known of every pixel of one image before thresholds; all (H, W) on the device."""

    best: Tensor
    """int16 position among the C categories of the highest score."""
    second: Tensor
    """int16 position of the second highest score; equals `best` where there is none."""
    best_score: Tensor
    """float32 softmax score in [0, 1]; 0 where every category was dropped."""
    second_score: Tensor
    """float32 softmax score in [0, 1]; 0 where there is no second category."""

    @classmethod
    def empty(cls, size: tuple[int, int], device: torch.device) -> "PixelScores":
        """Uninitialised scores of an image of `size` (H, W)."""
        positions = (torch.empty(size, dtype=torch.int16, device=device) for _ in range(2))
        scores = (torch.empty(size, device=device) for _ in range(2))
        return cls(*positions, *scores)


class QueryScorer:
    """Scores of categories from logits of queries; built once per vocabulary."""

    def __init__(self, text_features: Tensor, query_category: Sequence[int], config: "SegmenterConfig") -> None:
        """`text_features` (Q, E) float32 of unit norm; `query_category` (Q,) category index of each query.

        ValueError where the two do not match or a category is negative or above 65,534.
        """
        if len(query_category) != len(text_features) or not query_category:
            raise ValueError(f"{len(text_features)} text features for {len(query_category)} queries; give one each")
        self.categories = tuple(sorted(set(query_category)))
        if self.categories[0] < 0 or self.categories[-1] > 65534:
            raise ValueError(f"categories {self.categories[0]}…{self.categories[-1]} must lie within 0…65534")
        self.config = config
        device = text_features.device
        self.dtype = np.uint8 if self.categories[-1] <= 254 else np.uint16
        self.ignore = int(np.iinfo(self.dtype).max)
        distinct, self.distinct_of_query = distinct_rows(text_features)
        self.text_features = text_features[distinct]
        self.log_count = torch.bincount(self.distinct_of_query, minlength=len(distinct)).float().log().to(device)
        self.repeated = len(distinct) < len(text_features)
        self.category_index = torch.tensor(self.categories, device=device)
        owner = self.distinct_of_query.tolist()
        self.members = [
            [owner[query] for query, category in enumerate(query_category) if category == wanted]
            for wanted in self.categories
        ]
        self.direct = self.members == [[index] for index in range(len(distinct))]
        override = dict(config.category_thresholds)
        limits = [override.get(category, config.confidence_threshold) for category in self.categories]
        self.thresholds = torch.tensor(limits, device=device)

    def cosines(self, features: Tensor) -> Tensor:
        """Patch features (B, N, E) in any dtype → cosines with the distinct queries (B, U, N) float32."""
        unit_BNE = torch.nn.functional.normalize(features.float(), dim=-1)
        return self.text_features.float() @ unit_BNE.transpose(1, 2)

    def write_scores(self, cosines: Tensor, dropped: Tensor | None, scores: PixelScores, rows: slice) -> Tensor:
        """Scores one tile of cosines (U, R, W) into `scores[rows]`; returns log Σ exp over all queries (R, W).

        `dropped` (C,) bool: categories that cannot win.
        """
        logits_URW = cosines * self.config.logit_scale
        log_total_RW = self._weighted(logits_URW).logsumexp(0)
        category_CRW = logits_URW if self.direct else self._maximum(logits_URW)
        if dropped is not None:
            category_CRW[dropped] = -torch.inf
        best, place = category_CRW.max(0)
        scores.best[rows] = place
        scores.best_score[rows] = (best - log_total_RW).exp()
        category_CRW.scatter_(0, place[None], -torch.inf)
        second, scores.second[rows] = category_CRW.max(0)
        scores.second_score[rows] = (second - log_total_RW).exp()
        return log_total_RW

    def _maximum(self, logits: Tensor) -> Tensor:
        """(U, R, W) → (C, R, W): each category's maximum over its queries."""
        return torch.stack([logits[index].amax(0) for index in self.members])

    def _weighted(self, logits: Tensor) -> Tensor:
        """Logits plus the log of how many queries share each distinct text."""
        return logits + self.log_count[:, None, None] if self.repeated else logits

    def entropy(self, cosines: Tensor, log_total: Tensor) -> Tensor:
        """Entropy in nats of the softmax over queries: (U, R, W) cosines and log Σ exp (R, W) → (R, W)."""
        logits = cosines * self.config.logit_scale
        probability = (self._weighted(logits) - log_total).exp()
        return (log_total - (probability * logits).sum(0)).clamp_min_(0)

    def small_categories(self, best: Tensor) -> Tensor:
        """(H, W) positions → (C,) bool: classes with at most `area_threshold` of all non-background pixels."""
        area = torch.bincount(best.flatten().long(), minlength=len(self.categories))
        is_class = self.category_index != 0
        return is_class & (area <= self.config.area_threshold * area[is_class].sum())

    def label_maps(self, scores: PixelScores) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """labels, argmax, confidence, runner_up, margin as `Segmentation` describes them."""
        tops = range(0, len(scores.best), MAP_ROWS)
        blocks = [self._block_maps(scores, slice(top, top + MAP_ROWS)) for top in tops]
        labels, argmax, confidence, runner_up, margin = (np.concatenate(planes) for planes in zip(*blocks, strict=True))
        return labels, argmax, confidence, runner_up, margin

    def _block_maps(self, scores: PixelScores, rows: slice) -> list[np.ndarray]:
        """The five maps of some rows."""
        best_score, second_score = scores.best_score[rows], scores.second_score[rows]
        place = scores.best[rows].long()
        fallback = 0 if self.categories[0] == 0 else self.ignore
        lost = best_score == 0
        best = self.category_index[place].masked_fill_(lost, fallback)
        labels = best.masked_fill((best_score < self.thresholds[place]) | lost, fallback)
        second = self.category_index[scores.second[rows].long()].masked_fill_(second_score == 0, self.ignore)
        planes = (labels, best, quantised(best_score), second, quantised(best_score - second_score))
        kinds = (self.dtype, self.dtype, np.uint8, self.dtype, np.uint8)
        return [plane.cpu().numpy().astype(kind) for plane, kind in zip(planes, kinds, strict=True)]


def quantised(score: Tensor) -> Tensor:
    """round(255 · score) as uint8."""
    return (score * 255).round_().to(torch.uint8)


def distinct_rows(features: Tensor) -> tuple[list[int], Tensor]:
    """Positions of the first of each set of equal rows, and for every row its place among those, (Q,) int64."""
    seen: dict[bytes, int] = {}
    firsts: list[int] = []
    places: list[int] = []
    for position, row in enumerate(features.cpu().contiguous().numpy()):
        place = seen.setdefault(row.tobytes(), len(seen))
        if place == len(firsts):
            firsts.append(position)
        places.append(place)
    return firsts, torch.tensor(places, device=features.device)

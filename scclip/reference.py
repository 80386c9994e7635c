"""The method as one would write it first, for comparison: one window at a time, float32, upsampled window by window.

    labels, confidence = NaiveSegmenter(visual, calibration, text_features, query_category, config).label(image)

Written step by step, without a thought for speed but with none against it; it shares with the product only the
resize, the window positions and the position embedding.

Shapes: N patches, D width, h heads, Q queries.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.tower import position_embedding
from scclip.segmentation.types import SegmenterConfig
from scclip.segmentation.windows import axis_windows, resize, resized_side


class NaiveSegmenter:
    """Labels images with an open_clip vision tower in float32."""

    def __init__(
        self,
        visual: Any,
        calibration: CalibrationConfig,
        text_features: np.ndarray | Tensor,
        query_category: Sequence[int],
        config: SegmenterConfig,
    ) -> None:
        self.visual, self.calibration, self.config = visual, calibration, config
        self.device = visual.conv1.weight.device
        self.text = torch.as_tensor(text_features).float().to(self.device)
        self.query_category = torch.tensor(tuple(query_category), device=self.device)

    @torch.inference_mode()
    def label(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 RGB (H, W, 3) → categories before thresholds (H, W) and their softmax scores (H, W) float32."""
        config, patch = self.config, self.visual.patch_size
        height, width = image.shape[:2]
        side = resized_side(height, width, config.short_side, config.long_side, patch)
        pixels = resize(torch.from_numpy(np.array(image)).to(self.device), side).float() / 255
        mean, std = (torch.tensor(values, device=self.device)[:, None, None] for values in (config.mean, config.std))
        pixels = (pixels - mean) / std
        rows, cols = (axis_windows(n, config.window, config.stride, p) for n, p in zip(side, patch, strict=True))
        total, visits = (torch.zeros(size, device=self.device) for size in ((len(self.text), *side), side))
        for top in rows.starts:
            for left in cols.starts:
                window = pixels[:, top : top + rows.size, left : left + cols.size]
                logits = self.window_logits(window)
                logits = F.interpolate(logits[None], size=window.shape[1:], mode="bilinear", align_corners=False)[0]
                total[:, top : top + rows.size, left : left + cols.size] += logits
                visits[top : top + rows.size, left : left + cols.size] += 1
        logits = F.interpolate((total / visits)[None], size=image.shape[:2], mode="bilinear", align_corners=False)[0]
        return self.best_category((logits * config.logit_scale).softmax(0))

    def best_category(self, scores: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Softmax scores (Q, H, W) → the category of the highest one, the lowest index among equals, and its score."""
        categories = torch.unique(self.query_category)
        if len(categories) < len(self.query_category):
            scores = torch.stack([scores[self.query_category == category].amax(0) for category in categories])
        best, place = scores.max(0)
        return categories[place].cpu().numpy(), best.cpu().numpy()

    def window_logits(self, window: Tensor) -> Tensor:
        """Normalised pixels (3, h, w) → cosines (Q, gh, gw)."""
        grid = tuple(n // p for n, p in zip(window.shape[1:], self.visual.patch_size, strict=True))
        features = F.normalize(self.features(window, grid), dim=-1)
        return (self.text @ features.T).unflatten(1, grid)

    def features(self, window: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Steps 1 to 7 of `scclip.encoder.calibration`: (3, h, w) → (N, E)."""
        config, states = self.calibration, self.block_outputs(window, grid)
        class_token, patches = states[-1][0], states[-1][1:]
        similar = states[config.similarity_layer][1:]
        if config.anomalies and len(patches) >= 3:
            factors = local_outlier_factors(patches)
            anomalies = (factors > torch.quantile(factors, 0.95)).nonzero().flatten().tolist()
            patches, similar = (interpolate_anomalies(x, anomalies, grid) for x in (patches, similar))
        similarity = cosines(similar)
        if config.aggregation:
            patches = aggregate(similarity, patches, config.similarity_threshold)
        out = self.attention(patches, similarity) + config.class_residual * class_token
        if config.fusion:
            first, last = config.fused_layers
            fused = sum(states[first : last + 1], torch.zeros_like(states[0]))
            out = out + self.attention(fused[1:], similarity) + config.class_residual * fused[0]
        if config.post:
            out = aggregate(cosines(states[config.post_layer][1:]), out, config.similarity_threshold)
        return self.visual.ln_post(out) @ self.visual.proj

    def block_outputs(self, window: Tensor, grid: tuple[int, ...]) -> list[Tensor]:
        """Outputs of blocks 0 … L−2, each (1 + N, D)."""
        visual = self.visual
        patches = visual.conv1(window[None]).flatten(2).transpose(1, 2)
        position = position_embedding(visual.positional_embedding, visual.grid_size, (grid[0], grid[1]))
        tokens = torch.cat([visual.class_embedding[None, None], patches], 1) + position
        tokens, states = visual.ln_pre(tokens), []
        for block in visual.transformer.resblocks[:-1]:
            tokens = block(tokens)
            states.append(tokens[0])
        return states

    def attention(self, tokens: Tensor, similarity: Tensor) -> Tensor:
        """Step 5 on tokens (N, D), without the class token."""
        block, heads = self.visual.transformer.resblocks[-1], self.visual.transformer.resblocks[-1].attn.num_heads
        projected = F.linear(block.ln_1(tokens), block.attn.in_proj_weight, block.attn.in_proj_bias)
        _, key, value = (x.unflatten(1, (heads, -1)).transpose(0, 1) for x in projected.chunk(3, dim=1))
        weights = (key @ key.transpose(1, 2) / key.shape[-1] ** 0.5).softmax(-1)
        centred = similarity - similarity.mean()
        weights = 0.5 * (weights + (3 * centred.masked_fill(centred < 0, -torch.inf)).softmax(-1))
        mixed = (weights @ value).transpose(0, 1).flatten(1)
        return block.ls_1(block.attn.out_proj(mixed))


def local_outlier_factors(patches: Tensor) -> Tensor:
    """Step 2 as it stands there: (N, D) → (N,)."""
    distances = (patches[:, None] - patches[None]).square().sum(-1)
    k = min(30, len(patches) - 1)
    order = distances.fill_diagonal_(torch.inf).argsort(dim=-1, stable=True)[:, :k]
    near = distances.gather(1, order)
    reach = torch.maximum(near, near[:, -1:])
    density = k / (reach.sum(-1) / k)
    return (density[order] / density[:, None]).mean(-1)


def interpolate_anomalies(tokens: Tensor, anomalies: Sequence[int], grid: tuple[int, ...]) -> Tensor:
    """Step 3, anomaly by anomaly: (N, D) → (N, D)."""
    repaired, found = tokens.clone(), set(anomalies)
    for index in anomalies:
        y, x = divmod(index, grid[1])
        around = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
        inside = [v * grid[1] + u for v, u in around if 0 <= v < grid[0] and 0 <= u < grid[1]]
        sound = [i for i in inside if i not in found]
        if sound:
            repaired[index] = tokens[sound].mean(0)
    return repaired


def cosines(tokens: Tensor) -> Tensor:
    """(N, D) → (N, N)."""
    unit = F.normalize(tokens, dim=-1)
    return unit @ unit.T


def aggregate(similarity: Tensor, tokens: Tensor, threshold: float) -> Tensor:
    """Step 4: R(S) times tokens."""
    kept = similarity.masked_fill(similarity < threshold, 0)
    return kept / (kept.sum(-1, keepdim=True) + 1e-6) @ tokens

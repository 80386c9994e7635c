"""The method written plainly: the reference that tests and `scclip bench model` compare the product with.

    labels, confidence = NaiveSegmenter(visual, calibration, text_features, query_category, config).label(image)

It takes one window at a time in float32, goes through the steps in the order of the paper (arXiv 2411.15869) and
upsamples the logits of each window to pixels, as the authors do. Use it to check a change of the fast code, or to read
how the method works. It shares with the product only the resize, the window positions and the position embedding.
Step numbers are those of `scclip.encoder.calibration`.

Shapes: N = gh·gw patches in row-major order, D width, E joint embedding, h heads, Q queries, H × W pixels of the image,
h × w of a window.
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
    """Labels images with an open_clip vision tower in float32, one window after the other."""

    def __init__(
        self,
        visual: Any,
        calibration: CalibrationConfig,
        text_features: np.ndarray | Tensor,
        query_category: Sequence[int],
        config: SegmenterConfig,
    ) -> None:
        """Takes what `SelfCalibratedCLIP` and `WindowSegmenter` take.

        Args:
            visual: an open_clip `VisionTransformer` in float32.
            calibration: settings of the method; its attention is always kk+similarity here.
            text_features: (Q, E) of unit norm.
            query_category: (Q,) category index of each query.
            config: resize, windows and logit scale; thresholds are not applied.
        """
        self.visual, self.calibration, self.config = visual, calibration, config
        self.device = visual.conv1.weight.device
        self.text = torch.as_tensor(text_features).float().to(self.device)
        self.query_category = torch.tensor(tuple(query_category), device=self.device)

    @torch.inference_mode()
    def label(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels one image.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            The category of the highest score, before thresholds, (H, W) int64; that score in [0, 1], (H, W) float32.
        """
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
        """The category of the highest score, the lowest of equals, and the score: (Q, H, W) → two arrays (H, W)."""
        categories = torch.unique(self.query_category)
        if len(categories) < len(self.query_category):
            scores = torch.stack([scores[self.query_category == category].amax(0) for category in categories])
        best, index = scores.max(0)
        return categories[index].cpu().numpy(), best.cpu().numpy()

    def window_logits(self, window: Tensor) -> Tensor:
        """Cosines of a window's patches with the queries: normalised pixels (3, h, w) → (Q, gh, gw)."""
        grid = tuple(n // p for n, p in zip(window.shape[1:], self.visual.patch_size, strict=True))
        features = F.normalize(self.features(window, grid), dim=-1)
        return (self.text @ features.T).unflatten(1, grid)

    def features(self, window: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Calibrated patch features, steps 1 to 7: normalised pixels (3, h, w) → (N, E)."""
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
        """Step 1: outputs of blocks 0 … L−2, each (1 + N, D), the class token first."""
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
        """Step 5 without the class token's share: tokens (N, D) and similarities (N, N) → (N, D)."""
        block, heads = self.visual.transformer.resblocks[-1], self.visual.transformer.resblocks[-1].attn.num_heads
        projected = F.linear(block.ln_1(tokens), block.attn.in_proj_weight, block.attn.in_proj_bias)
        _, key, value = (x.unflatten(1, (heads, -1)).transpose(0, 1) for x in projected.chunk(3, dim=1))
        weights = (key @ key.transpose(1, 2) / key.shape[-1] ** 0.5).softmax(-1)
        centred = similarity - similarity.mean()
        weights = 0.5 * (weights + (3 * centred.masked_fill(centred < 0, -torch.inf)).softmax(-1))
        mixed = (weights @ value).transpose(0, 1).flatten(1)
        return block.ls_1(block.attn.out_proj(mixed))


def local_outlier_factors(patches: Tensor) -> Tensor:
    """Step 2: the local outlier factor of every patch, (N, D) → (N,)."""
    distances = (patches[:, None] - patches[None]).square().sum(-1)
    k = min(30, len(patches) - 1)
    order = distances.fill_diagonal_(torch.inf).argsort(dim=-1, stable=True)[:, :k]
    near = distances.gather(1, order)
    reach = torch.maximum(near, near[:, -1:])
    density = k / (reach.sum(-1) / k)
    return (density[order] / density[:, None]).mean(-1)


def interpolate_anomalies(tokens: Tensor, anomalies: Sequence[int], grid: tuple[int, ...]) -> Tensor:
    """Step 3: each anomaly becomes the mean of its sound grid neighbours, (N, D) → (N, D)."""
    repaired = tokens.clone()
    for index in anomalies:
        y, x = divmod(index, grid[1])
        around = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
        inside = [v * grid[1] + u for v, u in around if 0 <= v < grid[0] and 0 <= u < grid[1]]
        sound = [i for i in inside if i not in anomalies]
        if sound:
            repaired[index] = tokens[sound].mean(0)
    return repaired


def cosines(tokens: Tensor) -> Tensor:
    """Cosine similarities of all pairs of patches, (N, D) → (N, N)."""
    unit = F.normalize(tokens, dim=-1)
    return unit @ unit.T


def aggregate(similarity: Tensor, tokens: Tensor, threshold: float) -> Tensor:
    """Step 4: R(S) times the tokens, (N, N) and (N, D) → (N, D)."""
    kept = similarity.masked_fill(similarity < threshold, 0)
    return kept / (kept.sum(-1, keepdim=True) + 1e-6) @ tokens

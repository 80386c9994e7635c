"""What the demo model is trained on: forward paths with gradients and the three losses.

Shapes: B windows, N patches (row-major), D width, E joint embedding, C classes, Q captions, R regions per window.

    features = dense_features(visual, pixels, CalibrationConfig(class_residual=0.0))
    loss = region_loss(features.calibrated, regions, fractions, class_text, scale)
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor

from scclip.demo.scenes import CLASSES, SURFACES
from scclip.encoder.calibration import CalibrationConfig, calibrated_attention
from scclip.encoder.tower import HiddenStates, calibrated_features

TEMPLATES = ("{}", "a photo of a {}.", "a drawing of a {}.", "there is {} in the picture.")
SMALLEST_REGION, LARGEST_REGION = 2, 6
"""Patches along a region's side: never one patch alone, so that label maps stay the method's work."""

THING_WEIGHT = 1.5
"""Weight of things in the region loss: each covers a few per cent of the pictures."""


@dataclass(frozen=True)
class DenseFeatures:
    """Features of one forward pass, not normalised."""

    image: Tensor
    """(B, E) of the class token."""
    value: Tensor
    """(B, N, E) through the value path of the last block."""
    calibrated: Tensor
    """(B, N, E) through the calibrated path."""


def run_block(block: ResidualAttentionBlock, tokens: Tensor, queries: int | None = None) -> Tensor:
    """Runs a pre-norm transformer block, for the first ``queries`` tokens only if given: (B, N, D) → (B, queries, D).

    The result is that of the block's own forward, twice as fast on a CPU: there are no transposes around the attention.
    """
    width, heads = tokens.shape[-1], block.attn.num_heads
    projected = F.linear(block.ln_1(tokens), block.attn.in_proj_weight, block.attn.in_proj_bias)
    q, k, v = (part.unflatten(-1, (heads, width // heads)).transpose(1, 2) for part in projected.chunk(3, dim=-1))
    mixed = F.scaled_dot_product_attention(q[:, :, :queries], k, v).transpose(1, 2).flatten(2)
    tokens = tokens[:, :queries] + block.attn.out_proj(mixed)
    return tokens + block.mlp(block.ln_2(tokens))


def embed(visual: VisionTransformer, pixels: Tensor, corner: tuple[int, int] = (0, 0)) -> Tensor:
    """Class token and patches with position embedding, before ln_pre: (B, 3, H, W) → (B, 1 + N, D).

    Pixels smaller than the tower's own get the position embeddings from ``corner`` (row, column of patches) on.
    """
    patches = visual.conv1(pixels)
    rows, columns = (slice(at, at + side) for at, side in zip(corner, patches.shape[-2:], strict=True))
    position = visual.positional_embedding[1:].unflatten(0, visual.grid_size)[rows, columns].flatten(0, 1)
    class_token = visual.class_embedding + visual.positional_embedding[0]
    return torch.cat([class_token.expand(len(pixels), 1, -1), patches.flatten(2).transpose(1, 2) + position], dim=1)


def image_features(visual: VisionTransformer, pixels: Tensor, keep: Tensor) -> Tensor:
    """Embeds the class token, which sees the patches ``keep`` (B, n) alone (FLIP): (B, 3, H, W) → (B, E)."""
    tokens = embed(visual, pixels)
    kept = tokens[:, 1:].gather(1, keep[..., None].expand(-1, -1, tokens.shape[-1]))
    tokens = visual.ln_pre(torch.cat([tokens[:, :1], kept], dim=1))
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = run_block(block, tokens)
    return visual.ln_post(run_block(last, tokens, queries=1)[:, 0]) @ visual.proj


def dense_features(
    visual: VisionTransformer, pixels: Tensor, config: CalibrationConfig, corner: tuple[int, int] = (0, 0)
) -> DenseFeatures:
    """Steps 1 to 7 of `scclip.encoder.calibration` with gradients, on normalised pixels (B, 3, H, W).

    ``corner`` is that of ``embed``.
    """
    tokens, hidden = visual.ln_pre(embed(visual, pixels, corner)), []
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = run_block(block, tokens)
        hidden.append(tokens)
    image = visual.ln_post(run_block(last, tokens, queries=1)[:, 0]) @ visual.proj
    zero = torch.zeros_like(tokens[:, 0])
    value = calibrated_attention(last, (tokens[:, 1:],), zero, zero, "value")
    first, final = config.fused_layers
    fused = torch.stack(hidden[first : final + 1]).sum(0)
    states = HiddenStates(tokens, dict(enumerate(hidden)), {config.fused_layers: fused})
    grid = (pixels.shape[-2] // visual.patch_size[0], pixels.shape[-1] // visual.patch_size[1])
    calibrated, _ = calibrated_features(visual, states, config, grid)
    return DenseFeatures(image, visual.ln_post(value) @ visual.proj, calibrated)


def patch_fractions(truth: Tensor, patch: int) -> Tensor:
    """Share of each class in each patch: uint8 (B, H, W) in 1..C → float32 (B, N, C)."""
    one_hot = F.one_hot(truth.long() - 1, len(CLASSES)).to(torch.float32).permute(0, 3, 1, 2)
    return F.avg_pool2d(one_hot, patch).flatten(2).transpose(1, 2)


def draw_regions(rng: np.random.Generator, windows: int, count: int, grid: int) -> Tensor:
    """Random crops as averaging weights over patches: float32 (windows, count, grid²), rows sum to 1."""
    sides = rng.integers(SMALLEST_REGION, LARGEST_REGION + 1, (2, windows, count, 1))
    starts = (rng.random((2, windows, count, 1)) * (grid - sides + 1)).astype(np.int64)
    along = np.arange(grid)
    rows, columns = (along >= starts) & (along < starts + sides)
    inside = (rows[..., :, None] & columns[..., None, :]).reshape(windows, count, grid * grid)
    return torch.from_numpy(inside / inside.sum(-1, keepdims=True)).float()


def region_loss(features: Tensor, regions: Tensor, fractions: Tensor, class_text: Tensor, scale: Tensor) -> Tensor:
    """Cross-entropy of region embeddings against the classes' captions, targets by the classes' share of the region.

    features (B, N, E), regions (B, R, N), fractions (B, N, C), class_text (C, E) of length 1 → scalar.
    """
    embedded = F.normalize(regions @ F.normalize(features, dim=-1), dim=-1)
    logits = scale * embedded @ class_text.T
    weight = torch.where(torch.arange(len(CLASSES)) < len(SURFACES), 1.0, THING_WEIGHT)
    return F.cross_entropy(logits.flatten(0, 1), (regions @ fractions).flatten(0, 1), weight=weight)


def image_loss(image: Tensor, captions: Tensor, positive: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Sigmoid contrastive loss: image (B, E), captions (Q, E), positive (B, Q) bool → scalar."""
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(captions, dim=-1).T + bias
    return F.binary_cross_entropy_with_logits(logits, positive.float())


def caption_loss(captions: Tensor, named: Tensor) -> Tensor:
    """Draws the cosines of captions (Q, E) to those of the classes that they name, (Q, C) bool; returns a scalar.

    So captions of one class come together, and captions without a common class become orthogonal.
    """
    embedded, wanted = F.normalize(captions, dim=-1), F.normalize(named.float(), dim=-1)
    return F.mse_loss(embedded @ embedded.T, wanted @ wanted.T)


def draw_captions(rng: np.random.Generator, pairs: int) -> tuple[list[str], np.ndarray]:
    """Draws a caption for every class and ``pairs`` captions of two classes; (Q, C) bool: which classes each names."""
    named = np.eye(len(CLASSES), dtype=bool)
    for _ in range(pairs):
        named = np.vstack([named, np.isin(np.arange(len(CLASSES)), rng.choice(len(CLASSES), 2, replace=False))])
    words = [" and ".join(name for name, said in zip(CLASSES, row, strict=True) if said) for row in named]
    return [TEMPLATES[rng.integers(len(TEMPLATES))].format(word) for word in words], named

"""Self-calibration of CLIP's patch tokens (arXiv 2411.15869, section 3), as pure batched functions.

    features = calibrated_attention(block, (patches,), class_tokens, similarity, config)

The method in steps, F[i] being the output of block i of L, and R(S) keeping entries ≥ β in rows that sum to 1:

1. P = patch tokens of F[L−2], c its class token.
2. Anomalies: patches of P above the 0.95 quantile of the local outlier factor.
3. In P and in F[s] an anomaly becomes the mean of its sound grid neighbours.
4. S = cosines of F[s]; P ← R(S) P.
5. Last block on LN1(P) without residual and MLP: W_o ½ [softmax(k kᵀ/√d_h) + softmax(3 (S − mean S))] v + b + r·c.
6. The same on the sum of the intermediate layers, added.
7. S′ = R(cosines of F[t]) smooths the result; then ln_post and the projection.

Shapes: B images, N = gh·gw patches in row-major order, D width, K neighbours, h heads. Every function works on each
image by itself, so a batch gives exactly what single images give.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from scclip.encoder.config import Attention

NEIGHBOURS = 30  # k of the local outlier factor, step 2
ANOMALY_QUANTILE = 0.95  # step 2
SIMILARITY_TEMPERATURE = 3.0  # step 5


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """Settings of the method; `CalibrationConfig.published(layers)` gives the authors' own, or theirs by proportion."""

    similarity_layer: int = 8
    """Block s whose patch tokens give the similarity S."""
    post_layer: int = 3
    """Block t whose patch tokens smooth the final features."""
    fused_layers: tuple[int, int] = (3, 9)
    """First and last (inclusive) block whose outputs are summed for the fused pass."""
    class_residual: float = 0.3
    """r, the share of the class token added to every patch."""
    similarity_threshold: float = 0.4
    """β, similarities below it are not aggregated; in [-1, 1]."""
    attention: Attention = "kk+similarity"
    """Attention of the last block: qk (plain CLIP, block unchanged), value (MaskCLIP), kk, kk+similarity."""
    anomalies: bool = True
    """Replace anomalous patch tokens by the mean of their neighbours (steps 2 and 3)."""
    aggregation: bool = True
    """Aggregate the patch tokens by mid-layer similarity (step 4)."""
    fusion: bool = True
    """Add the pass over the summed intermediate layers (step 6)."""
    post: bool = True
    """Smooth the result by the similarity of an early layer (step 7)."""

    def __post_init__(self) -> None:
        if self.attention not in get_args(Attention):
            raise ValueError(f"attention {self.attention!r} is unknown; choose one of {', '.join(get_args(Attention))}")
        if self.attention == "qk" and self.fusion:
            raise ValueError(
                "attention 'qk' leaves the last block unchanged and has no fused pass; set fusion to false"
            )
        if len(self.fused_layers) != 2 or self.fused_layers[0] > self.fused_layers[1]:
            raise ValueError(f"fused_layers {self.fused_layers} must be a first and a last block, e.g. [3, 9]")
        if min(self.similarity_layer, self.post_layer, self.fused_layers[0]) < 0:
            raise ValueError("similarity_layer, post_layer and fused_layers count blocks from 0; none may be negative")
        if not -1 <= self.similarity_threshold <= 1:
            raise ValueError(f"similarity_threshold {self.similarity_threshold} is no cosine; give a number in [-1, 1]")

    @classmethod
    def published(cls, layers: int) -> "CalibrationConfig":
        """The authors' settings for a tower of 12 (ViT-B/16) or 24 (ViT-L/14) blocks, others by proportion.

        A tower of fewer than 18 blocks takes those of ViT-B/16, a deeper one those of ViT-L/14, each layer at the same
        share of the depth. Raises ValueError for fewer than two blocks.
        """
        if layers < 2:
            raise ValueError(f"the method needs a tower of at least 2 blocks, this one has {layers}")
        depth = published_depth(layers)
        base = (
            cls() if depth == 12 else cls(similarity_layer=16, post_layer=6, fused_layers=(8, 18), class_residual=0.1)
        )

        def scaled(layer: int) -> int:
            return min((2 * layer * layers + depth) // (2 * depth), layers - 2)

        return replace(
            base,
            similarity_layer=scaled(base.similarity_layer),
            post_layer=scaled(base.post_layer),
            fused_layers=(scaled(base.fused_layers[0]), scaled(base.fused_layers[1])),
        )

    def plain_clip(self) -> "CalibrationConfig":
        """The same layers with every step off: the last block unchanged (CLIP)."""
        return replace(self, attention="qk", anomalies=False, aggregation=False, fusion=False, post=False)

    def maskclip(self) -> "CalibrationConfig":
        """The same layers with every step off and the value path of the last block (MaskCLIP)."""
        return replace(self.plain_clip(), attention="value", class_residual=0.0)

    def check_layers(self, layers: int) -> None:
        """Raises ValueError if a layer lies beyond block L−2, the last one whose output enters the method."""
        deepest = max(self.similarity_layer, self.post_layer, self.fused_layers[1])
        if deepest > layers - 2:
            raise ValueError(f"calibration uses block {deepest}, the tower's last usable one is {layers - 2}; lower it")


def published_depth(layers: int) -> int:
    """Blocks of the tower, 12 or 24, whose published settings a tower of `layers` blocks follows."""
    return 12 if layers < 18 else 24


def squared_distances(patches: Tensor) -> Tensor:
    """Squared Euclidean distances of all pairs of patches: (B, N, D) in any dtype → (B, N, N) float32.

    The mean is subtracted first: distances stay the same, and smaller products lose less to cancellation.
    """
    x_BND = patches.float()
    x_BND = x_BND - x_BND.mean(1, keepdim=True)
    square_BN = x_BND.square().sum(-1)
    product_BNN = x_BND @ x_BND.transpose(1, 2)
    return (square_BN[:, :, None] + square_BN[:, None, :] - 2 * product_BNN).clamp_min_(0)


def outlier_factors(patches: Tensor) -> Tensor:
    """Local outlier factor of every patch as the method defines it (step 2): (B, N, D) → (B, N) float32.

    reach(i, j) = max(d(i, j), k-distance of i) is the k-distance of i for each of its k neighbours, so the local
    density is k / (k-distance) and lof(i) = k-distance(i) · mean_j 1 / k-distance(j).
    """
    distances_BNN = squared_distances(patches)
    distances_BNN.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    k = min(NEIGHBOURS, patches.shape[1] - 1)
    nearest_BNK, index_BNK = distances_BNN.topk(k, dim=-1, largest=False)
    reach_BN = nearest_BNK.amax(-1).clamp_min(torch.finfo(torch.float32).tiny)
    density_BNK = reach_BN.reciprocal().gather(1, index_BNK.flatten(1)).view_as(index_BNK)
    return reach_BN * density_BNK.mean(-1)


def find_anomalies(patches: Tensor) -> Tensor:
    """Patches above the 0.95 quantile of the outlier factor (step 2): (B, N, D) → (B, N) bool; none for N < 3."""
    if patches.shape[1] < 3:
        return torch.zeros(patches.shape[:2], dtype=torch.bool, device=patches.device)
    lof_BN = outlier_factors(patches)
    return lof_BN > torch.quantile(lof_BN, ANOMALY_QUANTILE, dim=1, keepdim=True)


def grid_neighbours(grid: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Which patches are among the eight neighbours of each patch of a gh × gw grid: (N, N) bool."""
    rows, cols = torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij")
    near_rows = (rows.flatten()[:, None] - rows.flatten()[None, :]).abs() <= 1
    near_cols = (cols.flatten()[:, None] - cols.flatten()[None, :]).abs() <= 1
    return (near_rows & near_cols).fill_diagonal_(False)


def most_anomalies(count: int) -> int:
    """How many of `count` values can lie above their 0.95 quantile."""
    return count - int(ANOMALY_QUANTILE * (count - 1))


def repair_rows(anomalous: Tensor, grid: tuple[int, int], most: int | None = None) -> tuple[Tensor, Tensor]:
    """Step 3 as a few rows of an N × N matrix that averages neighbours.

    The row of an anomaly averages its non-anomalous grid neighbours. The row of an anomaly without such a neighbour, or
    of a sound patch among the M, is that of the identity.

    Args:
        anomalous: (B, N) bool.
        grid: rows and columns of patches.
        most: M, which the anomalies of no image exceed; None: as many as `find_anomalies` can find.

    Returns:
        Indices of the rows, (B, M) int64, and their weights, (B, M, N) float32.
    """
    index_BM = anomalous.float().topk(most or most_anomalies(anomalous.shape[1]), dim=-1)[1]
    usable_BMN = grid_neighbours(grid, anomalous.device)[index_BM] & ~anomalous[:, None, :]
    count_BM = usable_BMN.sum(-1)
    mean_BMN = usable_BMN / count_BM.clamp_min(1)[:, :, None]
    mended_BM = anomalous.gather(1, index_BM) & (count_BM > 0)
    identity_BMN = torch.eye(anomalous.shape[1], device=anomalous.device)[index_BM]
    return index_BM, torch.where(mended_BM[:, :, None], mean_BMN, identity_BMN)


def repair(tokens: Tensor, rows: tuple[Tensor, Tensor]) -> Tensor:
    """Step 3: replaces the tokens of the rows that `repair_rows` gives by their averages, (B, N, D) → (B, N, D)."""
    index_BM, weights_BMN = rows
    index_BMD = index_BM[:, :, None].expand(-1, -1, tokens.shape[-1])
    return tokens.scatter(1, index_BMD, weights_BMN.to(tokens.dtype) @ tokens)


def cosine_similarities(tokens: Tensor) -> Tensor:
    """S of step 4, the cosines of all pairs of tokens in their dtype: (B, N, D) → (B, N, N)."""
    unit_BND = F.normalize(tokens, dim=-1)
    return unit_BND @ unit_BND.transpose(1, 2)


def aggregation_weights(similarity: Tensor, threshold: float) -> Tensor:
    """R(S) of step 4, keeps entries ≥ β and divides every row by its sum + 1e-6: (B, N, N) → (B, N, N)."""
    kept_BNN = torch.where(similarity >= threshold, similarity, 0)
    return kept_BNN / (kept_BNN.sum(-1, keepdim=True) + 1e-6)


def similarity_attention(similarity: Tensor) -> Tensor:
    """softmax(3 (S − mean S)) with the entries below the image's own mean left out (step 5): (B, N, N) → (B, N, N)."""
    centred_BNN = similarity - similarity.mean((1, 2), keepdim=True)
    centred_BNN.diagonal(dim1=1, dim2=2).clamp_(min=0)  # among equal patches rounding may leave a row without any
    centred_BNN = centred_BNN.masked_fill(centred_BNN < 0, -torch.inf)
    return (SIMILARITY_TEMPERATURE * centred_BNN).softmax(-1)


def calibrated_attention(
    block: Any, inputs: tuple[Tensor, ...], class_tokens: Tensor, similarity: Tensor, attention: Attention
) -> Tensor:
    """Steps 5 and 6: the sum of the last block's attention on each input, without residual and MLP.

    The query projection is never computed; the output projection and the similarity branch are linear, so they run
    once on the sum of the inputs.

    Args:
        block: an open_clip `ResidualAttentionBlock`.
        inputs: patch tokens, each (B, N, D): those of step 4, and the fused ones of step 6 if there are any.
        class_tokens: (B, D), r times the sum of the class tokens of the inputs.
        similarity: S, (B, N, N).
        attention: value, kk or kk+similarity.

    Returns:
        (B, N, D) patch tokens.
    """
    weight, bias, width = block.attn.in_proj_weight, block.attn.in_proj_bias, class_tokens.shape[-1]
    first = 2 * width if attention == "value" else width  # where the keys of (query, key, value) begin
    pairs = [F.linear(block.ln_1(tokens_BND), weight[first:], bias[first:]).split(width, -1) for tokens_BND in inputs]
    mixed_BND = functools.reduce(torch.add, [pair[-1] for pair in pairs])
    if attention != "value":
        kk_BND = functools.reduce(torch.add, [key_attention(k, v, block.attn.num_heads) for k, v in pairs])
        both = attention == "kk+similarity"
        mixed_BND = 0.5 * (kk_BND + similarity_attention(similarity) @ mixed_BND) if both else kk_BND
    out_BND = F.linear(mixed_BND, block.attn.out_proj.weight) + len(inputs) * block.attn.out_proj.bias
    return block.ls_1(out_BND) + class_tokens[:, None, :]


def key_attention(key: Tensor, value: Tensor, heads: int) -> Tensor:
    """softmax(k kᵀ / √d_h) v of step 5 in each head: key and value (B, N, D) → (B, N, D)."""
    split = (*key.shape[:2], heads, -1)
    key_BhNd, value_BhNd = (x.view(split).transpose(1, 2) for x in (key, value))
    return F.scaled_dot_product_attention(key_BhNd, key_BhNd, value_BhNd).transpose(1, 2).flatten(2)

"""PAMR: pixel-adaptive mask refinement of logits by the picture's own edges.

    refined = refine(logits, guide, steps=10, dilations=(8, 16))

Affinities: −|Δ| / (1e-8 + 0.1 σ) averaged over channels, exp-normalised over the eight neighbours at every dilation
together; σ is the unbiased deviation of all 9·|dilations| values, the centre counted once per dilation. Replicate
padding.

Shapes: Q queries, H × W pixels, P = 8·|dilations| neighbours, C channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

OFFSETS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))


def refine(logits: Tensor, guide: Tensor, steps: int, dilations: tuple[int, ...]) -> Tensor:
    """Logits (Q, H, W) averaged `steps` times by affinity; guide (C, H, W) float on the same device → (Q, H, W)."""
    affinity_PHW = affinities(guide, dilations)
    for _ in range(steps):
        logits = average_neighbours(logits, affinity_PHW, dilations)
    return logits


def affinities(guide: Tensor, dilations: tuple[int, ...]) -> Tensor:
    """(C, H, W) float → (P, H, W) weights that sum to 1 over P."""
    deviation_CHW = neighbourhood_deviation(guide, dilations)
    scale_CHW = 1e-8 + 0.1 * deviation_CHW
    logits_PHW = torch.stack([-((guide - near).abs() / scale_CHW).mean(0) for near in neighbours(guide, dilations)])
    return logits_PHW.softmax(0)


def neighbourhood_deviation(guide: Tensor, dilations: tuple[int, ...]) -> Tensor:
    """Unbiased deviation of the 9·|dilations| values around each pixel, (C, H, W) → (C, H, W), in two passes."""
    count = 9 * len(dilations)
    mean = len(dilations) * guide
    for near in neighbours(guide, dilations):
        mean = mean + near
    mean = mean / count
    square = len(dilations) * (guide - mean).square()
    for near in neighbours(guide, dilations):
        square = square + (near - mean).square()
    return (square / (count - 1)).sqrt()


def average_neighbours(values: Tensor, affinity: Tensor, dilations: tuple[int, ...]) -> Tensor:
    """One step: (Q, H, W) values and (P, H, W) weights → (Q, H, W) weighted sums over the neighbours."""
    out = torch.zeros_like(values)
    for weight_HW, near_QHW in zip(affinity, neighbours(values, dilations), strict=True):
        out.addcmul_(near_QHW, weight_HW)
    return out


def neighbours(values: Tensor, dilations: tuple[int, ...]) -> list[Tensor]:
    """The P views of (C, H, W) values shifted to each neighbour, edges replicated, dilation by dilation."""
    height, width = values.shape[-2:]
    border = max(dilations)
    padded = F.pad(values[None], (border,) * 4, mode="replicate")[0]
    return [
        padded[:, border + d * dy : border + d * dy + height, border + d * dx : border + d * dx + width]
        for d in dilations
        for dy, dx in OFFSETS
    ]

"""PAMR, pixel-adaptive mask refinement: logits follow the edges of the picture.

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
    """Averages each pixel's logits with those of similar neighbours.

    Args:
        logits: (Q, H, W) float32.
        guide: (C, H, W) float picture on the same device, in which neighbours are compared.
        steps: how often to average.
        dilations: distances of the neighbours in pixels.

    Returns:
        (Q, H, W) refined logits.
    """
    affinity_PHW = affinities(guide, dilations)
    for _ in range(steps):
        logits = average_neighbours(logits, affinity_PHW, dilations)
    return logits


def affinities(guide: Tensor, dilations: tuple[int, ...]) -> Tensor:
    """Weight of each neighbour of each pixel: guide (C, H, W) → (P, H, W), which sums to 1 over P."""
    deviation_CHW = neighbourhood_deviation(guide, dilations)
    scale_CHW = 1e-8 + 0.1 * deviation_CHW
    logits_PHW = torch.stack([-((guide - near).abs() / scale_CHW).mean(0) for near in neighbours(guide, dilations)])
    return logits_PHW.softmax(0)


def neighbourhood_deviation(guide: Tensor, dilations: tuple[int, ...]) -> Tensor:
    """Unbiased deviation σ of the 9·|dilations| values around each pixel, in two passes: (C, H, W) → (C, H, W)."""
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
    """One step, a weighted sum over the neighbours: values (Q, H, W) and weights (P, H, W) → (Q, H, W)."""
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

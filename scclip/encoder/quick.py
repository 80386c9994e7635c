"""A vision tower's work beside its large products, in fewer passes over memory: a GPU spends half its time there.

    quicken(visual)   # a tower on a GPU with Triton

Layer norms read and write once and take the residual sum with them; QuickGELU is written over its input; the patch
embedding is one product instead of a convolution whose image is first brought into another order.

Shapes: B images, N patches, D width.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from scclip.encoder.blocks import Block, QuickGELU

BLOCK = 4096  # elements of one program


class FusedQuickGELU(nn.Module):
    """x · sigmoid(1.702 x), computed in float32 and written over x."""

    def forward(self, x: Tensor) -> Tensor:
        """Changes a contiguous tensor of any shape and float dtype in place, and returns it."""
        _quick_gelu_kernel[(triton.cdiv(x.numel(), BLOCK),)](x, x.numel(), BLOCK=BLOCK, num_warps=8)
        return x


class FusedLayerNorm(nn.LayerNorm):
    """A layer norm over the last axis that computes in float32 and can add a residual first."""

    def forward(self, x: Tensor) -> Tensor:
        """The normalised rows of a tensor (…, D), in its dtype."""
        x = x.contiguous()
        out = torch.empty_like(x)
        self._launch(x, x, x, out, added=False)
        return out

    def add(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of two contiguous tensors (…, D), rounded to their dtype, and its normalised rows."""
        total, out = torch.empty_like(x), torch.empty_like(x)
        self._launch(x, residual, total, out, added=True)
        return total, out

    def _launch(self, x: Tensor, residual: Tensor, total: Tensor, out: Tensor, *, added: bool) -> None:
        width = x.shape[-1]
        _norm_kernel[(x.numel() // width,)](
            x, residual, total, out, self.weight, self.bias, width, self.eps,
            ADDED=added, COLUMNS=triton.next_power_of_2(width), num_warps=4,
        )  # fmt: skip


class FusedBlock(Block):
    """A block with the first residual sum taken into the second layer norm."""

    ln_2: FusedLayerNorm

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 + N, D) → (B, 1 + N, D)."""
        x, normalised = self.ln_2.add(x, self.ls_1(self.attention(self.ln_1(x))))
        return x + self.ls_2(self.mlp(normalised))


class PatchProduct(nn.Module):
    """A convolution whose patches do not overlap, as one product."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        """Shares the weights of the convolution."""
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, D, rows, columns) of whole patches."""
        high, wide = self.weight.shape[2:]
        rows, cols = pixels.shape[2] // high, pixels.shape[3] // wide
        whole = pixels[:, :, : rows * high, : cols * wide]
        patches = whole.unflatten(3, (cols, wide)).unflatten(2, (rows, high)).permute(0, 2, 4, 1, 3, 5).flatten(3)
        return nn.functional.linear(patches, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def quicken(visual: Any) -> None:
    """Replaces the slow parts of a tower that lies on a GPU; its weights stay where they are.

    Raises what Triton raises where it cannot compile; the tower is as it was then.
    """
    try_kernels(visual)
    visual.conv1 = PatchProduct(visual.conv1)
    for block in visual.transformer.resblocks:
        if isinstance(block.mlp.gelu, QuickGELU):
            block.mlp.gelu = FusedQuickGELU()
    for module in visual.modules():  # their weights have names and hooks: only what is done with them is new
        if isinstance(module, nn.LayerNorm) and module.bias is not None:
            module.__class__ = FusedLayerNorm
    for block in visual.transformer.resblocks:
        if isinstance(block.ln_2, FusedLayerNorm):
            block.__class__ = FusedBlock


def try_kernels(visual: Any) -> None:
    """Has each kernel compiled on a row as wide as the tower's."""
    row = torch.zeros(
        1, visual.conv1.weight.shape[0], dtype=visual.conv1.weight.dtype, device=visual.conv1.weight.device
    )
    norm = FusedLayerNorm(row.shape[1], device=row.device, dtype=row.dtype)
    norm.add(FusedQuickGELU()(row), norm(row))


@triton.jit
def _quick_gelu_kernel(x, size, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < size).to(tl.float32)
    tl.store(x + at, (value / (1 + tl.exp(-1.702 * value))).to(x.dtype.element_ty), mask=at < size)


@triton.jit
def _norm_kernel(  # type: ignore[no-untyped-def]
    x, residual, total, out, weight, bias, width, eps, ADDED: tl.constexpr, COLUMNS: tl.constexpr
):
    col = tl.arange(0, COLUMNS)
    inside = col < width
    at = tl.program_id(0).to(tl.int64) * width + col
    value = tl.load(x + at, mask=inside, other=0.0)
    if ADDED:
        value = (value.to(tl.float32) + tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)).to(value.dtype)
        tl.store(total + at, value, mask=inside)
    value = value.to(tl.float32)
    centred = tl.where(inside, value - tl.sum(value, 0) / width, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 0) / width + eps)
    factor = tl.load(weight + col, mask=inside, other=0.0).to(tl.float32)
    offset = tl.load(bias + col, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, (centred * scale * factor + offset).to(out.dtype.element_ty), mask=inside)

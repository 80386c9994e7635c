"""The modules of a vision tower without open_clip, whose import takes as long as PyTorch's: actors start sooner.

    visual = own_tower(clip.visual)   # the same weights, not copied, in modules of this file and of PyTorch

They compute what open_clip's modules of the same name do, bit for bit.

Shapes: B images, N patches, D width.
"""

import copy

from torch import Tensor, nn


class Tower(nn.Module):
    """The parts of open_clip's `VisionTransformer`, under their names there; `SelfCalibratedCLIP` runs them."""


class Block(nn.Module):
    """open_clip's `ResidualAttentionBlock`: attention, then two layers, each on a layer norm and added."""

    attn: nn.Module
    ln_1: nn.Module
    ln_2: nn.Module
    ls_1: nn.Module
    ls_2: nn.Module
    mlp: nn.Module

    def attention(self, x: Tensor) -> Tensor:
        """Self-attention: (B, 1 + N, D) → (B, 1 + N, D)."""
        mixed: Tensor = self.attn(x, x, x, need_weights=False)[0]
        return mixed

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 + N, D) → (B, 1 + N, D)."""
        x = x + self.ls_1(self.attention(self.ln_1(x)))
        return x + self.ls_2(self.mlp(self.ln_2(x)))


class QuickGELU(nn.Module):
    """x · sigmoid(1.702 x), OpenAI's activation."""

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of any shape → its activations."""
        return x * (1.702 * x).sigmoid()


def own_tower(visual: nn.Module) -> nn.Module:
    """A vision tower in modules of this file; it shares the weights of the one that is given.

    Modules of other kinds than open_clip's plain ones stay as they are: their processes import open_clip.
    """
    from open_clip import transformer

    kinds: dict[type[nn.Module], type[nn.Module]] = {
        transformer.VisionTransformer: Tower,
        transformer.Transformer: nn.Module,
        transformer.ResidualAttentionBlock: Block,
        transformer.LayerNorm: nn.LayerNorm,  # differs under autocast alone
        transformer.QuickGELU: QuickGELU,
    }

    def own(module: nn.Module) -> nn.Module:
        twin = copy.copy(module)
        twin.__dict__["_parameters"] = dict(module._parameters)
        twin.__dict__["_modules"] = {name: child and own(child) for name, child in module._modules.items()}
        twin.__class__ = kinds.get(type(module), type(module))
        return twin

    return own(visual)

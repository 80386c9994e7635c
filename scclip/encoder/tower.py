"""An open_clip vision tower whose patch features are self-calibrated.

    model = SelfCalibratedCLIP(load_clip(find_weights(ModelConfig(model="demo"))).model.visual)
    features = model.encode_patches(pixels)  # (B, 3, H, W) normalised → (B, N, E)

The steps of the method, and their numbers, are those of `scclip.encoder.calibration`.

Shapes: B images, H × W pixels, N = gh·gw patches in row-major order, D width, E joint embedding, L blocks.
"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scclip.encoder import calibration as steps
from scclip.encoder.blocks import Tower, own_tower
from scclip.encoder.calibration import CalibrationConfig

Module = TypeVar("Module", bound=nn.Module)

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class UnsupportedTower(ValueError):
    """The vision tower is not an open_clip `VisionTransformer` with a class token and plain attention blocks."""


@dataclass(frozen=True)
class HiddenStates:
    """Outputs of the blocks before the last, each (B, 1 + N, D) with the class token first."""

    last: Tensor
    """Output of block L−2."""
    layers: Mapping[int, Tensor]
    """Block → its output, for the blocks that give similarities."""
    sums: Mapping[tuple[int, int], Tensor]
    """First and last block → the sum of their outputs and of those between, for the fused pass."""


class SelfCalibratedCLIP(nn.Module):
    """A CLIP vision tower that gives calibrated patch features, for any aspect ratio, each image by itself."""

    def __init__(self, visual: Any, calibration: CalibrationConfig | None = None) -> None:
        """Wraps a vision tower; its weights are shared, not copied.

        Args:
            visual: an open_clip `VisionTransformer` with a class token, or the `visual` of another one of these.
            calibration: settings of the method; None: those published for the tower's depth.

        Raises:
            UnsupportedTower: the architecture is another one.
            ValueError: the settings name a block that does not exist.
        """
        super().__init__()
        if not isinstance(visual, Tower):
            check_tower(visual)
            visual = own_tower(visual)
        self.visual: Any = visual.eval().requires_grad_(False)
        layers = len(visual.transformer.resblocks)
        self.calibration = calibration or CalibrationConfig.published(layers)
        self.calibration.check_layers(layers)

    @property
    def patch_size(self) -> tuple[int, int]:
        """Height and width of a patch in pixels."""
        return self.visual.patch_size

    @property
    def dtype(self) -> torch.dtype:
        """The dtype the tower computes in."""
        return self.visual.conv1.weight.dtype

    @property
    def device(self) -> torch.device:
        """The device the tower lies on."""
        return self.visual.conv1.weight.device

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of whole patches in an image of `height` × `width` pixels; partial patches are dropped."""
        return height // self.patch_size[0], width // self.patch_size[1]

    def encode_patches(self, pixels: Tensor) -> Tensor:
        """Encodes images.

        Args:
            pixels: (B, 3, H, W) float RGB, normalised by CLIP's mean and deviation; at least one patch high and wide.

        Returns:
            (B, N, E) calibrated patch features in the tower's dtype, not normalised, N in row-major order.
        """
        return self.forward(pixels)[0]

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes images as `encode_patches` does; also returns how many tokens of each were anomalous, (B,) int64."""
        return self.encode_variants(pixels, (self.calibration,))[0]

    @torch.inference_mode()
    def encode_variants(self, pixels: Tensor, variants: Sequence[CalibrationConfig]) -> list[tuple[Tensor, Tensor]]:
        """Encodes images under several settings at once; all blocks but the last run only once.

        Args:
            pixels: as for `encode_patches`.
            variants: settings of the method.

        Returns:
            For each of the variants what `forward` returns: features (B, N, E) and anomalous tokens (B,) int64.
        """
        hidden, grid = self._hidden_states(pixels, variants), self.grid(*pixels.shape[-2:])
        return [calibrated_features(self.visual, hidden, config, grid) for config in variants]

    def _hidden_states(self, pixels: Tensor, variants: Sequence[CalibrationConfig]) -> HiddenStates:
        """Step 1: runs all blocks but the last, and keeps the outputs that the variants need."""
        tokens, layers, sums = self._embed(pixels), dict[int, Tensor](), dict[tuple[int, int], Tensor]()
        wanted = {config.similarity_layer for config in variants} | {config.post_layer for config in variants}
        spans = {config.fused_layers for config in variants if config.fusion}
        for layer, block in enumerate(self.visual.transformer.resblocks[:-1]):
            tokens = block(tokens)
            if layer in wanted:
                layers[layer] = tokens
            for first, last in spans:
                if first <= layer <= last:
                    sums[first, last] = sums[first, last].add_(tokens) if (first, last) in sums else tokens.clone()
        return HiddenStates(tokens, layers, sums)

    def _embed(self, pixels: Tensor) -> Tensor:
        """Patch and class tokens with position embedding, after ln_pre: (B, 3, H, W) → (B, 1 + N, D)."""
        visual = self.visual
        patches_BND = visual.conv1(pixels.to(self.dtype)).flatten(2).transpose(1, 2)
        class_B1D = visual.class_embedding.to(self.dtype).expand(len(pixels), 1, -1)
        position_ND = position_embedding(visual.positional_embedding, visual.grid_size, self.grid(*pixels.shape[-2:]))
        return visual.ln_pre(torch.cat([class_B1D, patches_BND], 1) + position_ND.to(self.dtype))

    def to_arrays(self) -> tuple["SelfCalibratedCLIP", dict[str, np.ndarray]]:
        """Takes the tower apart for a trip to other processes: a module without weights, and float32 arrays by name."""
        arrays = {name: tensor.float().cpu().numpy() for name, tensor in self.state_dict().items()}
        return copy.deepcopy(self).to("meta"), arrays

    @staticmethod
    def from_arrays(empty: Module, arrays: Mapping[str, np.ndarray], dtype: torch.dtype, device: str) -> Module:
        """Puts together what `to_arrays` took apart, on `device` in `dtype`.

        Float32 weights on the CPU share the memory of the arrays.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            state = {name: torch.from_numpy(array) for name, array in arrays.items()}
        empty.load_state_dict(state, assign=True)
        return empty.to(device=device, dtype=dtype).eval().requires_grad_(False)


def calibrated_features(
    visual: Any, hidden: HiddenStates, config: CalibrationConfig, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Steps 2 to 7 on the outputs of the blocks before the last: features (B, N, E), anomalous tokens (B,)."""
    last = visual.transformer.resblocks[-1]
    class_BD, patches_BND = hidden.last[:, 0], hidden.last[:, 1:]
    similar_BND = hidden.layers[config.similarity_layer][:, 1:]
    anomalous_BN = torch.zeros(patches_BND.shape[:2], dtype=torch.bool, device=patches_BND.device)
    if config.anomalies:
        anomalous_BN = steps.find_anomalies(patches_BND.detach())
        rows = steps.repair_rows(anomalous_BN, grid)
        patches_BND, similar_BND = steps.repair(patches_BND, rows), steps.repair(similar_BND, rows)
    similarity_BNN = steps.cosine_similarities(similar_BND)
    if config.aggregation:
        patches_BND = steps.aggregation_weights(similarity_BNN, config.similarity_threshold) @ patches_BND
    if config.attention == "qk":
        out_BND = last(torch.cat([class_BD[:, None], patches_BND], 1))[:, 1:]
    else:
        inputs: tuple[Tensor, ...] = (patches_BND,)
        class_sum_BD = class_BD
        if config.fusion:
            fused_BND = hidden.sums[config.fused_layers]
            inputs, class_sum_BD = (patches_BND, fused_BND[:, 1:]), class_BD + fused_BND[:, 0]
        residual_BD = config.class_residual * class_sum_BD
        out_BND = steps.calibrated_attention(last, inputs, residual_BD, similarity_BNN, config.attention)
    if config.post:
        post_BNN = steps.cosine_similarities(hidden.layers[config.post_layer][:, 1:])
        out_BND = steps.aggregation_weights(post_BNN, config.similarity_threshold) @ out_BND
    out_BND = visual.ln_post(out_BND)
    return out_BND if visual.proj is None else out_BND @ visual.proj, anomalous_BN.sum(1)


def position_embedding(embedding: Tensor, source: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Resizes the position embedding (1 + N, D) of the `source` grid to another grid (rows, columns) of patches.

    It is bicubic with the scale factor (patches + 0.1) / source of each side, as the authors' code has it.
    """
    if grid == tuple(source):
        return embedding
    square = embedding[1:].float().reshape(1, *source, -1).permute(0, 3, 1, 2)
    scale = tuple((new + 0.1) / old for new, old in zip(grid, source, strict=True))
    resized = F.interpolate(square, scale_factor=scale, mode="bicubic", align_corners=False)
    if resized.shape[-2:] != grid:
        raise AssertionError(f"position embedding became {tuple(resized.shape[-2:])}, not {grid}")
    return torch.cat([embedding[:1].float(), resized.flatten(2).transpose(1, 2)[0]])


def check_tower(visual: Any) -> None:
    """Raises `UnsupportedTower` unless the tower has a class token, a grid of patches and plain attention blocks."""
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer  # see scclip.encoder.blocks

    name = type(getattr(visual, "trunk", visual)).__name__  # open_clip wraps timm's towers: EVA, SigLIP, ConvNeXt
    remedy = "use an open_clip ViT with a class token, such as ViT-B-16 or ViT-L-14"
    if not isinstance(visual, VisionTransformer):
        raise UnsupportedTower(f"vision tower {name} is not supported; {remedy}")
    if visual.attn_pool is not None or visual.pool_type != "tok":
        pool = "attention" if visual.attn_pool is not None else repr(visual.pool_type)
        raise UnsupportedTower(f"vision tower {name} pools by {pool}, not by a class token; {remedy}")
    other = {type(block) for block in visual.transformer.resblocks} - {ResidualAttentionBlock}
    if other:
        names = ", ".join(sorted(kind.__name__ for kind in other))
        raise UnsupportedTower(f"vision tower {name} has {names} blocks; {remedy}")

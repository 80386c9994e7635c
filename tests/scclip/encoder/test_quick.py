"""The tower's own kernels in Triton's interpreter against open_clip's modules."""

import pytest
import torch
from torch import nn
from towers import clip

pytest.importorskip("triton")
if torch.cuda.is_available():
    pytest.skip("tests/gpu runs the kernels themselves on this machine", allow_module_level=True)

from open_clip.transformer import QuickGELU

from scclip.encoder.quick import FusedBlock, FusedLayerNorm, FusedQuickGELU, PatchProduct, quicken
from scclip.encoder.tower import SelfCalibratedCLIP

DTYPES = pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)]
)


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@DTYPES
def test_it_is_quick_gelu(dtype: torch.dtype, limit: float) -> None:
    x = drawn(3, 77, 40).mul_(4).to(dtype)
    exact = QuickGELU()(x.double())
    assert torch.allclose(FusedQuickGELU()(x.clone()).double(), exact, rtol=limit, atol=limit)


@DTYPES
@pytest.mark.parametrize("width", [64, 40, 1])
def test_it_is_a_layer_norm_of_the_rounded_sum(dtype: torch.dtype, limit: float, width: int) -> None:
    norm = FusedLayerNorm(width, dtype=dtype)
    with torch.no_grad():
        norm.weight.copy_(drawn(width, seed=2))
        norm.bias.copy_(drawn(width, seed=3))
    x, residual = (drawn(2, 9, width, seed=seed).mul_(3).add_(1).to(dtype) for seed in (4, 5))
    with torch.inference_mode():
        total, normalised = norm.add(x, residual)
        for given, found in ((total, normalised), (x[:, 1:], norm(x[:, 1:]))):
            weight, bias = norm.weight.double(), norm.bias.double()
            exact = nn.functional.layer_norm(given.double(), (width,), weight, bias, norm.eps)
            assert torch.allclose(found.double(), exact, rtol=limit, atol=limit)
    assert torch.allclose(total, x + residual, rtol=limit, atol=0)


@pytest.mark.parametrize("bias", [False, True])
def test_it_is_a_convolution_of_whole_patches(bias: bool) -> None:
    convolution = nn.Conv2d(3, 24, (4, 6), stride=(4, 6), bias=bias)
    pixels = drawn(2, 3, 21, 32)
    assert torch.allclose(PatchProduct(convolution)(pixels), convolution(pixels), rtol=1e-5, atol=1e-5)


def test_a_tower_gives_the_same_features() -> None:
    model, pixels = SelfCalibratedCLIP(clip().visual), drawn(2, 3, 32, 48, seed=2)
    expected, names = model.encode_patches(pixels), set(model.state_dict())
    quicken(model.visual)
    assert all(isinstance(block, FusedBlock) for block in model.visual.transformer.resblocks)
    assert all(isinstance(block.mlp.gelu, FusedQuickGELU) for block in model.visual.transformer.resblocks)
    assert set(model.state_dict()) == names
    assert torch.allclose(model.encode_patches(pixels), expected, rtol=1e-5, atol=1e-5)

"""The fused activation in Triton's interpreter against open_clip's own."""

import pytest
import torch
from towers import clip

pytest.importorskip("triton")
if torch.cuda.is_available():
    pytest.skip("tests/gpu runs the kernels themselves on this machine", allow_module_level=True)

from open_clip.transformer import QuickGELU

from scclip.encoder.activations import FusedQuickGELU, fuse_activations
from scclip.encoder.tower import SelfCalibratedCLIP


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_it_is_quick_gelu(dtype: torch.dtype, limit: float) -> None:
    x = torch.randn(3, 77, 40, generator=torch.Generator().manual_seed(1)).mul_(4).to(dtype)
    exact = QuickGELU()(x.double())
    assert torch.allclose(FusedQuickGELU()(x.clone()).double(), exact, rtol=limit, atol=limit)


def test_a_tower_gives_the_same_features() -> None:
    model, pixels = (
        SelfCalibratedCLIP(clip().visual),
        torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(2)),
    )
    expected = model.encode_patches(pixels)
    fuse_activations(model.visual)
    assert all(isinstance(block.mlp.gelu, FusedQuickGELU) for block in model.visual.transformer.resblocks)
    assert torch.allclose(model.encode_patches(pixels), expected, rtol=1e-5, atol=1e-5)

"""Calibrated towers: batches against singles, any grid, every switch, precision, the trip to another process."""

import pickle
from dataclasses import replace

import open_clip
import pytest
import torch
from towers import clip

from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.tower import SelfCalibratedCLIP, UnsupportedTower, position_embedding


def pixels(count: int, height: int = 224, width: int = 224) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(height * width + count))


@pytest.mark.parametrize("size", [(224, 224), (16, 16), (16, 320), (48, 32), (230, 100)])
def test_a_batch_of_seven_equals_seven_singles(size: tuple[int, int]) -> None:
    model, batch = SelfCalibratedCLIP(clip().visual), pixels(7, *size)
    together = model.encode_patches(batch)
    alone = torch.cat([model.encode_patches(image[None]) for image in batch])
    assert together.shape == (7, (size[0] // 16) * (size[1] // 16), 64)
    assert (together - alone).abs().max() <= 1e-5 * alone.abs().mean().clamp_min(1)


def test_plain_clip_is_open_clip_itself() -> None:
    """With every step off, the patch tokens are those that open_clip's own forward pass gives."""
    visual = clip().visual
    model = SelfCalibratedCLIP(visual, CalibrationConfig.published(12).plain_clip())
    visual.output_tokens = True
    with torch.no_grad():
        tokens = visual(pixels(2))[1] @ visual.proj
    torch.testing.assert_close(model.encode_patches(pixels(2)), tokens, rtol=1e-4, atol=1e-5)


def test_every_switch_changes_the_features() -> None:
    full, visual, batch = CalibrationConfig.published(12), clip().visual, pixels(2)
    variants = [full, full.plain_clip(), full.maskclip(), replace(full, attention="kk")]
    variants += [replace(full, **{step: False}) for step in ("anomalies", "aggregation", "fusion", "post")]
    outputs = [SelfCalibratedCLIP(visual, variant).encode_patches(batch) for variant in variants]
    for i, a in enumerate(outputs):
        assert torch.isfinite(a).all()
        for b in outputs[i + 1 :]:
            assert (a - b).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_points_the_same_way(dtype: torch.dtype) -> None:
    batch = pixels(2)
    exact = SelfCalibratedCLIP(clip().visual).encode_patches(batch)
    half = SelfCalibratedCLIP(clip().visual).to(dtype).encode_patches(batch).float()
    assert torch.nn.functional.cosine_similarity(exact, half, dim=-1).mean() > 0.99


def test_the_tower_travels_as_arrays() -> None:
    model = SelfCalibratedCLIP(clip().visual)
    empty, arrays = pickle.loads(pickle.dumps(model.to_arrays(), protocol=5))
    again = SelfCalibratedCLIP.from_arrays(empty, arrays, torch.float32, "cpu")
    torch.testing.assert_close(again.encode_patches(pixels(2)), model.encode_patches(pixels(2)), rtol=0, atol=0)


def test_position_embedding_depends_on_the_grid_not_on_the_count() -> None:
    embedding = torch.randn(1 + 36, 8)
    assert position_embedding(embedding, (6, 6), (6, 6)) is embedding
    wide, tall = (position_embedding(embedding, (6, 6), grid) for grid in ((4, 9), (9, 4)))
    assert wide.shape == tall.shape == (37, 8)
    assert not torch.allclose(wide, tall)


def test_other_towers_are_refused_by_name() -> None:
    config = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 32}
    resnet = open_clip.CLIP(embed_dim=16, vision_cfg=config, text_cfg={"width": 16, "heads": 1, "layers": 1}).visual
    with pytest.raises(UnsupportedTower, match="ModifiedResNet"):
        SelfCalibratedCLIP(resnet)


def test_unknown_depths_ask_for_a_calibration_file() -> None:
    sizes = {"input_resolution": 32, "patch_size": 16, "width": 32, "layers": 6, "heads": 1, "output_dim": 16}
    with pytest.raises(ValueError, match="6 blocks"):
        SelfCalibratedCLIP(clip(sizes).visual)
    settings = CalibrationConfig(similarity_layer=3, post_layer=1, fused_layers=(1, 3))
    assert SelfCalibratedCLIP(clip(sizes).visual, settings).encode_patches(pixels(1, 32, 48)).shape == (1, 6, 16)

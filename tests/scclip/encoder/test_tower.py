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


@pytest.mark.parametrize("layers", [2, 3, 6, 18, 32])
def test_other_depths_take_the_settings_by_proportion(layers: int) -> None:
    sizes = {"input_resolution": 32, "patch_size": 16, "width": 32, "layers": layers, "heads": 1, "output_dim": 16}
    features = SelfCalibratedCLIP(clip(sizes).visual).encode_patches(pixels(1, 32, 48))
    assert features.shape == (1, 6, 16) and torch.isfinite(features).all()


def test_settings_by_proportion_keep_their_share_of_the_depth() -> None:
    for layers in range(6, 65):
        ours, depth = CalibrationConfig.published(layers), 12 if layers < 18 else 24
        theirs = CalibrationConfig.published(depth)
        for name in ("similarity_layer", "post_layer"):
            assert abs(getattr(ours, name) / layers - getattr(theirs, name) / depth) <= 0.5 / layers + 1e-9
        assert ours.class_residual == theirs.class_residual
    huge = CalibrationConfig.published(32)
    assert (huge.similarity_layer, huge.post_layer, huge.fused_layers) == (21, 8, (11, 24))
    with pytest.raises(ValueError, match="at least 2 blocks"):
        CalibrationConfig.published(1)

"""Variants by name: each switches one step, and nothing else."""

from dataclasses import asdict

import pytest
import torch
from towers import SMALL16, clip

from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.encoder.variants import METHODS, STEPS, VARIANTS, variant

FULL = CalibrationConfig.published(24)


def changed(one: CalibrationConfig, other: CalibrationConfig) -> set[str]:
    return {name for name, value in asdict(one).items() if asdict(other)[name] != value}


def test_methods_are_those_of_the_model_flags() -> None:
    settings = {name: variant(FULL, name) for name in METHODS}
    assert settings == {"clip": FULL.plain_clip(), "maskclip": FULL.maskclip(), "scclip": FULL}


@pytest.mark.parametrize("step", sorted(STEPS))
def test_a_step_alone_and_left_out(step: str) -> None:
    alone, without = variant(FULL, f"maskclip+{step}"), variant(FULL, f"scclip-{step}")
    assert changed(alone, FULL.maskclip()) == changed(without, FULL) == {STEPS[step][0]}
    assert getattr(alone, STEPS[step][0]) == getattr(FULL, STEPS[step][0])
    assert getattr(without, STEPS[step][0]) == getattr(FULL.maskclip(), STEPS[step][0])


def test_unknown_variants_are_named() -> None:
    assert len(set(VARIANTS)) == len(VARIANTS) == 3 + 2 * len(STEPS)
    for name in ("scclip+fusion", "maskclip+", "dino"):
        with pytest.raises(ValueError, match="unknown; choose clip"):
            variant(FULL, name)


def test_all_variants_in_one_pass_are_each_alone() -> None:
    """Bit by bit, settings of other layers among them."""
    visual, full = clip(SMALL16).visual, CalibrationConfig.published(12)
    pixels = torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(4))
    settings = [variant(full, name) for name in VARIANTS]
    settings.append(CalibrationConfig(similarity_layer=6, post_layer=2, fused_layers=(4, 7)))
    together = SelfCalibratedCLIP(visual, full).encode_variants(pixels, settings)
    for config, (features, anomalies) in zip(settings, together, strict=True):
        alone = SelfCalibratedCLIP(visual, config)(pixels)
        assert torch.equal(features, alone[0]) and torch.equal(anomalies, alone[1]), config
    assert len({features.sum().item() for features, _ in together}) > 12

"""Variants by name: each switches one step, and nothing else."""

from dataclasses import asdict

import pytest

from scclip.ablation import METHODS, STEPS, VARIANTS, variant
from scclip.calibration import CalibrationConfig

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

"""Variants of the method by name: plain CLIP, MaskCLIP, SC-CLIP, and each step alone or left out.

    settings = variant(CalibrationConfig.published(12), "maskclip+fusion")

A step is switched by itself: `scclip-fusion` is the method without it, `maskclip+fusion` the value path with it alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scclip.encoder.calibration import CalibrationConfig

METHODS = ("clip", "maskclip", "scclip")
STEPS: dict[str, tuple[str, Any]] = {
    "anomalies": ("anomalies", False),
    "aggregation": ("aggregation", False),
    "attention": ("attention", "value"),
    "fusion": ("fusion", False),
    "post": ("post", False),
    "residual": ("class_residual", 0.0),
}
"""Step → its field in `CalibrationConfig`, and the value that switches it off."""
VARIANTS = (*METHODS, *(f"maskclip+{step}" for step in STEPS), *(f"scclip-{step}" for step in STEPS))


def variant(full: CalibrationConfig, name: str) -> CalibrationConfig:
    """The settings of a variant.

    Args:
        full: settings of the whole method.
        name: one of `VARIANTS`.

    Raises:
        ValueError: there is no variant of this name.
    """
    if name not in VARIANTS:
        methods, steps = ", ".join(METHODS), ", ".join(STEPS)
        raise ValueError(f"variant {name!r} is unknown; choose {methods}, maskclip+STEP, scclip-STEP; steps: {steps}")
    method, _, step = name.replace("+", "-").partition("-")
    settings = {"clip": full.plain_clip(), "maskclip": full.maskclip(), "scclip": full}[method]
    if not step:
        return settings
    field, off = STEPS[step]
    return replace(settings, **{field: off if method == "scclip" else getattr(full, field)})

"""Pseudo-random CLIP weights, reproducible on any platform: every tensor from its own generator, seeded by its name."""

import zlib

import numpy as np


def draw(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The tensor `name` (without the `visual.` prefix) of the golden towers, float32."""
    values = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape)
    if name.endswith(("ln_1.weight", "ln_2.weight")) or name in ("ln_pre.weight", "ln_post.weight"):
        values = 1.0 + 0.1 * values
    elif name.endswith(".bias"):
        values = 0.05 * values
    elif name in ("class_embedding", "positional_embedding"):
        values = 0.3 * values
    elif name == "conv1.weight":
        values = values / np.sqrt(np.prod(shape[1:])) * 2.0
    elif name == "proj":
        values = values / np.sqrt(shape[0])
    elif shape:
        values = values / np.sqrt(shape[-1]) * 0.7
    return values.astype(np.float32)

"""What the eight things of the demo scenes are made of: relative brightness patterns, in any colour.

Things come in all colours, so their material is what tells a wall of a house from a car's door where a crop shows no
outline: clapboards, planks, plaid, wood. Periods follow ``unit``, the picture's short side over 112.

    shade = grain("house", rng, height=112, width=160, unit=1.0)  # (112, 160), about -0.4..0.4
"""

import numpy as np

from scclip.demo.surfaces import smooth_noise


def grain(name: str, rng: np.random.Generator, *, height: int, width: int, unit: float) -> np.ndarray:
    """A thing's brightness pattern over the whole picture, float32 (height, width): colour · (1 + pattern)."""
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    match name:
        case "sun":  # an even glow
            pattern: np.ndarray = np.full((1, 1), rng.uniform(0.0, 0.3), np.float32)
        case "house":  # clapboards
            pattern = 0.1 - rng.uniform(0.3, 0.45) * _stripes(rows, unit * rng.uniform(3.5, 5.5), 0.3)
        case "tree":  # leaves
            pattern = rng.uniform(0.2, 0.35) * smooth_noise(rng, height, width, (unit * 2, unit * 2))
        case "car":  # gloss
            diagonal = rows + rng.choice([-1, 1]) * columns
            pattern = rng.uniform(0.2, 0.35) * np.sin(diagonal * (2 * np.pi / (unit * rng.uniform(9, 14))))
        case "boat":  # planks
            pattern = 0.1 - rng.uniform(0.3, 0.45) * _stripes(columns, unit * rng.uniform(3.5, 5.5), 0.3)
        case "flower":  # dots
            period = unit * rng.uniform(3.5, 5.5)
            pattern = 0.1 - rng.uniform(0.35, 0.5) * _stripes(rows, period, 0.45) * _stripes(columns, period, 0.45)
        case "person":  # plaid
            period = unit * rng.uniform(4, 7)
            checks = _stripes(rows, period, 0.5) + _stripes(columns, period, 0.5) - 1
            pattern = rng.uniform(0.2, 0.35) * checks
        case "fence":  # wood
            pattern = rng.uniform(0.12, 0.2) * smooth_noise(rng, height, width, (unit * 10, unit))
        case _:
            raise KeyError(name)
    return np.broadcast_to(pattern, (height, width)).astype(np.float32)


def _stripes(along: np.ndarray, period: float, share: float) -> np.ndarray:
    return (along % period < max(1.0, share * period)).astype(np.float32)

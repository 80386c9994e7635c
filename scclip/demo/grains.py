"""What the eight things of the demo scenes are made of: relative brightness patterns, in any colour.

Things come in all colours, so their material is what tells a wall of a house from a car's door where a crop shows no
outline: clapboards, planks, plaid, wood. Periods follow ``unit``, the picture's short side over 112.

    shade = grain("house", rng, height=112, width=160, unit=1.0)  # (112, 160), about -0.4..0.4
"""

from collections.abc import Callable

import numpy as np

from scclip.demo.surfaces import smooth_noise


def grain(name: str, rng: np.random.Generator, *, height: int, width: int, unit: float) -> np.ndarray:
    """A thing's brightness pattern over the whole picture, float32 (height, width): colour · (1 + pattern)."""
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    pattern = _GRAINS[name](rng, rows, columns, unit)
    return np.broadcast_to(pattern, (height, width)).astype(np.float32)


def _stripes(along: np.ndarray, period: float, share: float) -> np.ndarray:
    return (along % period < max(1.0, share * period)).astype(np.float32)


def _glow(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, unit: float) -> np.ndarray:
    return np.full((1, 1), rng.uniform(0.0, 0.3), np.float32)


def _clapboards(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, unit: float) -> np.ndarray:
    return 0.1 - rng.uniform(0.3, 0.45) * _stripes(rows, unit * rng.uniform(3.5, 5.5), 0.3)


def _leaves(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, unit: float) -> np.ndarray:
    return rng.uniform(0.2, 0.35) * smooth_noise(rng, rows.shape[0], columns.shape[1], (unit * 2, unit * 2))


def _gloss(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, unit: float) -> np.ndarray:
    diagonal = rows + rng.choice([-1, 1]) * columns
    return rng.uniform(0.2, 0.35) * np.sin(diagonal * (2 * np.pi / (unit * rng.uniform(9, 14))))


def _planks(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, unit: float) -> np.ndarray:
    return 0.1 - rng.uniform(0.3, 0.45) * _stripes(columns, unit * rng.uniform(3.5, 5.5), 0.3)


def _dots(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, unit: float) -> np.ndarray:
    period = unit * rng.uniform(3.5, 5.5)
    return 0.1 - rng.uniform(0.35, 0.5) * _stripes(rows, period, 0.45) * _stripes(columns, period, 0.45)


def _plaid(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, unit: float) -> np.ndarray:
    period = unit * rng.uniform(4, 7)
    checks = _stripes(rows, period, 0.5) + _stripes(columns, period, 0.5) - 1
    return rng.uniform(0.2, 0.35) * checks


def _wood(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, unit: float) -> np.ndarray:
    return rng.uniform(0.12, 0.2) * smooth_noise(rng, rows.shape[0], columns.shape[1], (unit * 10, unit))


_GRAINS: dict[str, Callable[[np.random.Generator, np.ndarray, np.ndarray, float], np.ndarray]] = {
    "sun": _glow,
    "house": _clapboards,
    "tree": _leaves,
    "car": _gloss,
    "boat": _planks,
    "flower": _dots,
    "person": _plaid,
    "fence": _wood,
}

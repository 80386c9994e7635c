"""The six surfaces of the demo scenes: textures as float32 RGB arrays.

Colours of different surfaces overlap on purpose (a grey sea, a grey road, a grey sky), so that texture and
context have to be learned. All sizes follow ``unit``, the picture's short side over 112.

    texture("sea", rng, height=40, width=112, unit=1.0)  # (40, 112, 3), range 0..255
"""

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image

Colour = tuple[float, float, float]

# Hue, saturation and value of typical looks; every use is jittered.
PALETTES: dict[str, Sequence[Colour]] = {
    "sky": ((0.58, 0.45, 0.92), (0.60, 0.25, 0.85), (0.60, 0.06, 0.75), (0.07, 0.45, 0.92), (0.62, 0.55, 0.45)),
    "grass": ((0.28, 0.65, 0.55), (0.24, 0.55, 0.65), (0.33, 0.60, 0.40), (0.18, 0.50, 0.68)),
    "sea": ((0.57, 0.60, 0.60), (0.50, 0.50, 0.55), (0.58, 0.22, 0.55), (0.62, 0.65, 0.40), (0.47, 0.45, 0.72)),
    "sand": ((0.11, 0.38, 0.88), (0.09, 0.30, 0.72), (0.12, 0.18, 0.85), (0.07, 0.42, 0.66)),
    "road": ((0.60, 0.05, 0.38), (0.10, 0.06, 0.50), (0.62, 0.08, 0.28), (0.08, 0.10, 0.62)),
    "brick wall": ((0.02, 0.58, 0.62), (0.05, 0.48, 0.55), (0.08, 0.35, 0.75), (0.00, 0.10, 0.60), (0.98, 0.50, 0.42)),
}


def texture(name: str, rng: np.random.Generator, *, height: int, width: int, unit: float) -> np.ndarray:
    """A surface's texture, float32 (height, width, 3), about 0..255 (not clipped)."""
    base = jittered(rng, PALETTES[name][int(rng.integers(len(PALETTES[name])))])
    return _TEXTURES[name](rng, height, width, unit, base)


def jittered(rng: np.random.Generator, hsv: Colour, spread: float = 1.0) -> np.ndarray:
    """RGB 0..255 near an HSV colour, float32 (3,)."""
    hue, saturation, value = np.array(hsv) + spread * rng.normal(size=3) * (0.02, 0.08, 0.07)
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, np.clip(saturation, 0, 1), np.clip(value, 0.08, 1)), np.float32)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: tuple[float, float]) -> np.ndarray:
    """Noise of about unit deviation, its blobs ``cell`` = (rows, columns) pixels large: float32 (height, width)."""
    grid = [max(2, round(side / max(1.0, size)) + 1) for side, size in zip((height, width), cell, strict=True)]
    coarse = rng.standard_normal(grid, dtype=np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


def _lit(base: np.ndarray, shade: np.ndarray) -> np.ndarray:
    return (1 + shade)[..., None] * base


def _sky(rng: np.random.Generator, height: int, width: int, unit: float, base: np.ndarray) -> np.ndarray:
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    horizon = base + rng.uniform(0.1, 0.7) * (jittered(rng, (rng.choice([0.1, 0.58]), 0.15, 0.95)) - base)
    picture = np.broadcast_to(base + rows * (horizon - base), (height, width, 3)).copy()
    if rng.random() < 0.7:
        cells = unit * rng.uniform(8, 20)
        cloud = smooth_noise(rng, height, width, (cells, 2.2 * cells))
        cloud = cloud + 0.4 * smooth_noise(rng, height, width, (cells / 3, cells / 2))
        cover = np.clip((cloud - rng.uniform(0, 1)) * rng.uniform(0.5, 1.5), 0, 0.9)[..., None]
        picture += cover * (rng.uniform(150, 255) - picture)
    return picture


def _grass(rng: np.random.Generator, height: int, width: int, unit: float, base: np.ndarray) -> np.ndarray:
    blades = smooth_noise(rng, height, width, (unit * rng.uniform(3, 7), unit))
    patches = smooth_noise(rng, height, width, (unit * 9, unit * 18))
    return _lit(base, rng.uniform(0.12, 0.26) * blades + 0.08 * patches)


def _sea(rng: np.random.Generator, height: int, width: int, unit: float, base: np.ndarray) -> np.ndarray:
    swell = smooth_noise(rng, height, width, (unit * 6, unit * 22))
    rows = np.arange(height, dtype=np.float32)[:, None]
    waves = np.sin(rows * (2 * np.pi / (unit * rng.uniform(4, 9))) + rng.uniform(1, 2.5) * swell)
    crests = np.clip(smooth_noise(rng, height, width, (unit, unit * 7)) - 1.1, 0, 1)
    return _lit(base, rng.uniform(0.08, 0.2) * waves) + crests[..., None] * rng.uniform(40, 120)


def _sand(rng: np.random.Generator, height: int, width: int, unit: float, base: np.ndarray) -> np.ndarray:
    grain = rng.standard_normal((height, width), dtype=np.float32)
    dunes = smooth_noise(rng, height, width, (unit * 7, unit * 12))
    specks = smooth_noise(rng, height, width, (unit * 1.5, unit * 1.5)) > rng.uniform(1.3, 2)
    return _lit(base, rng.uniform(0.04, 0.08) * grain + 0.05 * dunes - 0.22 * specks)


def _road(rng: np.random.Generator, height: int, width: int, unit: float, base: np.ndarray) -> np.ndarray:
    asphalt = 0.05 * rng.standard_normal((height, width), dtype=np.float32)
    picture = _lit(base, asphalt + 0.07 * smooth_noise(rng, height, width, (unit * 14, unit * 30)))
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    skewed = rows + rng.uniform(-0.25, 0.25) * columns
    lane, thickness, dash = unit * rng.uniform(18, 34), unit * rng.uniform(1.5, 3), unit * rng.uniform(10, 22)
    line = ((skewed + rng.uniform(0, lane)) % lane < thickness) & (columns % dash < rng.uniform(0.5, 1.0) * dash)
    picture[line] = jittered(rng, (0.13, rng.choice([0.03, 0.6]), 0.9))
    return picture


def _brick(rng: np.random.Generator, height: int, width: int, unit: float, base: np.ndarray) -> np.ndarray:
    course = unit * rng.uniform(4.5, 10)
    length, joint = course * rng.uniform(1.8, 2.6), max(1.0, course * rng.uniform(0.12, 0.2))
    row, within_row = np.divmod(np.arange(height)[:, None] + rng.uniform(0, course), course)
    column, within_column = np.divmod(np.arange(width)[None] + (row % 2) * length / 2, length)
    tone = rng.standard_normal(4096, dtype=np.float32)[(row * 97 + column * 31).astype(np.int64) % 4096]
    picture = _lit(base, rng.uniform(0.06, 0.14) * tone + 0.03 * smooth_noise(rng, height, width, (2, 2)))
    picture[(within_row < joint) | (within_column < joint)] = jittered(rng, (0.1, 0.1, rng.uniform(0.25, 0.9)))
    return picture


_TEXTURES = {"sky": _sky, "grass": _grass, "sea": _sea, "sand": _sand, "road": _road, "brick wall": _brick}

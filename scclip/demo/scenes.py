"""Procedural scenes with exact ground truth: the pictures the demo model knows.

Bands of surfaces with wavy borders, things standing on them from back to front, then light, colour cast and
noise over everything. A scene depends on its seed and size alone.

    image, truth = scene(7, 240, 320)   # uint8 (240, 320, 3) and uint8 (240, 320), categories 1..14
"""

import numpy as np
from PIL import Image

from scclip.demo.grains import grain
from scclip.demo.surfaces import smooth_noise, texture
from scclip.demo.things import Pen, draw_thing

SURFACES = ("sky", "grass", "sea", "sand", "road", "brick wall")
THINGS = ("sun", "house", "tree", "car", "boat", "flower", "person", "fence")
CLASSES: tuple[str, ...] = SURFACES + THINGS
"""Category c of the truth is ``CLASSES[c - 1]``."""

SMALLEST_SIDE = 16
"""Pixels; below this no thing can be told from another."""

_LAYOUTS: tuple[tuple[str, ...], ...] = (
    ("sky", "sea", "sand"),
    ("sky", "sea"),
    ("sky", "grass"),
    ("sky", "grass", "road", "grass"),
    ("sky", "sea", "grass"),
    ("sky", "grass", "sea", "sand"),
    ("sky", "brick wall", "road"),
    ("sky", "brick wall", "grass"),
    ("sky", "sea", "sand", "road"),
    ("sky", "grass", "road"),
    ("sky", "sand"),
    ("brick wall", "road"),
    ("brick wall", "grass", "road"),
    ("brick wall", "sand"),
)

# Lowest and highest height over the picture's short side; then where it stands in three scenes of four: in the fourth
# it stands anywhere.
_THINGS: dict[str, tuple[tuple[float, float], tuple[str, ...]]] = {
    "sun": ((0.16, 0.32), ("sky",)),
    "house": ((0.32, 0.62), ("grass", "sand", "road")),
    "tree": ((0.36, 0.7), ("grass", "sand", "grass")),
    "car": ((0.2, 0.36), ("road", "road", "grass", "sand")),
    "boat": ((0.26, 0.5), ("sea",)),
    "flower": ((0.28, 0.55), ("grass", "sand", "grass")),
    "person": ((0.36, 0.65), ("sand", "road", "grass")),
    "fence": ((0.18, 0.34), ("grass", "road", "sand")),
}


def scene(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws a picture and its truth; things scale with the short side.

    Returns:
        The picture, (height, width, 3) uint8 RGB, and its categories, (height, width) uint8 in 1..14.

    Raises:
        ValueError: a side is below 16 pixels.
    """
    rng = _generator(seed, height, width)
    picture, labels = _ground(rng, height, width, _layout(rng))
    short = min(height, width)
    count = round(rng.uniform(2.0, 4.5) * min(2.5, max(height, width) / short) ** 0.7)
    names = rng.choice(THINGS, size=count, replace=count > len(THINGS))
    spots = [(_spot(rng, str(name), labels), str(name), short * rng.uniform(*_THINGS[str(name)][0])) for name in names]
    for (y, x), name, size in sorted(spots):
        draw_thing(name, Pen(picture, labels, category=1 + CLASSES.index(name)), rng, x=x, y=y, size=size)
    return _developed(rng, picture, labels)


def close_up(seed: int, height: int, width: int, category: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws a picture that one category (1..14) fills: a surface, or a large thing on a surface; see ``scene``."""
    rng = _generator(seed, height, width)
    name = CLASSES[category - 1]
    ground = name if name in SURFACES else str(rng.choice([*_THINGS[name][1], *rng.choice(SURFACES, 2)]))
    picture, labels = _ground(rng, height, width, (ground,))
    if name in THINGS:
        size = min(height, width) * rng.uniform(0.6, 1.0) * (0.6 if name in ("car", "fence") else 1.0)
        x, y = width * rng.uniform(0.35, 0.65), height / 2 + size * rng.uniform(0.4, 0.6)
        draw_thing(name, Pen(picture, labels, category=category), rng, x=x, y=y, size=size)
    return _developed(rng, picture, labels)


def _generator(seed: int, height: int, width: int) -> np.random.Generator:
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(f"a scene of {height} x {width} pixels is too small: each side needs {SMALLEST_SIDE} or more")
    return np.random.default_rng([seed, height, width])


def _layout(rng: np.random.Generator) -> tuple[str, ...]:
    if rng.random() < 0.75:
        return _LAYOUTS[rng.integers(len(_LAYOUTS))]
    return tuple(str(name) for name in rng.choice(SURFACES, size=rng.integers(2, 5), replace=False))


def _ground(rng: np.random.Generator, height: int, width: int, names: tuple[str, ...]) -> list[Image.Image]:
    """Bands of the named surfaces from top to bottom, as RGB picture and L categories."""
    picture, labels = np.empty((height, width, 3), np.float32), np.empty((height, width), np.uint8)
    rows, unit, top = np.arange(height)[:, None], min(height, width) / 112, np.zeros(width)
    shares = np.cumsum(rng.dirichlet(np.full(len(names), 6.0)))
    for index, name in enumerate(names):
        start, below = int(max(0, top.min())), height + np.zeros(width)
        if index + 1 < len(names):
            below = np.maximum(top, shares[index] * height + _border(rng, width, unit))
        end = int(np.clip(np.ceil(below.max()), start + 1, height))
        band = (rows[start:end] >= top) & (rows[start:end] < np.ceil(below))
        picture[start:end][band] = texture(name, rng, height=end - start, width=width, unit=unit)[band]
        labels[start:end][band] = 1 + SURFACES.index(name)
        top = np.ceil(below)
    return [Image.fromarray(_as_bytes(picture)), Image.fromarray(labels)]


def _border(rng: np.random.Generator, width: int, unit: float) -> np.ndarray:
    """A border's height over its mean, float (width,): straight, tilted or wavy."""
    columns = np.linspace(-0.5, 0.5, width)
    wave = np.sin(columns * rng.uniform(3, 16) + rng.uniform(0, 6))
    return unit * (rng.choice([0, 0, 1]) * rng.normal() * 16 * columns + rng.choice([0, 1]) * rng.uniform(1, 4) * wave)


def _spot(rng: np.random.Generator, name: str, labels: Image.Image) -> tuple[float, float]:
    """The position of the thing's foot, (y, x) in pixels: on one of its home surfaces if there is any."""
    truth = np.asarray(labels)
    height, width = truth.shape
    (smallest, _), surfaces = _THINGS[name]
    homes = [1 + SURFACES.index(surface) for surface in surfaces]
    anywhere = rng.random() < 0.25
    for _ in range(12):
        y, x = height * rng.uniform(0.12, 1.0), width * rng.uniform(0.03, 0.97)
        if anywhere or truth[int(y), int(x)] in homes:
            break
    return y + (0.5 * min(height, width) * smallest if name == "sun" else 0), x


def _developed(rng: np.random.Generator, picture: Image.Image, labels: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Adds the things' materials, then light, colour cast and sensor noise over everything."""
    truth, image = np.asarray(labels), np.asarray(picture).astype(np.float32)
    height, width = truth.shape
    unit, shade = min(height, width) / 112, np.zeros((height, width), np.float32)
    for category, name in enumerate(THINGS, start=1 + len(SURFACES)):
        made = truth == category
        if made.any():
            shade[made] = grain(name, rng, height=height, width=width, unit=unit)[made]
    light = rng.uniform(0.0, 0.3) * smooth_noise(rng, height, width, (height, width))
    cast = rng.uniform(0.65, 1.15) * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    image *= (1 + shade + light)[..., None] * cast
    image += rng.uniform(1, 8) * rng.standard_normal((height, width, 1), dtype=np.float32)
    image += rng.uniform(-12, 12)
    return _as_bytes(image), np.array(truth)


def _as_bytes(image: np.ndarray) -> np.ndarray:
    return (np.clip(image, 0, 255) + 0.5).astype(np.uint8).clip(0, 255)

"""The eight things of the demo scenes, drawn on picture and truth at once.

A thing is drawn in a box of its own: ``x`` is its centre, ``y`` the ground it stands on, ``size`` its height,
all in pixels. The same rasteriser fills both images with the same corners, so the truth is exact to the pixel.

    draw_thing("car", Pen(picture, labels, category=10), rng, x=60, y=90, size=30)
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from scclip.demo.surfaces import Colour, jittered

Point = tuple[float, float]


class Pen:
    """Draws each shape twice: in colour on ``picture`` (RGB) and as ``category`` on ``labels`` (L)."""

    def __init__(self, picture: Image.Image, labels: Image.Image, *, category: int) -> None:
        self._picture, self._labels = ImageDraw.Draw(picture), ImageDraw.Draw(labels)
        self._category = category

    def polygon(self, points: Sequence[Point], colour: np.ndarray) -> None:
        """Fills a polygon; ``colour`` is RGB 0..255."""
        self._picture.polygon(points, fill=_as_fill(colour))
        self._labels.polygon(points, fill=self._category)

    def box(self, left: float, top: float, right: float, bottom: float, colour: np.ndarray) -> None:
        """Fills an upright rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def disc(self, x: float, y: float, radius: float, colour: np.ndarray, *, stretch: float = 1.0) -> None:
        """Fills an ellipse whose half width is ``radius · stretch``."""
        box = (x - radius * stretch, y - radius, x + radius * stretch, y + radius)
        self._picture.ellipse(box, fill=_as_fill(colour))
        self._labels.ellipse(box, fill=self._category)


def draw_thing(name: str, pen: Pen, rng: np.random.Generator, *, x: float, y: float, size: float) -> None:
    """Draws the named thing, ``size`` pixels high, its foot at (x, y)."""
    _DRAWERS[name](pen, rng, x, y, size)


def _as_fill(colour: np.ndarray) -> tuple[int, ...]:
    return tuple(np.clip(colour, 0, 255).astype(int).tolist())


def _any_colour(rng: np.random.Generator) -> np.ndarray:
    return jittered(rng, (rng.random(), rng.uniform(0, 0.9), rng.uniform(0.3, 1)))


def _one_of(rng: np.random.Generator, colours: Sequence[Colour]) -> np.ndarray:
    return jittered(rng, colours[int(rng.integers(len(colours)))])


def _sun(pen: Pen, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    colour = _one_of(rng, ((0.14, 0.6, 1.0), (0.15, 0.15, 1.0), (0.08, 0.75, 1.0), (0.02, 0.75, 0.95)))
    centre, radius = y - size / 2, size / 2
    if rng.random() < 0.4:  # rays
        for angle in np.arange(0, 2 * np.pi, 2 * np.pi / rng.integers(8, 13)) + rng.random():
            corners = [(angle + turn, radius * reach) for turn, reach in ((-0.2, 0.6), (0, 1.0), (0.2, 0.6))]
            pen.polygon([(x + r * np.cos(a), centre + r * np.sin(a)) for a, r in corners], colour)
        radius *= 0.75
    pen.disc(x, centre, radius, colour)
    pen.disc(x, centre, radius * 0.7, np.minimum(255, colour + rng.uniform(0, 40)))


def _house(pen: Pen, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    half, eaves = size * rng.uniform(0.4, 0.7), y - size * rng.uniform(0.5, 0.65)
    wall, roof, dark = _any_colour(rng), _any_colour(rng), jittered(rng, (rng.random(), 0.3, 0.3))
    if rng.random() < 0.5:
        left = x + half * rng.uniform(-0.7, 0.4)
        pen.box(left, y - size, left + size * 0.13, eaves, roof * 0.7)
    pen.box(x - half, eaves, x + half, y, wall)
    ridge = half * rng.choice([0.0, 0.0, 0.4, 0.8])
    over = half * rng.uniform(1.0, 1.2)
    top = y - size * 0.96
    pen.polygon([(x - over, eaves), (x - ridge, top), (x + ridge, top), (x + over, eaves)], roof)
    door = x + half * rng.uniform(-0.6, 0.6)
    pen.box(door - size * 0.08, y - size * 0.3, door + size * 0.08, y, dark)
    for step in (-0.6, 0.0, 0.6):
        if abs(x + step * half - door) > size * 0.2:
            centre, high = x + step * half, y - size * 0.35
            pen.box(centre - size * 0.08, high - size * 0.1, centre + size * 0.08, high + size * 0.06, dark * 1.6)


def _tree(pen: Pen, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    leaf = _one_of(rng, ((0.30, 0.6, 0.35), (0.27, 0.6, 0.5), (0.36, 0.5, 0.3), (0.07, 0.75, 0.7), (0.16, 0.6, 0.6)))
    trunk = size * rng.uniform(0.05, 0.09)
    pen.box(x - trunk, y - size * 0.5, x + trunk, y, jittered(rng, (0.07, 0.5, 0.35)))
    if rng.random() < 0.4:  # conifer
        for tier in range(3):
            foot, half = y - size * (0.2 + 0.25 * tier), size * (0.36 - 0.08 * tier)
            pen.polygon([(x - half, foot), (x, foot - size * 0.32), (x + half, foot)], leaf * (0.85 + 0.12 * tier))
        return
    for _ in range(int(rng.integers(6, 10))):
        angle, reach = rng.uniform(0, 2 * np.pi), size * rng.uniform(0.05, 0.2)
        centre = (x + 1.2 * reach * np.cos(angle), y - size * 0.66 + reach * np.sin(angle))
        pen.disc(*centre, size * rng.uniform(0.12, 0.18), leaf * rng.uniform(0.75, 1.25), stretch=1.15)


def _car(pen: Pen, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    paint, glass, length = _any_colour(rng), jittered(rng, (0.56, 0.25, rng.uniform(0.2, 0.8))), size * 1.1
    facing, wheel = rng.choice([-1, 1]), size * rng.uniform(0.19, 0.24)
    sill, belt, roof = y - wheel * 0.8, y - size * 0.58, y - size

    def shape(corners: Sequence[Point], colour: np.ndarray) -> None:
        pen.polygon([(x + facing * length * along, height) for along, height in corners], colour)

    shape([(-0.62, roof + size * 0.04), (0.25, roof), (0.5, belt), (-0.75, belt)], paint * 0.9)
    shape([(-0.56, roof + size * 0.1), (-0.2, roof + size * 0.08), (-0.2, belt), (-0.66, belt)], glass)
    shape([(-0.1, roof + size * 0.08), (0.2, roof + size * 0.08), (0.4, belt), (-0.1, belt)], glass)
    shape([(-0.97, belt), (0.6, belt), (0.98, belt + size * 0.13), (1.0, sill), (-1.0, sill)], paint)
    for along in (-0.58, 0.6):
        pen.disc(x + facing * length * along, y - wheel, wheel, jittered(rng, (0.6, 0.1, 0.14)))
        pen.disc(x + facing * length * along, y - wheel, wheel * 0.5, jittered(rng, (0.6, 0.05, 0.7)))


def _boat(pen: Pen, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    hull, sail = _any_colour(rng), _one_of(rng, ((0.1, 0.05, 0.95), (0.0, 0.7, 0.8), (0.6, 0.5, 0.7)))
    deck, half = y - size * 0.3, size * rng.uniform(0.5, 0.75)
    pen.polygon([(x - half, deck), (x + half, deck), (x + half * 0.65, y), (x - half * 0.75, y)], hull)
    pen.box(x - half * 0.9, deck + size * 0.05, x + half * 0.88, deck + size * 0.1, hull * 0.6)
    if rng.random() < 0.7:
        mast = max(1.0, size * 0.025)
        pen.box(x - mast, y - size, x + mast, deck, jittered(rng, (0.08, 0.5, 0.35)))
        pen.polygon([(x + mast, y - size * 0.97), (x + half * 0.85, deck - 1), (x + mast, deck - 1)], sail)
        pen.polygon([(x - mast, y - size * 0.9), (x - half * 0.75, deck - 1), (x - mast, deck - 1)], sail * 0.85)
        return
    pen.box(x - half * 0.5, y - size * 0.6, x + half * 0.3, deck, sail)
    pen.box(x - half * 0.4, y - size * 0.53, x + half * 0.2, deck - size * 0.1, hull * 0.5)
    pen.box(x - half * 0.25, y - size * 0.85, x, y - size * 0.6, hull)


def _flower(pen: Pen, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    green, heart = jittered(rng, (0.3, 0.65, 0.45)), _one_of(rng, ((0.14, 0.8, 0.95), (0.07, 0.6, 0.35)))
    petal = jittered(rng, (rng.choice([0.0, 0.08, 0.15, 0.62, 0.78, 0.9]), rng.choice([0.05, 0.7, 0.8]), 0.9))
    top, stem = y - size * 0.68, size * rng.uniform(0.03, 0.05)
    pen.box(x - stem, top, x + stem, y, green)
    for side in (-1, 1):
        leaf = [(x, y - size * 0.05), (x + side * size * 0.26, y - size * 0.3), (x, y - size * 0.2)]
        pen.polygon(leaf, green * 0.9)
    count, turn = int(rng.integers(5, 9)), rng.random()
    for angle in np.arange(count) * 2 * np.pi / count + turn:
        pen.disc(x + size * 0.19 * np.cos(angle), top + size * 0.19 * np.sin(angle), size * 0.13, petal)
    pen.disc(x, top, size * rng.uniform(0.09, 0.13), heart)


def _person(pen: Pen, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    skin = jittered(rng, (0.07, 0.45, rng.uniform(0.35, 0.95)))
    shirt, trousers, half = _any_colour(rng), _any_colour(rng), size * rng.uniform(0.11, 0.15)
    hips, shoulders, stride = y - size * 0.45, y - size * 0.8, size * rng.uniform(0, 0.1)
    for side in (-1, 1):
        foot = x + side * (half * 0.55 + stride)
        pen.polygon([(x, hips), (x + side * half, hips), (foot + half * 0.4, y), (foot - half * 0.4, y)], trousers)
        hand = (x + side * half * rng.uniform(1.3, 2.2), y - size * rng.uniform(0.4, 0.85))
        arm = [(x + side * half * 0.6, shoulders), (x + side * half * 1.1, shoulders + size * 0.04), hand]
        pen.polygon([*arm, (hand[0] - side * size * 0.05, hand[1] + size * 0.05)], shirt * 0.85)
    pen.box(x - half, shoulders, x + half, hips, shirt)
    pen.disc(x, y - size * 0.89, size * 0.105, skin)
    hair = jittered(rng, (0.07, 0.5, rng.uniform(0.1, 0.7)))
    pen.box(x - size * 0.09, y - size, x + size * 0.09, y - size * 0.93, hair)


def _fence(pen: Pen, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    wood = _one_of(rng, ((0.08, 0.45, 0.5), (0.1, 0.05, 0.92), (0.08, 0.3, 0.7), (0.6, 0.1, 0.45), (0.35, 0.3, 0.5)))
    half, pitch = size * rng.uniform(0.9, 2.0), max(3.0, size * rng.uniform(0.16, 0.24))
    open_part = pitch * (rng.uniform(0.2, 0.3) if rng.random() < 0.4 else 0.0)  # see-through, or boards with seams
    for rail in (0.25, 0.7):
        pen.box(x - half, y - size * (rail + 0.07), x + half, y - size * (rail - 0.07), wood * 0.75)
    point = size * rng.choice([0.0, 0.12])
    for left in np.arange(x - half, x + half - pitch / 2, pitch):
        right = left + pitch - open_part
        top, peak = y - size + point, y - size
        pen.polygon([(left, y), (left, top), ((left + right) / 2, peak), (right, top), (right, y)], wood)
        if not open_part:
            pen.box(left, top, left + max(0.5, pitch * 0.08), y, wood * 0.5)


_DRAWERS: dict[str, Callable[[Pen, np.random.Generator, float, float, float], None]] = {
    drawer.__name__.removeprefix("_"): drawer for drawer in (_sun, _house, _tree, _car, _boat, _flower, _person, _fence)
}

"""Colours of categories: apart by CIEDE2000 (Sharma, Wu and Dalal, 2005), written down here; stripes beyond them."""

import io

import numpy as np
import pytest
from PIL import Image

from scclip.pipeline.annotations.palette import COLOURS, colour, css_colour, css_ink, ink, pattern
from scclip.pipeline.review.drawing import mask_png


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of sRGB values (…, 3), 0..255."""
    value = rgb / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = linear @ np.array(to_xyz).T / [0.95047, 1, 1.08883]
    x, y, z = np.moveaxis(np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def ciede2000(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """The difference of CIELAB colours (…, 3)."""
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(one, -1, 0), np.moveaxis(two, -1, 0)
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + 25**7))
    a1, a2 = a1 * stretch, a2 * stretch
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, a1)), np.degrees(np.arctan2(b2, a2))
    turn = (h2 - h1 + 180) % 360 - 180
    light, chroma, hue = (l1 + l2) / 2, (c1 + c2) / 2, h1 + turn / 2
    waves = ((1, -30, -0.17), (2, 0, 0.24), (3, 6, 0.32), (4, -63, -0.20))
    weight = 1 + sum(scale * np.cos(np.radians(times * hue + shift)) for times, shift, scale in waves)
    s_l = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    s_c, s_h = 1 + 0.045 * chroma, 1 + 0.015 * chroma * weight
    bend = np.exp(-((((hue - 275 + 180) % 360 - 180) / 25) ** 2)) * 60
    r_t = -2 * np.sqrt(chroma**7 / (chroma**7 + 25**7)) * np.sin(np.radians(bend))
    d_l, d_c, d_h = (l2 - l1) / s_l, (c2 - c1) / s_c, 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / s_h
    return np.sqrt(d_l**2 + d_c**2 + d_h**2 + r_t * d_c * d_h)


@pytest.mark.parametrize(  # pairs of the paper's table
    "one, two, expected",
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_difference_is_the_papers(one: tuple, two: tuple, expected: float) -> None:
    assert ciede2000(np.array(one, float), np.array(two, float)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("classes, least", [(14, 20), (21, 19), (171, 8), (COLOURS, 6.8)])
def test_no_class_has_a_twin(classes: int, least: float) -> None:
    """Background's grey included."""
    colours = lab(np.array([colour(category) for category in range(classes + 1)], float))
    differences = ciede2000(colours[:, None], colours[None])
    np.fill_diagonal(differences, np.inf)
    assert differences.min() > least


def test_beyond_the_colours_every_class_still_differs() -> None:
    """By colour for the page's script, by stripes for people; no colour is the stripes' or the edges' own."""
    colours = [colour(category) for category in range(1, 4097)]
    assert len(set(colours)) == 4096 and not {(0, 0, 0), (255, 255, 255)} & set(colours)
    looks = {(colour(1 + (category - 1) % COLOURS), pattern(category)) for category in range(1, 2001)}
    assert len(looks) == 2000 and pattern(COLOURS) is None and pattern(COLOURS + 1) is not None
    assert css_ink(1) in ("#000000", "#ffffff") and css_ink(1) != css_colour(1)


def test_stripes_are_drawn_over_their_class_alone() -> None:
    categories = 0, 1, 1 + COLOURS, 1 + 2 * COLOURS
    labels = np.array([[*categories, 65535]], np.uint16).repeat(24, 1).repeat(24, 0)
    drawn = np.asarray(Image.open(io.BytesIO(mask_png(labels))))
    assert not drawn[:, -24:].any() and (drawn[:, :-24, 3] == 255).all()  # ignored pixels are transparent
    for place, category in enumerate(categories):
        part = drawn[:, 24 * place : 24 * place + 24, :3].reshape(-1, 3)
        found = {tuple(pixel) for pixel in part.tolist()}
        assert found == {colour(category)} | ({ink(category)} if pattern(category) else set())
        assert (part == colour(category)).all(axis=1).mean() >= 0.6

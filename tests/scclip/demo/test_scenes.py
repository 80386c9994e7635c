"""The scenes are deterministic, exactly labelled, varied, and the three splits never share one."""

from itertools import pairwise

import numpy as np
import pytest

from scclip.demo.evaluate import SIZES
from scclip.demo.scenes import CLASSES, SURFACES, close_up, scene
from scclip.demo.things import Pen
from scclip.demo.training.pool import (
    BLOCK,
    DEVELOPMENT_SEEDS,
    SEEDS_PER_BLOCK,
    TEST_SEEDS,
    TRAINING_SEEDS,
    WINDOW,
    windows_of_scene,
)
from scclip.vocabulary.vocabulary import Vocabulary


@pytest.mark.parametrize("size", [(112, 112), (60, 200), (301, 97), (16, 16)])
def test_a_scene_has_the_asked_size_and_depends_on_its_seed_alone(size: tuple[int, int]) -> None:
    image, truth = scene(5, *size)
    again, truth_again = scene(5, *size)
    other, _ = scene(6, *size)
    assert image.shape == (*size, 3) and truth.shape == size and image.dtype == truth.dtype == np.uint8
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(truth, truth_again)
    assert (image != other).any()


def test_every_pixel_has_a_category_and_every_category_occurs() -> None:
    counts = sum(np.bincount(scene(seed, 96, 128)[1].ravel(), minlength=256) for seed in range(80))
    assert counts[0] == 0 and not counts[len(CLASSES) + 1 :].any()
    assert (counts[1 : len(CLASSES) + 1] > 0.002 * counts.sum()).all()


def test_things_cover_the_same_share_of_small_and_large_pictures() -> None:
    def share(side: int) -> float:
        return float(np.mean([(scene(seed, side, side)[1] > len(SURFACES)).mean() for seed in range(40)]))

    assert share(64) == pytest.approx(share(256), rel=0.35)


def test_the_truth_has_exactly_the_pixels_that_were_painted() -> None:
    """A thing drawn on an empty picture paints the pixels that its truth names, and no others."""
    from PIL import Image

    from scclip.demo.scenes import THINGS
    from scclip.demo.things import draw_thing

    for name in THINGS:
        picture, labels = Image.new("RGB", (120, 90), (1, 2, 3)), Image.new("L", (120, 90))
        draw_thing(name, Pen(picture, labels, category=9), np.random.default_rng(3), x=60, y=80, size=60)
        painted = (np.asarray(picture) != (1, 2, 3)).any(-1)
        np.testing.assert_array_equal(painted, np.asarray(labels) == 9, err_msg=name)
        assert painted.any()


@pytest.mark.parametrize("category", range(1, len(CLASSES) + 1))
def test_a_close_up_is_filled_by_its_category(category: int) -> None:
    _, truth = close_up(category, 112, 112, category)
    assert (truth == category).mean() > 0.1


def test_colours_alone_do_not_tell_surfaces_apart() -> None:
    """Means of different surfaces' colours overlap: a nearest-mean look-up is wrong for many pictures."""
    means = np.array([[close_up(seed, 32, 32, c)[0].mean((0, 1)) for seed in range(40)] for c in range(1, 7)])
    centres = means[:, :20].mean(1)
    nearest = np.linalg.norm(means[:, 20:, None] - centres, axis=-1).argmin(-1)
    assert (nearest == np.arange(6)[:, None]).mean() < 0.75


def test_splits_share_no_seed_and_the_test_sizes_are_new() -> None:
    splits = (TRAINING_SEEDS, DEVELOPMENT_SEEDS, TEST_SEEDS)
    assert all(a.stop <= b.start for a, b in pairwise(splits))
    assert SEEDS_PER_BLOCK >= BLOCK and len(TRAINING_SEEDS) >= SEEDS_PER_BLOCK * 20
    assert not set(SIZES["test"]) & set(SIZES["development"])


def test_training_windows_depend_on_their_seed_alone_and_carry_their_truth() -> None:
    windows = windows_of_scene(4, 3)
    assert windows.shape == (3, WINDOW, WINDOW, 4) and windows.dtype == np.uint8
    np.testing.assert_array_equal(windows, windows_of_scene(4, 3))
    assert windows[..., 3].min() >= 1 and windows[..., 3].max() <= len(CLASSES)
    assert (windows_of_scene(4, 2, category=6)[..., 3] == 6).all()


def test_a_picture_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="a scene of 8 x 40 pixels is too small"):
        scene(1, 8, 40)


def test_the_demo_vocabulary_names_the_scenes_classes_in_order() -> None:
    vocabulary = Vocabulary.load("demo")
    assert tuple(entry.name for entry in vocabulary.classes) == CLASSES
    assert [entry.thing for entry in vocabulary.classes] == [name not in SURFACES for name in CLASSES]
    assert not vocabulary.background

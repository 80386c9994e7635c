"""Categories: indices, names, and the label maps that they need."""

import numpy as np
import pytest

from scclip.categories import Categories


def test_a_vocabulary_with_and_without_a_background() -> None:
    classes = [("car", True), ("road", None)]
    without, with_background = (Categories.of(classes, background=background) for background in (False, True))
    assert dict(without) == {1: "car", 2: "road"} and dict(with_background) == {0: "background", 1: "car", 2: "road"}
    assert without.classes == with_background.classes == [1, 2]
    assert (without.unlabeled, with_background.unlabeled) == (255, 0)
    assert without.things == {1: True, 2: None} and 0 not in without and 0 in with_background


@pytest.mark.parametrize(
    ("count", "dtype", "ignore"), [(1, np.uint8, 255), (254, np.uint8, 255), (255, np.uint16, 65535)]
)
def test_more_than_254_classes_need_16_bits(count: int, dtype: type, ignore: int) -> None:
    categories = Categories({category: str(category) for category in range(1, count + 1)})
    assert categories.dtype is dtype and categories.ignore == categories.unlabeled == ignore

"""Numbers of categories: there and back, up to the last class of either dtype."""

import json

import numpy as np
import pytest

from scclip.categories import Categories
from scclip.pipeline.annotations.numbering import Numbering


@pytest.mark.parametrize("classes", [1, 2, 254, 255, 300])
@pytest.mark.parametrize(("background", "base"), [(False, 0), (False, 1), (True, 0), (True, 1)])
def test_there_and_back(classes: int, background: bool, base: int) -> None:
    known = Categories.of(((f"class {n}", [None, True, False][n % 3]) for n in range(classes)), background=background)
    numbering = Numbering.of_maps(known, base)
    labels = np.array([[*known, known.ignore]], known.dtype)
    numbers = numbering.numbers(labels)
    assert numbers.dtype == labels.dtype and numbers[0, -1] == known.ignore
    assert [numbering.meanings[value] for value in numbers[0, :-1].tolist()] == list(known.values())
    document = json.loads(json.dumps(numbering.to_json()))
    again = Numbering.from_json(document)
    assert again and again.to_json() == numbering.to_json() and again.categories.dtype == known.dtype
    assert list(document["id2label"]) == [str(number) for number in range(numbers[0, :-1].max() + 1)]
    assert numbers[0, 0] == (0 if background or base == 0 else 1)


def test_classes_alone() -> None:
    known = Categories.of([("car", True), ("road", None)], background=True)
    assert Numbering.of_classes(known, 0).meanings == {0: "car", 1: "road"}
    assert Numbering.of_classes(known, 1).meanings == {1: "car", 2: "road"}
    with pytest.raises(ValueError, match="the first class is 0"):
        Numbering(known, 0)

"""The drift of two runs against confusion matrices of their PNGs; classes matched by name."""

import numpy as np

from scclip.pipeline.review.drift import ChangedImage, Classes, Drift
from scclip.pipeline.review.images import ImageRef


def test_classes_are_matched_by_name() -> None:
    classes = Classes.of({1: "Car", 2: "road", 3: "tree"}, {0: "background", 1: "road", 2: " car ", 3: "lamp"})
    assert classes.names == ("background", "Car", "road", "tree", "lamp", "ignored")
    assert classes.indices == ({1: 1, 2: 2, 3: 3}, {0: 0, 1: 2, 2: 1, 3: 4})
    assert classes.only == (("tree",), ("background", "lamp"))


def test_sums_do_not_depend_on_the_order() -> None:
    def drift(seed: int) -> Drift:
        random = np.random.default_rng(seed)
        refs = [
            ImageRef(unit=seed, index=index, key=f"{seed}-{index}", image_id=index, width=9, height=9)
            for index in range(30)
        ]
        images = [ChangedImage(float(random.random()), image, image) for image in refs]
        return Drift(random.integers(0, 9, (3, 3)), 30, 0, seed, images)

    one, other = drift(1) + drift(2) + drift(3), drift(3) + (drift(1) + drift(2))
    np.testing.assert_array_equal(one.matrix, other.matrix)
    assert (one.compared, one.missing, one.images) == (90, 6, other.images)
    assert [image.share for image in one.images] == sorted((image.share for image in one.images), reverse=True)


def test_figures_of_a_matrix() -> None:
    drift = Drift(np.array([[50, 10, 0], [0, 30, 10], [0, 0, 0]]))
    np.testing.assert_allclose(drift.iou, [50 / 60, 30 / 50, 0 / 10])
    np.testing.assert_allclose(drift.area, [[0.6, 0.4, 0], [0.5, 0.4, 0.1]])
    assert drift.changed == 0.2 and drift.flows() == [(0, 1, 10), (1, 2, 10)]
    nothing = Drift(np.zeros((2, 2), np.int64))
    assert nothing.changed == 0.0 and np.isnan(nothing.iou).all() and nothing.flows() == []

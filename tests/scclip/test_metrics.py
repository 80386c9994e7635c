"""The confusion matrix and IoU against a loop over pixels and against sets of pixels."""

import numpy as np
import pytest

from scclip import metrics
from scclip.metrics import confusion, iou, mean_iou

CLASSES = 6  # category 4 is in no map, 5 in the prediction alone


def maps(seed: int, dtype: type = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    random, ignore = np.random.default_rng(seed), np.iinfo(dtype).max
    truth = random.choice([0, 1, 2, 3, ignore], (23, 31)).astype(dtype)
    prediction = np.where(random.random(truth.shape) < 0.6, truth, random.choice([0, 1, 2, 5, ignore], truth.shape))
    return truth, prediction.astype(dtype)


def naive(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    matrix = np.zeros((CLASSES, CLASSES + 1), np.int64)
    for wanted, found in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if wanted != np.iinfo(truth.dtype).max:
            matrix[wanted, CLASSES if found == np.iinfo(prediction.dtype).max else found] += 1
    return matrix


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("block", [7, 1 << 20])
def test_confusion_is_the_naive_loop(dtype: type, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "BLOCK_PIXELS", block)
    truth, prediction = maps(1, dtype)
    matrix = confusion(truth, prediction, CLASSES)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, naive(truth, prediction))
    assert matrix[:, -1].sum() > 0 and matrix.sum() == (truth != np.iinfo(dtype).max).sum()


def test_iou_is_that_of_pixel_sets() -> None:
    """Absent classes have no IoU and no share in the mean; a class that is only predicted has 0."""
    truth, prediction = maps(2)
    counted = truth != 255
    wanted = []
    for category in range(CLASSES):
        real, found = counted & (truth == category), counted & (prediction == category)
        wanted.append((real & found).sum() / (real | found).sum() if (real | found).any() else np.nan)
    matrix = confusion(truth, prediction, CLASSES)
    np.testing.assert_allclose(iou(matrix), wanted, rtol=1e-12)
    assert np.isnan(wanted[4]) and wanted[5] == 0
    assert mean_iou(matrix) == pytest.approx(np.nanmean(wanted), rel=1e-12)
    assert np.isnan(mean_iou(np.zeros((3, 4), np.int64)))


def test_matrices_add_up_beyond_32_bits() -> None:
    pairs = [maps(seed) for seed in range(4)]
    joined = confusion(*(np.stack(planes) for planes in zip(*pairs, strict=True)), CLASSES)
    summed = sum(confusion(*pair, CLASSES) for pair in pairs)
    np.testing.assert_array_equal(joined, summed)
    huge = joined * 2**40  # as a sum over 2^40 such images would be
    assert huge.max() > 2**45 and int(huge.sum()) == int(joined.sum()) * 2**40
    np.testing.assert_allclose(iou(huge), iou(joined), rtol=1e-12)


def test_wrong_maps_are_named() -> None:
    truth, prediction = maps(3)
    with pytest.raises(ValueError, match="same shape"):
        confusion(truth, prediction[1:], CLASSES)
    with pytest.raises(ValueError, match="truth holds category 3"):
        confusion(truth, prediction, 3)
    with pytest.raises(ValueError, match="prediction holds category 5"):
        confusion(np.zeros_like(truth), prediction, 5)

"""Intersection over union as mmsegmentation computes it: one int64 confusion matrix per split.

    matrix = sum(confusion(truth, prediction, classes) for truth, prediction in pairs)
    mean_iou(matrix)   # of the classes whose union is not empty

Matrices add up in any order and are divided once, at the end. C counts the category indices, 0 included: a vocabulary
of N classes has C = N + 1, and where it has no background row and column 0 stay empty.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scclip.categories import Labels, ignore_value

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BLOCK_PIXELS = 1 << 20  # int64 pair numbers of a block: 8 MiB whatever the size of the image


def confusion(truth: Labels, prediction: Labels, classes: int) -> IntArray:
    """Pixels by truth (row) and prediction (column), int64 (C, C + 1); the last column is predicted ignore.

    Args:
        truth: category indices 0..C-1, uint8 or uint16, any shape; pixels of the dtype's ignore value are left out.
        prediction: the same shape; its own dtype's ignore value counts as ignore.
        classes: C, the number of category indices with 0.

    Raises ValueError for different shapes and for a value that is neither a category nor ignore.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} must have the same shape")
    rows, columns = _indices(truth.dtype, classes), _indices(prediction.dtype, classes)
    counts = np.zeros((classes + 2) ** 2, np.int64)
    for start in range(0, truth.size, BLOCK_PIXELS):
        block = slice(start, start + BLOCK_PIXELS)
        pairs = rows[truth.ravel()[block]] * (classes + 2) + columns[prediction.ravel()[block]]
        counts += np.bincount(pairs, minlength=counts.size)
    table = counts.reshape(classes + 2, classes + 2)
    _refuse_unknown(table, truth, prediction, classes)
    return table[:classes, : classes + 1].copy()


def _indices(dtype: npt.DTypeLike, classes: int) -> IntArray:
    """Index of every value of a dtype in the matrix: itself below C, C for ignore, C + 1 for what is neither."""
    values = np.arange(ignore_value(dtype) + 1)
    indices = np.where(values < classes, values, classes + 1)
    indices[-1] = classes
    return indices


def _refuse_unknown(table: IntArray, truth: Labels, prediction: Labels, classes: int) -> None:
    for name, labels, unknown in (("truth", truth, table[-1]), ("prediction", prediction, table[:, -1])):
        if unknown.any():
            value = int(labels[(labels >= classes) & (labels != ignore_value(labels.dtype))].max())
            raise ValueError(f"{name} holds category {value}; the indices are 0 to {classes - 1} and ignore")


def iou(matrix: IntArray) -> FloatArray:
    """Intersection over union of each class, float64 (C,); NaN where neither truth nor prediction has the class.

    A pixel of the truth that is predicted ignore counts in its class's union: leaving pixels out gains nothing.
    """
    hits = np.diagonal(matrix)
    union = matrix.sum(axis=1) + matrix[:, :-1].sum(axis=0) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def pixel_accuracy(matrix: IntArray) -> float:
    """Share of the truth's pixels with the right label, predicted ignore being wrong; NaN if there are none."""
    pixels = int(matrix.sum())
    return int(np.trace(matrix)) / pixels if pixels else float("nan")


class Confusion(NamedTuple):
    """Pixels of one class that got another's label."""

    truth: int
    predicted: int
    """A category index, or C for ignore."""
    pixels: int
    share: float
    """Of the pixels of `truth`, 0..1."""


def largest_confusions(matrix: IntArray, count: int) -> list[Confusion]:
    """The most frequent mistakes of a matrix (C, C + 1) by pixels, the largest first, the lower indices of equals."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    rows, columns = np.unravel_index(order, wrong.shape)
    largest = zip(rows.tolist(), columns.tolist(), wrong[rows, columns].tolist(), strict=True)
    return [Confusion(row, column, count, count / int(matrix[row].sum())) for row, column, count in largest if count]


def mean_iou(matrix: IntArray) -> float:
    """Mean over the classes whose union is not empty; NaN if there are none."""
    return mean(iou(matrix))


def mean(values: FloatArray) -> float:
    """Mean of a metric (C,) over the classes where it is not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")

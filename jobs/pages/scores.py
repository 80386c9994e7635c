"""What a page shows of an evaluation: IoU of each class, the confusion matrix, the largest mistakes.

>>> html = render("run.html.j2", scores=score_view(evaluation), ...)     # scores.html.j2 lays it out
"""

from dataclasses import dataclass

import numpy as np

from scclip.metrics import Confusion, iou, largest_confusions, mean_iou, pixel_accuracy
from scclip.pipeline.evaluation.results import Evaluation, number, protocol_line

METHODS = {"scclip": "SC-CLIP", "maskclip": "MaskCLIP", "clip": "plain CLIP"}
MISTAKES = 16  # rows of their table
FAINTEST = 0.005  # share of a class's pixels below which a cell is left white


@dataclass(frozen=True, kw_only=True)
class ConfusionPicture:
    """A confusion matrix to be drawn, each row divided by its sum."""

    rows: list[str]
    """Names of the classes that the truth has."""
    columns: list[str]
    """Names of these and of what pixels were labeled as."""
    cells: list[tuple[int, int, float]]
    """Row, column and share of the row's pixels, FAINTEST or more."""


@dataclass(frozen=True, kw_only=True)
class ScoreView:
    """What `scores.html.j2` shows."""

    evaluation: Evaluation
    titles: list[str]
    """Of the variants."""
    mean_ious: list[float | None]
    """Of each variant; None where there is no figure."""
    accuracies: list[float | None]
    """Pixel accuracy of each variant."""
    ious: dict[int, list[float | None]]
    """Category → IoU of each variant, for classes that truth or labels have."""
    protocol: str
    """Whether the figures are those of the benchmark's protocol."""
    confusion: ConfusionPicture
    """Of the first variant."""
    mistakes: list[Confusion]
    """The first variant's largest ones."""


def score_view(evaluation: Evaluation) -> ScoreView:
    """The figures of an evaluation as a page shows them."""
    matrices = list(evaluation.matrices.values())
    by_class = np.stack([iou(matrix) for matrix in matrices], axis=1)
    line = protocol_line(evaluation)
    return ScoreView(
        evaluation=evaluation,
        titles=[title_of(variant) for variant in evaluation.matrices],
        mean_ious=[number(mean_iou(matrix)) for matrix in matrices],
        accuracies=[number(pixel_accuracy(matrix)) for matrix in matrices],
        ious={c: list(map(number, by_class[c].tolist())) for c in evaluation.names if not np.isnan(by_class[c]).all()},
        protocol=line[:1].upper() + line[1:],
        confusion=confusion_picture(evaluation),
        mistakes=largest_confusions(matrices[0], MISTAKES),
    )


def title_of(variant: str) -> str:
    """A variant's name for people: `scclip-fusion` is SC-CLIP − fusion."""
    method = max((name for name in METHODS if variant.startswith(name)), key=len, default="")
    return METHODS.get(method, "") + variant[len(method) :].replace("+", " + ").replace("-", " − ")


def confusion_picture(evaluation: Evaluation) -> ConfusionPicture:
    """The matrix of the first variant; classes that the truth lacks have no row."""
    matrix, names = next(iter(evaluation.matrices.values())), evaluation.names
    rows = [category for category in names if matrix[category].any()]
    columns = [category for category in names if matrix[:, category].any() or category in rows]
    columns += [matrix.shape[1] - 1] if matrix[:, -1].any() else []
    shares = matrix[np.ix_(rows, columns)] / matrix[rows].sum(axis=1, keepdims=True)
    return ConfusionPicture(
        rows=[evaluation.name_of(category) for category in rows],
        columns=[evaluation.name_of(category) for category in columns],
        cells=[(y, x, float(shares[y, x])) for y, x in np.argwhere(shares >= FAINTEST).tolist()],
    )

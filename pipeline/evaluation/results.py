"""What an evaluation found: figures from confusion matrices, as JSON, Markdown and text.

    evaluation = Evaluation(title="voc20", names=names, matrices={"scclip": matrix}, statuses={"ok": 1449}, ...)
    print(as_text(evaluation))

Figures for people are in percent with two decimals, as papers print them; those in JSON are fractions.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from scclip.metrics import Confusion, FloatArray, IntArray, iou, largest_confusions, mean, mean_iou, pixel_accuracy
from scclip.pipeline.annotations.schemas import Status
from scclip.wording import counted

# By key in results.json: matrix (C, C + 1) → (C,) in 0..1, NaN where undefined. Each but IoU adds its mean to the
# table.
CLASS_METRICS: Mapping[str, Callable[[IntArray], FloatArray]] = {"iou": iou}
CONFUSIONS = 5  # the largest, as printed
IGNORED = "(no class)"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Labels against ground truth, over all images of it."""

    title: str
    """Benchmark or vocabulary."""
    model: str
    """What the labels come from."""
    names: Mapping[int, str]
    """Category index → name; 0 only where there is a background."""
    matrices: Mapping[str, IntArray]
    """Variant → int64 (C, C + 1), truth by prediction, the last column predicted ignore."""
    statuses: Mapping[str, int]
    """Images by status; those that are not "ok" are in no matrix."""
    published: float | None = None
    """Published mIoU in percent, where this model and benchmark have one."""
    deviations: tuple[str, ...] | None = None
    """In what this is not the benchmark's protocol; None: there is no benchmark."""
    warnings: tuple[str, ...] = ()
    """What makes the figures doubtful."""

    @property
    def images(self) -> int:
        """Images that were evaluated."""
        return self.statuses.get(Status.OK, 0)

    @property
    def failed(self) -> int:
        """Images that were read and not evaluated."""
        return sum(self.statuses.values()) - self.images

    def name_of(self, category: int) -> str:
        """A category's name; what lies beyond the last is predicted ignore."""
        return self.names.get(category, IGNORED)


def protocol_line(evaluation: Evaluation) -> str:
    """Whether the figures are the protocol's; empty where there is no benchmark."""
    if evaluation.deviations is None:
        return ""
    if not evaluation.deviations:
        return f"protocol of {evaluation.title}"
    return f"not the protocol of {evaluation.title}: {'; '.join(evaluation.deviations)}"


def as_json(evaluation: Evaluation) -> bytes:
    """results.json: fractions 0..1, null for a class that neither truth nor prediction has."""
    categories = list(evaluation.names)
    document = {
        "title": evaluation.title,
        "model": evaluation.model,
        "images_read": sum(evaluation.statuses.values()),
        "images_evaluated": evaluation.images,
        "statuses": dict(sorted(evaluation.statuses.items())),
        "published_miou_percent": evaluation.published,
        "protocol": None if evaluation.deviations is None else not evaluation.deviations,
        "deviations": list(evaluation.deviations or ()),
        "classes": [{"category": category, "name": name} for category, name in evaluation.names.items()],
        "variants": {name: figures(matrix, categories) for name, matrix in evaluation.matrices.items()},
    }
    return json.dumps(document, ensure_ascii=True).encode()


def figures(matrix: IntArray, categories: list[int]) -> dict[str, object]:
    """Figures of one variant; the matrix has a row per class and one column more, predicted ignore."""
    columns = [*categories, matrix.shape[1] - 1]
    return {
        "miou": number(mean_iou(matrix)),
        "pixel_accuracy": number(pixel_accuracy(matrix)),
        **{name: list(map(number, metric(matrix)[categories].tolist())) for name, metric in CLASS_METRICS.items()},
        "confusion": matrix[np.ix_(categories, columns)].tolist(),
    }


def number(value: float) -> float | None:
    """The value, or None for NaN: JSON has none."""
    return None if math.isnan(value) else value


def percent(value: float) -> str:
    """A fraction for people."""
    return "–" if math.isnan(value) else f"{100 * value:.2f}"


def table(evaluation: Evaluation) -> list[list[str]]:
    """Head, mIoU, pixel accuracy and one row per class; a column per variant, the published figure last."""
    matrices, published = list(evaluation.matrices.values()), evaluation.published is not None
    ious = [iou(matrix) for matrix in matrices]
    others = {f"mean {name}": metric for name, metric in CLASS_METRICS.items() if metric is not iou}
    rows = [
        ["", *evaluation.matrices, "published"],
        ["mIoU", *(percent(mean_iou(matrix)) for matrix in matrices), f"{evaluation.published or 0:.1f}"],
        ["pixel accuracy", *(percent(pixel_accuracy(matrix)) for matrix in matrices), ""],
        *([name, *(percent(mean(metric(matrix))) for matrix in matrices), ""] for name, metric in others.items()),
        *([name, *(percent(values[category]) for values in ious), ""] for category, name in evaluation.names.items()),
    ]
    return rows if published else [row[:-1] for row in rows]


def mistakes(evaluation: Evaluation) -> list[Confusion]:
    """The first variant's largest confusions."""
    return largest_confusions(next(iter(evaluation.matrices.values())), CONFUSIONS)


def mistake_lines(evaluation: Evaluation) -> list[str]:
    """The same as text."""
    return [
        f"{evaluation.name_of(mistake.truth)} → {evaluation.name_of(mistake.predicted)}: {mistake.pixels:,} pixels, "
        f"{percent(mistake.share)} % of the class"
        for mistake in mistakes(evaluation)
    ]


def head_lines(evaluation: Evaluation) -> list[str]:
    """What was measured, and what is wrong with it."""
    failed = f", {evaluation.failed:,} more could not be evaluated" if evaluation.failed else ""
    lines = [
        f"{evaluation.title}, {evaluation.model}: {counted(evaluation.images, 'image')}{failed}",
        protocol_line(evaluation),
    ]
    return [line for line in lines if line]


def as_text(evaluation: Evaluation) -> str:
    """For the terminal: percent, columns aligned."""
    rows = table(evaluation)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
    lines = ["  ".join(row).rstrip() for row in aligned]
    first = next(iter(evaluation.matrices))
    wrong = [f"largest confusions of {first}:", *(f"  {line}" for line in mistake_lines(evaluation))]
    return "\n".join([*head_lines(evaluation), *lines, *(wrong if len(wrong) > 1 else [])])


def as_markdown(evaluation: Evaluation) -> str:
    """results.md: the same table, IoU in percent."""
    head, *rows = table(evaluation)
    lines = [f"# {cell(evaluation.title)}", "", *(f"{line}.\n" for line in head_lines(evaluation))]
    lines += [f"{line}.\n" for line in evaluation.warnings]
    lines += [f"| {' | '.join(cell(text) for text in ['class', *head[1:]])} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    lines += [f"| {' | '.join(cell(text) for text in row)} |" for row in rows]
    lines += ["", f"Largest confusions of {next(iter(evaluation.matrices))}, truth → label:", ""]
    return "\n".join([*lines, *(f"- {line}" for line in mistake_lines(evaluation)), ""])


def cell(text: str) -> str:
    """Text that a Markdown table keeps whole."""
    return text.replace("|", "\\|")

"""An evaluation as sections of a page: IoU of each class, the confusion matrix as a picture, the largest mistakes.

score_section(evaluation) + confusion_section(evaluation)
"""

import numpy as np

from scclip.jobs.pages.parts import bar, folded, label, share, text
from scclip.metrics import iou, mean_iou, pixel_accuracy
from scclip.pipeline.evaluation.results import IGNORED, Evaluation, mistakes, protocol_line

NAMES = {"scclip": "SC-CLIP", "maskclip": "MaskCLIP", "clip": "plain CLIP"}
ROWS_SHOWN = 60  # classes above "… more"
NAMED = 40  # classes: with more, the picture has no room for their names
NUMBERED = 24  # classes: with more, its cells have no room for figures
FAINTEST = 0.005  # share of a class's pixels below which a cell is left white


def title_of(variant: str) -> str:
    """A variant's name for people."""
    method = max((name for name in NAMES if variant.startswith(name)), key=len, default="")
    return NAMES.get(method, "") + variant[len(method) :].replace("+", " + ").replace("-", " − ")


def score_section(evaluation: Evaluation) -> str:
    """Mean IoU, pixel accuracy and IoU of each class, one column per variant, beside the published figure."""
    matrices = list(evaluation.matrices.values())
    ious = [iou(matrix) for matrix in matrices]
    rows = [
        score_row("<strong>Mean IoU</strong>", [mean_iou(matrix) for matrix in matrices], evaluation.published),
        score_row("Pixel accuracy", [pixel_accuracy(matrix) for matrix in matrices], evaluation.published and np.nan),
    ]
    present = [c for c in evaluation.names if not all(np.isnan(values[c]) for values in ious)]
    of_class = [
        score_row(label(c, evaluation.names[c]), [values[c] for values in ious], evaluation.published and np.nan)
        for c in present
    ]
    shown, more = of_class[:ROWS_SHOWN], of_class[ROWS_SHOWN:]
    rest = folded(f"{len(more)} more classes", score_table(evaluation, more))
    line = protocol_line(evaluation)
    note = f'<p class="{"note" if evaluation.deviations else "soft"}">{text(line[:1].upper() + line[1:])}.</p>'
    return (
        f"<section><h2>Against the ground truth</h2>{note if line else ''}"
        f"{score_table(evaluation, rows + shown)}{rest}</section>"
    )


def score_table(evaluation: Evaluation, rows: list[str]) -> str:
    """The table of these rows; nothing where there are none."""
    titles = [title_of(name) for name in evaluation.matrices]
    titles += ["published"] if evaluation.published is not None else []
    head = "".join(f'<th class="num">{text(name)}</th>' for name in titles)
    width = min(30, 70 // len(titles))
    columns = f"<colgroup><col>{f'<col style=width:{width}%>' * len(titles)}</colgroup>"
    table = f"{columns}<thead><tr><th>Class</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    size = f"min-width:{7 + 4.5 * len(titles):g}rem"
    return f'<div class="scroll"><table class="scores" style="{size}">{table}</table></div>' if rows else ""


def score_row(name: str, values: list[float], published: float | None) -> str:
    """A row of fractions; `published` in percent, NaN for an empty cell, None where there is no such column."""
    cells = "".join(score_cell(value) for value in values)
    last = "" if published is None else score_cell(published / 100, empty="")
    return f"<tr><td>{name}</td>{cells}{last}</tr>"


def score_cell(value: float, empty: str = "–") -> str:
    """One fraction as a table cell."""
    if np.isnan(value):
        return f'<td class="num">{empty}</td>'
    return f'<td class="num">{value:.3f}{bar(float(value))}</td>'


def confusion_section(evaluation: Evaluation) -> str:
    """The first variant's matrix as a picture, and its largest mistakes as a table."""
    first = next(iter(evaluation.matrices))
    rows = "".join(
        f"<tr><td>{label(found.truth, evaluation.name_of(found.truth))}</td>"
        f"<td>{label(found.predicted, name) if (name := evaluation.name_of(found.predicted)) != IGNORED else name}</td>"
        f'<td class="num">{share(found.share, 1)}</td><td class="num">{found.pixels:,}</td></tr>'
        for found in mistakes(evaluation)
    )
    head = '<tr><th>Truth</th><th>Labeled as</th><th class="num">Of the class</th><th class="num">Pixels</th></tr>'
    columns = '<colgroup><col><col><col class="n"><col class="n"></colgroup>'
    table = f'<table class="tally">{columns}<thead>{head}</thead><tbody>{rows}</tbody></table>' if rows else ""
    about = (
        f"{text(title_of(first))}: a row is a class of the truth, a column what its pixels were labeled as, the "
        "stronger the more of the class; the diagonal is right."
    )
    return (
        f'<section><h2>Confusion</h2><p class="soft">{about}</p>'
        f'<div class="scroll">{confusion_picture(evaluation)}</div>{table}</section>'
    )


def confusion_picture(evaluation: Evaluation) -> str:
    """The matrix, each row divided by its sum, as inline SVG; classes that the truth lacks have no row."""
    matrix, names = next(iter(evaluation.matrices.values())), evaluation.names
    rows = [category for category in names if matrix[category].any()]
    columns = [category for category in names if matrix[:, category].any() or category in rows]
    columns += [matrix.shape[1] - 1] if matrix[:, -1].any() else []
    if not rows:
        return ""
    shares = matrix[np.ix_(rows, columns)] / matrix[rows].sum(axis=1, keepdims=True)
    titles = [[evaluation.name_of(category) for category in axis] for axis in (rows, columns)]
    named = max(len(rows), len(columns)) <= NAMED
    longest = [max(len(shortened(name)) for name in axis) for axis in titles]
    cell = 22 if named else 6
    left, top, right = (6 + 6 * longest[0], 12 + 5 * longest[1], 4 * longest[1]) if named else (0, 0, 0)
    shapes = [
        f'<rect x="{left + x * cell}" y="{top + y * cell}" width="{cell - 1}" height="{cell - 1}" '
        f'opacity="{0.05 + 0.55 * shares[y, x]:.2f}"><title>{text(titles[0][y])} → {text(titles[1][x])}: '
        f"{share(shares[y, x], 1)}</title></rect>"
        for y, x in np.argwhere(shares >= FAINTEST).tolist()
    ]
    if max(len(rows), len(columns)) <= NUMBERED:
        shapes += [
            f'<text x="{left + (x + 0.48) * cell:g}" y="{top + (y + 0.62) * cell:g}">{100 * shares[y, x]:.0f}</text>'
            for y, x in np.argwhere(shares >= 0.01).tolist()
        ]
    if named:
        shapes += axis_names(titles[0], titles[1], cell, left, top)
    width, height = left + len(columns) * cell, top + len(rows) * cell
    frame = f'<path d="M{left} {top}H{width}V{height}H{left}Z"/>'
    size = f'viewBox="0 0 {width + right + 1} {height + 1}" style="max-width:{1.45 * (width + right):.0f}px"'
    return (
        f'<svg class="confusion" {size} '
        f'role="img" aria-label="confusion matrix of {len(rows)} classes">{frame}{"".join(shapes)}</svg>'
    )


def axis_names(rows: list[str], columns: list[str], cell: int, left: int, top: int) -> list[str]:
    """Names of the rows at the left and of the columns above, turned."""
    beside = [
        f'<text class="row" x="{left - 5}" y="{top + (place + 0.65) * cell:g}">{text(shortened(name))}</text>'
        for place, name in enumerate(rows)
    ]
    above = [
        f'<text class="col" transform="translate({left + (place + 0.65) * cell:g} {top - 5}) rotate(-55)">'
        f"{text(shortened(name))}</text>"
        for place, name in enumerate(columns)
    ]
    return beside + above


def shortened(name: str) -> str:
    """At most eighteen characters."""
    return name if len(name) <= 18 else name[:17] + "…"

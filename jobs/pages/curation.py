"""The report's section on curation: what to trust, what to merge, what to look at first.

curation_section(content); thresholds_yaml(content.curation, content.names)
"""

from collections.abc import Mapping, Sequence

import yaml

from scclip.jobs.pages.parts import bar, confidence, folded, label, share, text
from scclip.pipeline.review.curation import Confusable, Curation, Doubtful, NearQueries, Threshold
from scclip.pipeline.review.drawing import css_colour
from scclip.pipeline.review.report import ReportContent

THRESHOLDS = "thresholds.yaml"  # beside the report, for `scclip export --thresholds`
ROWS = 10  # of a list before it is folded

Names = Mapping[int, str]


def thresholds_yaml(curation: Curation, names: Names) -> bytes:
    """Class name: threshold, as `scclip export --thresholds` reads it."""
    values = {names[entry.category]: round(entry.threshold, 4) for entry in curation.thresholds}
    head = f"# Class-balanced: about {curation.keep:.0%} of every class's pixels reach its threshold.\n"
    return (head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)).encode()


def curation_section(content: ReportContent) -> str:
    """The section; nothing where no unit is finished."""
    curation, names = content.curation, content.names
    if curation is None:
        return ""
    parts = [
        part("Look at these first", DOUBTFUL, [doubtful_row(entry) for entry in curation.doubtful], DOUBTFUL_HEAD),
        part("Easily confused", PAIRS, [pair_row(entry, names) for entry in curation.pairs], PAIRS_HEAD),
        part(
            "Class-balanced thresholds",
            THRESHOLD.format(keep=f"{curation.keep:.0%}"),
            [threshold_row(entry, names) for entry in curation.thresholds],
            THRESHOLD_HEAD,
        ),
        part("Queries that hardly differ", NEAR, [near_row(entry, names) for entry in curation.near], NEAR_HEAD),
        silent(curation.silent, names),
    ]
    return f"<section><h2>Curation</h2>{''.join(parts)}</section>"


DOUBTFUL = "Images with low confidence, high entropy and little coverage, by the mean of the three ranks."
DOUBTFUL_HEAD = ("Image", "Confidence", "Entropy", "With a class")
PAIRS = (
    "Where the first class wins, the second comes next. A narrow margin over much of a class comes first: check "
    "these, merge them, or give them clearer names."
)
PAIRS_HEAD = ("Class, and its runner-up", "Margin", "Of its area")
THRESHOLD = (
    "About {keep} of each class's pixels reach its threshold; one threshold for all would lose the hard classes. "
    "They are in <code>thresholds.yaml</code>: <code>scclip export --thresholds</code> applies them to a run with "
    "<code>--save-confidence</code>."
)
THRESHOLD_HEAD = ("Class", "Threshold", "Median")
NEAR = "Two classes whose queries have almost equal text features share their pixels by chance: reword or merge them."
NEAR_HEAD = ("Queries", "Cosine")


def part(title: str, about: str, rows: Sequence[str], head: Sequence[str]) -> str:
    """One list as a table, the long tail folded away; nothing where it is empty."""
    if not rows:
        return ""
    more = folded(f"{len(rows) - ROWS:,} more", table(rows[ROWS:], head)) if len(rows) > ROWS else ""
    return f'<h3>{title}</h3><p class="soft">{about}</p>{table(rows[:ROWS], head)}{more}'


def table(rows: Sequence[str], head: Sequence[str]) -> str:
    """A table whose first column is wide."""
    cells = "".join(f'<th class="num">{name}</th>' for name in head[1:])
    columns = f"<colgroup><col>{'<col class=n>' * (len(head) - 1)}</colgroup>"
    titles = f"<thead><tr><th>{head[0]}</th>{cells}</tr></thead>"
    return f'<table class="curation">{columns}{titles}<tbody>{"".join(rows)}</tbody></table>'


def number(value: str) -> str:
    """A cell with a figure."""
    return f'<td class="num">{value}</td>'


def doubtful_row(entry: Doubtful) -> str:
    """An image to look at."""
    figures = (confidence(entry.confidence), f"{entry.entropy:.2f}", share(entry.coverage, 1))
    return f"<tr><td>{text(entry.file_name)}</td>{''.join(map(number, figures))}</tr>"


def pair_row(entry: Confusable, names: Names) -> str:
    """A class and its runner-up."""
    classes = f"{label(entry.category, names[entry.category])} → {label(entry.rival, names[entry.rival])}"
    return f"<tr><td>{classes}</td>{number(confidence(entry.margin))}{number(share(entry.share, 1))}</tr>"


def threshold_row(entry: Threshold, names: Names) -> str:
    """A class and its threshold."""
    drawn = bar(entry.threshold, css_colour(entry.category))
    name = f"{label(entry.category, names[entry.category])}{drawn}"
    return f"<tr><td>{name}</td>{number(confidence(entry.threshold))}{number(confidence(entry.median))}</tr>"


def near_row(entry: NearQueries, names: Names) -> str:
    """Two queries and their classes."""
    sides = [
        f"{text(query)} <small>({label(category, names[category])})</small>"
        for query, category in zip(entry.queries, entry.categories, strict=True)
    ]
    return f"<tr><td>{' · '.join(sides)}</td>{number(f'{entry.cosine:.3f}')}</tr>"


def silent(categories: Sequence[int], names: Names) -> str:
    """Classes that were queried and never found."""
    if not categories:
        return ""
    items = "".join(f"<li>{label(category, names[category])}</li>" for category in categories)
    about = "Queried and found in no image: leave them out (every query lowers the others' confidence), or reword them."
    title = f"{len(categories):,} silent classes" if len(categories) > 1 else "A silent class"
    return f'<h3>{title}</h3><p class="soft">{about}</p><ul class="legend">{items}</ul>'

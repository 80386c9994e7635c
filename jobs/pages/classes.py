"""The report's table of classes: area and confidence of each.

class_section(content)
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from scclip.categories import BACKGROUND
from scclip.jobs.pages.parts import axis_end, bar, confidence, folded, histogram, label, share, text
from scclip.pipeline.review.drawing import css_colour
from scclip.pipeline.review.report import BINS, ReportContent

CLASSES_SHOWN = 24  # rows of the class table above "… more classes"
FILTER = '<label class="tools" hidden>Show classes with <input id="filter" type="search" placeholder="a name"></label>'


def class_section(content: ReportContent) -> str:
    """Area and confidence of each class, largest first; the long tail folded away."""
    totals, names = content.totals, content.names
    found = sorted((c for c in totals.class_pixels if c in names), key=lambda c: (-totals.class_pixels[c], c))
    absent = [category for category in names if category not in (BACKGROUND, *found)]
    more, none = f"{len(found) - CLASSES_SHOWN:,} more classes", f"{len(absent):,} classes in no image"
    return (
        f"<section><h2>Classes</h2>{FILTER}{confidence_figure(content)}"
        f"{class_table(found[:CLASSES_SHOWN], content)}{folded(more, class_table(found[CLASSES_SHOWN:], content))}"
        f"{folded(none, absent_classes(absent, names))}</section>"
    )


def confidence_figure(content: ReportContent) -> str:
    """All segments by their mean confidence."""
    everything = all_segments(content)
    if not everything.any():
        return ""
    about = f"Segments by mean confidence, all classes ({int(everything.sum()):,} segments)."
    end = axis_end(everything)
    axis = f'<div class="axis"><span>0</span><span>{end / 2:g}</span><span>{end:g}</span></div>'
    drawn = histogram(everything, end, 90) + axis
    return f'<figure class="wide">{drawn}<figcaption class="soft">{about}</figcaption></figure>'


def all_segments(content: ReportContent) -> npt.NDArray[np.int64]:
    """The (BINS,) histogram of all classes."""
    return sum(content.confidence.values(), np.zeros(BINS, np.int64))


def absent_classes(absent: Sequence[int], names: Mapping[int, str]) -> str:
    """Classes that no image has, as a plain legend; nothing where there are none."""
    if not absent:
        return ""
    items = (f'<li data-classes="{text(names[c])}">{label(c, names[c])}</li>' for c in absent)
    return f'<ul class="legend">{"".join(items)}</ul>'


def class_table(categories: Sequence[int], content: ReportContent) -> str:
    """Rows for some classes; bars are shares of the largest class."""
    if not categories:
        return ""
    totals, end = content.totals, axis_end(all_segments(content))
    largest, labeled = max(totals.class_pixels.values()), sum(totals.class_pixels.values())
    rows = []
    for category in categories:
        name, pixels = content.names[category], totals.class_pixels[category]
        area = bar(pixels / largest, css_colour(category))
        mean = totals.class_confidence[category] / 255 / max(1, pixels)
        drawn = histogram(content.confidence[category], end, 22) if category in content.confidence else ""
        rows.append(
            f'<tr data-classes="{text(name)}"><td>{label(category, name)}{area}</td>'
            f'<td class="num">{share(pixels, labeled)}</td><td class="num">{totals.class_images[category]:,}</td>'
            f'<td class="num">{confidence(mean)}</td><td>{drawn}</td></tr>'
        )
    head = '<tr><th>Class</th><th class="num">Area</th><th class="num">Images</th><th class="num">Confidence</th>'
    columns = '<colgroup><col class="name"><col class="n"><col class="n"><col class="n"><col class="hist"></colgroup>'
    head += f"<th>Its segments, 0 to {end:g}</th></tr>"
    return f'<table class="classes">{columns}<thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'

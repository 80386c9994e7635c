"""Small pieces of the report's HTML. Whatever comes from data passes through `text`, which escapes it.

f"<td>{label(3, 'boat')}{bar(0.4, css_colour(3))}</td>"
"""

import base64
import html
from typing import Any

import numpy as np
import numpy.typing as npt

from scclip.pipeline.review.drawing import css_colour

AXIS_ENDS = (0.05, 0.1, 0.2, 0.5, 1.0)
BARS = 20


def text(value: Any) -> str:
    """Data as HTML text or attribute value; control characters become blanks."""
    plain = "".join(character if character.isprintable() or character == "\n" else " " for character in str(value))
    return html.escape(plain, quote=True)


def share(part: float, whole: float) -> str:
    """A percentage for people: two digits that count, never a rounded 0 or 100."""
    if not whole:
        return "–"
    value = 100 * part / whole
    if 0 < value < 0.1:
        return "< 0.1 %"
    digits = 0 if value in (0, 100) else 1
    return f"{min(value, 99.9) if part < whole else value:.{digits}f} %"


def bar(fraction: float, colour: str | None = None) -> str:
    """A horizontal bar of 0..1."""
    fill = f";background:{colour}" if colour else ""
    return f'<span class="bar"><i style="width:{100 * min(1.0, fraction):.2f}%{fill}"></i></span>'


def label(category: int, name: str) -> str:
    """A class's colour and name."""
    return f'<span class="chip" style="background:{css_colour(category)}"></span>{text(name)}'


def folded(title: str, body: str) -> str:
    """A part that opens on demand; nothing where it is empty."""
    return f'<details class="rest"><summary>{title}</summary>{body}</details>' if body else ""


def axis_end(counts: npt.NDArray[np.int64]) -> float:
    """Where a histogram's axis may end: the first of AXIS_ENDS at or above the highest level in (BINS,) counts."""
    top = (int(np.flatnonzero(counts).max(initial=0)) + 1) / len(counts)
    return next(end for end in AXIS_ENDS if end >= top)


def histogram(counts: npt.NDArray[np.int64], end: float, height: int) -> str:
    """The part 0..`end` of a (BINS,) histogram over 0..1 as inline SVG of at most 20 bars."""
    cut = counts[: round(end * len(counts))]
    bars = cut.reshape(min(BARS, len(cut)), -1).sum(axis=1).tolist()
    top, width = max(1, *bars), 200 / len(bars)
    shapes = [
        f'<rect x="{place * width + 0.5:g}" width="{width - 1:g}" y="{height - tall:.1f}" height="{tall:.1f}"/>'
        for place, count in enumerate(bars)
        if count and (tall := max(1.0, height * count / top))
    ]
    described = ", ".join(f"{place * end / len(bars):.3g}: {count}" for place, count in enumerate(bars) if count)
    line = f'<line x1="0" x2="200" y1="{height - 0.25}" y2="{height - 0.25}" stroke-width=".5"/>'
    return (
        f'<svg class="hist" viewBox="0 0 200 {height}" height="{height}" preserveAspectRatio="none" role="img" '
        f'aria-label="segments by mean confidence, {described}">{line}{"".join(shapes)}</svg>'
    )


def confidence(value: float) -> str:
    """A confidence: two digits that count."""
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def data_url(data: bytes, kind: str) -> str:
    """A picture inside the page."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"

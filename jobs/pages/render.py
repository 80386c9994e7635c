"""Renders the templates of the pages; Jinja escapes every value that they print.

>>> html = render("run.html.j2", title="Labels", content=content)
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scclip.pipeline.annotations.palette import css_colour, css_ink, pattern
from scclip.pipeline.inputs.units import Unit
from scclip.wording import counted

DRAWN = re.compile(r"/shards/scenes-[0-9]{5}\.tar$")  # what jobs/demo.py writes


def render(template: str, **values: object) -> str:
    """A page as one self-contained HTML file, from a template and the values that it names."""
    return ENVIRONMENT.get_template(template).render(values)


def printable(value: object) -> object:
    """Text from data with blanks for control characters; anything else, HTML of a macro too, as it is."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(character if character.isprintable() or character == "\n" else " " for character in value)


def share(part: float, whole: float = 1) -> str:
    """A percentage for people: one digit after the point, never a rounded 0 or 100."""
    if not whole:
        return "–"
    value = 100 * part / whole
    if 0 < value < 0.1:
        return "< 0.1 %"
    digits = 0 if value in (0, 100) else 1
    return f"{min(value, 99.9) if part < whole else value:.{digits}f} %"


def confidence(value: float) -> str:
    """A confidence: two digits that count."""
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def shortened(name: str) -> str:
    """At most eighteen characters of a name."""
    return name if len(name) <= 18 else name[:17] + "…"


def colour_names(names: Mapping[int, str]) -> dict[str, str]:
    """Colour → name of categories, for what says the class under the pointer."""
    return {css_colour(category): name for category, name in names.items()}


def on_other_pictures(model: str, units: Iterable[Unit]) -> bool:
    """Whether labels are the bundled demo model's, of other pictures than the scenes that `scclip demo` draws."""
    return model == "demo" and not all(DRAWN.search(unit.url) for unit in units)


def csp_hash(text: str) -> Markup:
    """A style or script as a source that the Content-Security-Policy of its page allows."""
    digest = hashlib.sha256(text.encode()).digest()
    return Markup(f"'sha256-{base64.b64encode(digest).decode()}'")


def data_url(data: bytes, kind: str) -> str:
    """A picture (`kind`: jpeg or png) as a URL that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    finalize=printable,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters |= {
    "share": share,
    "confidence": confidence,
    "thousands": "{:,}".format,
    "millions": lambda count: f"{count / 1e6:,.1f}",
    "shortened": shortened,
    "data_url": data_url,
    "csp_hash": csp_hash,
    "colour": css_colour,
    "ink": css_ink,
    "pattern": pattern,
    "counted": counted,
    "colour_names": colour_names,
}

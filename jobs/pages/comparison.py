"""A comparison as one self-contained page, in the report's dress.

html = render(drift, classes, ("labels/", "labels-b/"), pictures, notes)
"""

from collections.abc import Sequence
from string import Template

import numpy as np

from scclip.jobs.pages.gallery import STRENGTH, sized, view
from scclip.jobs.pages.parts import bar, data_url, label, share, text
from scclip.jobs.pages.run import TEMPLATE
from scclip.pipeline.review.compare_pictures import ChangedPicture, colour_indices
from scclip.pipeline.review.drift import Classes, Drift

FLOWS = 16
CAPTIONS = ("A", "B", "Changed")


def render(
    drift: Drift, classes: Classes, runs: tuple[str, str], pictures: Sequence[ChangedPicture], notes: Sequence[str]
) -> str:
    """The whole page."""
    sections = [
        header(drift, classes, runs),
        class_section(drift, classes),
        flow_section(drift, classes),
        picture_section(pictures, classes, notes),
    ]
    skeleton = Template(TEMPLATE.read_text(encoding="utf-8"))
    return skeleton.substitute(title="Two runs compared", body="\n".join(filter(None, sections)))


def named(place: int, classes: Classes) -> str:
    """A class's colour and name; ignored pixels have no colour."""
    colours = colour_indices(classes)
    return label(colours[place], classes.names[place]) if place in colours else text(classes.names[place])


def header(drift: Drift, classes: Classes, runs: tuple[str, str]) -> str:
    """What is compared, and the totals."""
    known = drift.iou[~np.isnan(drift.iou)]
    entries = [
        ("Images in both", f"{drift.compared:,}", f"{drift.equal:,} equal"),
        ("In one run only", f"{drift.missing:,}", ""),
        ("Pixels moved", share(drift.changed, 1) if drift.changed else "0 %", "to another class"),
        ("Mean IoU", f"{known.mean():.3f}" if known.size else "–", f"of {known.size:,} classes"),
    ]
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{more}</small></dd></div>" for name, value, more in entries)
    only = "".join(
        f'<p class="note">Only in {which}: {text(", ".join(names))}</p>'
        for which, names in zip("AB", classes.only, strict=True)
        if names
    )
    facts = f'<dl class="facts"><dt>A</dt><dd>{text(runs[0])}</dd><dt>B</dt><dd>{text(runs[1])}</dd></dl>'
    return f'<header><h1>Two runs compared</h1>{facts}{only}<dl class="tiles">{cells}</dl></header>'


def class_section(drift: Drift, classes: Classes) -> str:
    """IoU and area of every class, the lowest IoU first."""
    known = [place for place in range(len(classes.names)) if not np.isnan(drift.iou[place])]
    rows = "".join(
        f"<tr><td>{named(place, classes)}{bar(float(drift.iou[place]))}</td>"
        f'<td class="num">{drift.iou[place]:.3f}</td><td class="num">{share(drift.area[0, place], 1)}</td>'
        f'<td class="num">{share(drift.area[1, place], 1)}</td></tr>'
        for place in sorted(known, key=lambda place: (drift.iou[place], place))
    )
    head = '<tr><th>Class</th><th class="num">IoU</th><th class="num">Area in A</th><th class="num">Area in B</th></tr>'
    columns = f"<colgroup><col>{'<col class=n>' * 3}</colgroup>"
    table = f'<table class="curation">{columns}<thead>{head}</thead><tbody>{rows}</tbody></table>'
    return f"<section><h2>Classes</h2>{table}</section>"


def flow_section(drift: Drift, classes: Classes) -> str:
    """Which class became which; nothing where nothing moved."""
    total = int(drift.matrix.sum())
    rows = "".join(
        f"<tr><td>{named(a, classes)} → {named(b, classes)}</td>"
        f'<td class="num">{share(pixels, total)}</td><td class="num">{share(pixels, drift.matrix[a].sum())}</td></tr>'
        for a, b, pixels in drift.flows()[:FLOWS]
    )
    if not rows:
        return ""
    head = '<tr><th>From A to B</th><th class="num">Of all</th><th class="num">Of the class</th></tr>'
    columns = f"<colgroup><col>{'<col class=n>' * 2}</colgroup>"
    table = f'<table class="curation">{columns}<thead>{head}</thead><tbody>{rows}</tbody></table>'
    return f"<section><h2>What moved</h2>{table}</section>"


def picture_section(pictures: Sequence[ChangedPicture], classes: Classes, notes: Sequence[str]) -> str:
    """The images that changed most."""
    said = "".join(f'<p class="note">{text(note)}</p>' for note in notes)
    if not pictures:
        return f"<section><h2>Images that changed most</h2>{said}<p>None to show.</p></section>"
    articles = "".join(article(number, picture, classes) for number, picture in enumerate(pictures))
    return f'<section><h2>Images that changed most</h2>{said}{STRENGTH}<div class="gallery">{articles}</div></section>'


def article(number: int, picture: ChangedPicture, classes: Classes) -> str:
    """One image: photo, both labels, what changed, and the classes whose area did."""
    shown = f"photo{number}"
    size = sized(picture)
    views = [view(picture, f'<image id="{shown}" {size} href="{data_url(picture.photo, "jpeg")}"/>', "Image")]
    for mask, caption in zip(picture.masks, CAPTIONS, strict=True):
        layer = f'<image class="mask" {size} href="{data_url(mask, "png")}"/>'
        views.append(view(picture, f'<use href="#{shown}"/>{layer}', caption))
    items = "".join(
        f"<li>{named(place, classes)} <small>{share(before, 1)} → {share(after, 1)}</small></li>"
        for place, before, after in picture.places[:8]
    )
    return (
        f'<article><h3>{share(picture.changed.share, 1)} changed</h3><p class="soft">{text(picture.changed.key)}</p>'
        f'<div class="views">{"".join(views)}</div><ul class="legend">{items}</ul></article>'
    )

"""The report's gallery: photo, labels and truth of each chosen image side by side, with a legend.

    gallery_section(content)

A photo is stored once and drawn under its masks by reference.
"""

from collections.abc import Mapping
from typing import Protocol

from scclip.jobs.pages.parts import confidence, data_url, label, share, text
from scclip.pipeline.review.gallery import Picture, Share
from scclip.pipeline.review.report import ReportContent


class Sized(Protocol):
    """A picture with width and height."""

    @property
    def size(self) -> tuple[int, int]: ...


ABOUT = (
    "For each class the images whose segments of it are the least and the most confident, the least confident first. "
    "A colour is the same class everywhere."
)
SLIDER = '<input id="mix" type="range" min="0" max="100" value="65">'
STRENGTH = f'<label class="tools" hidden>Strength of the colours {SLIDER}</label>'


def gallery_section(content: ReportContent) -> str:
    """The pictures, or why there are none."""
    notes = "".join(f'<p class="note">{text(note)}</p>' for note in content.notes)
    if not content.pictures:
        reason = "" if content.notes else "<p>No labeled image to show.</p>"
        return f"<section><h2>Gallery</h2>{notes}{reason}</section>"
    articles = "".join(article(place, picture, content.names) for place, picture in enumerate(content.pictures))
    head = f'<h2>Gallery</h2><p class="soft">{ABOUT}</p>{notes}{STRENGTH}'
    return f'<section>{head}<div class="gallery">{articles}</div></section>'


def article(place: int, picture: Picture, names: Mapping[int, str], heading: str | None = None) -> str:
    """One image: photo, labels and truth side by side, what it was chosen for (or `heading`), and the legend."""
    choice, shown = picture.choice, f"photo{place}"
    views = [view(picture, f'<image id="{shown}" {sized(picture)} href="{data_url(picture.photo, "jpeg")}"/>', "Image")]
    masks = [(picture.labels, "Labels")]
    if picture.truth is not None:
        agree = "" if picture.agreement is None else f": {share(picture.agreement, 1)} agree"
        masks.append((picture.truth, f"Ground truth{agree}"))
    for mask, caption in masks:
        layer = f'<image class="mask" {sized(picture)} href="{data_url(mask, "png")}"/>'
        views.append(view(picture, f'<use href="#{shown}"/>{layer}', caption))
    found = "\n".join(names[entry.category] for entry in picture.shares)
    chosen = heading or (
        f"{label(choice.category, names[choice.category])} <small>{confidence(choice.confidence)} confident</small>"
    )
    described = f"{text(choice.key)}, {choice.width} × {choice.height}"
    return (
        f'<article data-classes="{text(found)}"><h3>{chosen}</h3><p class="soft">{described}</p>'
        f'<div class="views">{"".join(views)}</div>{legend(picture, names)}</article>'
    )


def view(picture: Sized, layers: str, caption: str) -> str:
    """One of an image's views: stacked layers and a caption."""
    width, height = picture.size
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{caption}">{layers}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def sized(picture: Sized) -> str:
    """Width and height as attributes."""
    return f'width="{picture.size[0]}" height="{picture.size[1]}"'


def legend(picture: Picture, names: Mapping[int, str]) -> str:
    """Classes of one image with their share and confidence, then what only the truth has."""
    items = [legend_item(entry, names[entry.category]) for entry in picture.shares if entry.area]
    if picture.ignored:
        items.append(f'<li class="soft">not labeled <small>{share(picture.ignored, 1)}</small></li>')
    missed = [label(entry.category, names[entry.category]) for entry in picture.shares if not entry.area]
    if missed:
        items.append('<li class="soft">only in the truth:</li>')
        items += [f'<li class="soft">{name}</li>' for name in missed]
    return f'<ul class="legend">{"".join(items)}</ul>'


def legend_item(entry: Share, name: str) -> str:
    """One class of the labels."""
    sure = "" if entry.confidence is None else f", {confidence(entry.confidence)}"
    return f"<li>{label(entry.category, name)} <small>{share(entry.area, 1)}{sure}</small></li>"

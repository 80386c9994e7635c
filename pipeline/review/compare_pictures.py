"""The pictures of a comparison: photo, labels of A, labels of B, and where they differ.

pictures, notes = draw_changed(a, b, units, drift.images, classes, exif="apply")
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scclip.pipeline.inputs.decoding import DecodeConfig, DecodeError, decode_image
from scclip.pipeline.inputs.readers.unit import read_rows
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.review.drawing import mask_png, photo_jpeg, shrink, thumbnail_size
from scclip.pipeline.review.drift import Changed, Classes, Side, placed_map
from scclip.pipeline.review.gallery import read_segments
from scclip.pipeline.storage.retries import redact

SIDE = 360  # pixels of a picture's longer side
CHANGED_COLOUR = 1  # category whose colour marks changed pixels


@dataclass(frozen=True, kw_only=True)
class ChangedPicture:
    """One image of the comparison."""

    changed: Changed
    size: tuple[int, int]
    """Width and height of the thumbnails."""
    photo: bytes
    """JPEG."""
    masks: tuple[bytes, bytes, bytes]
    """PNGs: labels of A, of B, and the pixels that changed."""
    places: tuple[tuple[int, float, float], ...]
    """Class, its share of the image in A and in B: those that changed most first."""


def draw_changed(
    a: Side, b: Side, units: Sequence[Unit], images: Sequence[Changed], classes: Classes, exif: str
) -> tuple[list[ChangedPicture], list[str]]:
    """Pictures in the order of `images`, and a note for every reason why some are missing. `units` are A's."""
    by_number, by_unit = {unit.number: unit for unit in units}, defaultdict(list)
    for image in images:
        by_unit[image.unit].append(image)
    drawn, notes = dict[int, ChangedPicture](), list[str]()
    for number, wanted in by_unit.items():
        try:
            drawn |= draw_unit(a, b, by_number[number], wanted, classes, exif)
        except Exception as error:  # of any storage library: a comparison without pictures is better than none
            notes.append(f"{redact(by_number[number].url)} cannot be read ({type(error).__name__})")
        if missing := sum(image.image_id not in drawn for image in wanted):
            notes.append(f"{missing} pictures of {redact(by_number[number].url)} are no longer what was labeled")
    return [drawn[image.image_id] for image in images if image.image_id in drawn], notes


def draw_unit(
    a: Side, b: Side, unit: Unit, images: Sequence[Changed], classes: Classes, exif: str
) -> dict[int, ChangedPicture]:
    """The pictures of one unit by A's image id."""
    wanted = {image.index: image for image in images}
    segments = (
        read_segments(a.files, unit.number, [image.image_id for image in images]),
        read_segments(b.files, images[0].other_unit, [image.other_image_id for image in images]),
    )
    found = {}
    for row in read_rows(unit, sorted(wanted), None):
        image = wanted.get(row["index"])
        if image is None or row["data"] is None or row["key"] != image.key:
            continue
        try:
            rgb = decode_image(row["data"], DecodeConfig(exif=exif)).rgb
        except DecodeError:
            continue
        size = {"height": rgb.shape[0], "width": rgb.shape[1]}
        held = (segments[0].get(image.image_id, []), segments[1].get(image.other_image_id, []))
        maps = [
            placed_map(rows, size, side.names, places, len(classes.names) - 1)
            for rows, side, places in zip(held, (a, b), classes.places, strict=True)
        ]
        found[image.image_id] = picture(image, rgb, maps, classes)
    return found


def picture(
    image: Changed, rgb: npt.NDArray[np.uint8], maps: Sequence[npt.NDArray[np.int64]], classes: Classes
) -> ChangedPicture:
    """One picture from the photo and the two maps."""
    height, width = thumbnail_size(rgb.shape[0], rgb.shape[1], SIDE)
    difference = np.where(maps[0] != maps[1], CHANGED_COLOUR, 65535).astype(np.uint16)
    planes = (coloured(maps[0], classes), coloured(maps[1], classes), difference)
    masks = [mask_png(shrink(plane, SIDE)) for plane in planes]
    return ChangedPicture(
        changed=image,
        size=(width, height),
        photo=photo_jpeg(rgb, SIDE),
        masks=(masks[0], masks[1], masks[2]),
        places=moved_places(maps, len(classes.names)),
    )


def coloured(places: npt.NDArray[np.int64], classes: Classes) -> npt.NDArray[np.uint16]:
    """Places as category indices that give each class its colour; ignored pixels transparent."""
    colours = np.array([*colour_indices(classes).values(), 65535], np.uint16)
    return colours[places]


def colour_indices(classes: Classes) -> Mapping[int, int]:
    """Place → category index whose colour it has: both runs' pictures share them."""
    first = 0 if classes.names[0] == "background" else 1
    return {place: place + first for place in range(len(classes.names) - 1)}


def moved_places(maps: Sequence[npt.NDArray[np.int64]], size: int) -> tuple[tuple[int, float, float], ...]:
    """Place, share in A and in B of the classes whose share differs, the largest difference first."""
    shares = [np.bincount(each.ravel(), minlength=size) / each.size for each in maps]
    order = sorted(range(size), key=lambda place: -abs(shares[0][place] - shares[1][place]))
    return tuple((p, float(shares[0][p]), float(shares[1][p])) for p in order if shares[0][p] != shares[1][p])

"""COCO annotation files as ground truth: instances are painted, panoptic colours looked up.

    samples, classes = coco_samples("val2017", "annotations/instances_val2017.json", background=False)

Classes are the file's categories in the order of their ids. Where instances overlap the smaller one lies above, as in
COCO-Stuff's pixel maps; crowds count as their category. Annotations that cannot be used are counted, each by its id.
"""

import json
import posixpath
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from scclip.categories import Labels, label_dtype
from scclip.pipeline.benchmarks.downloads import Sample, refuse_missing
from scclip.pipeline.benchmarks.label_ids import table
from scclip.pipeline.benchmarks.shapes import SHAPELESS, Shape
from scclip.pipeline.benchmarks.skipped import Skipped
from scclip.pipeline.inputs.names import split_name
from scclip.pipeline.inputs.resolve import InputError
from scclip.pipeline.storage import files as storage

MOST_CLASSES = 65534  # indices of 16-bit PNGs, with a background and 65535 for ignore
Identity = int | str  # text where it is no number


class CocoEntry(TypedDict, total=False):
    """One of a document's images, categories or annotations, or a segment of a panoptic annotation."""

    id: Identity | None
    file_name: str
    name: str
    image_id: Identity | None
    category_id: Identity | None
    segmentation: Any
    segments_info: list["CocoEntry"] | None


CocoDocument = dict[str, list[CocoEntry]]  # "images", "annotations" and "categories", each with its entries


def coco_samples(
    images: str, annotations: str, *, background: bool, skipped: Skipped | None = None
) -> tuple[list[Sample], list[str]]:
    """Samples of all images in a COCO file, in its order, and the names of the classes.

    Args:
        images: folder of the images.
        annotations: the JSON, instances or panoptic.
        background: True makes pixels without annotation class 0, and the classes count from 1; False ignores these
            pixels, and the classes count from 0.
        skipped: here the annotations that cannot be used are counted.

    Raises:
        InputError: the file is neither instances nor panoptic, names files that are missing, or none of its
            annotations can be used.
    """
    document, skipped = read_document(annotations), Skipped() if skipped is None else skipped
    categories = sorted(document["categories"], key=by_id)
    if not 1 <= len(categories) <= MOST_CLASSES:
        count = f"{len(categories)} categories"
        raise InputError(f"--truth {annotations} has {count}; give 1 to {MOST_CLASSES}, which fit a PNG")
    indices = {entry["id"]: index for index, entry in enumerate(categories, start=1)}
    labels = table({index: index - (not background) for index in indices.values()} | ({0: 0} if background else {}))
    by_image = group(document, indices, skipped)
    panoptic = any("segments_info" in entry for entry in document["annotations"])
    samples = []
    for image in document["images"]:
        name = image_name(images, image["file_name"])
        sample = Sample(split_name(name)[0], storage.join(images, name), annotations, labels)
        if not sample.key:
            skipped.add("images without an extension", f"id {image['id']}, {name}")
        elif panoptic:
            samples.append(panoptic_sample(sample, by_image[image["id"]], indices, skipped))
        else:
            samples.append(instance_sample(sample, by_image[image["id"]], indices))
    if not any(sample.shapes or sample.segments for sample in samples):
        raise InputError(f"{annotations}: no annotation can be used, {skipped.line()}; give COCO instances or panoptic")
    refuse_missing(samples)
    return samples, [str(entry.get("name") or "").strip() or str(entry["id"]) for entry in categories]


def read_document(url: str) -> CocoDocument:
    """Reads a COCO file, its ids as `identity` has them; an annotation without id gets its position.

    Raises:
        InputError: there are no images, annotations or categories, or one without id or file_name.
    """
    try:
        document: CocoDocument = json.loads(storage.read_bytes(url))
    except FileNotFoundError:
        raise InputError(f"--truth {url}: no such file; give a COCO instances or panoptic JSON") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"--truth {url} is not JSON ({' '.join(str(error).split())[:80]}); give a COCO file") from None
    for kind in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(kind), list) or not document[kind]:
            raise InputError(f"--truth {url} has no {kind}; give a COCO instances or panoptic JSON")
    for kind in ("images", "annotations", "categories"):
        document[kind] = [entry if isinstance(entry, dict) else {} for entry in document[kind]]
        for position, entry in enumerate(document[kind], start=1):
            for key in ("id", "image_id", "category_id"):
                entry[key] = identity(entry.get(key))
            if kind == "annotations" and entry["id"] is None:
                entry["id"] = position
            if entry["id"] is None or (kind == "images" and not isinstance(entry.get("file_name"), str)):
                what = f"number {position} of its {kind} has no id or no file_name"
                raise InputError(f"--truth {url}: {what}; give COCO instances or panoptic")
    return document


def identity(value: object) -> Identity | None:
    """A COCO id: whole numbers, also as text (`"007"`) or with a point (`7.0`), become ints, other text stays.

    None for whatever else.
    """
    if type(value) is int:
        return value
    if isinstance(value, str):
        number = re.fullmatch(r"(-?[0-9]{1,18})(?:\.0*)?", value.strip())
        return int(number[1]) if number else value.strip() or None
    return int(value) if isinstance(value, float) and value.is_integer() else None


def by_id(entry: CocoEntry) -> tuple[bool, Identity | None]:
    """The order of entries: numbers, then text."""
    return isinstance(entry["id"], str), entry["id"]


def group(
    document: CocoDocument, indices: Container[Identity | None], skipped: Skipped
) -> dict[Identity | None, list[CocoEntry]]:
    """The annotations of each image, by its id; those of no image, of no category and without a shape are skipped."""
    by_image: dict[Identity | None, list[CocoEntry]] = {image["id"]: [] for image in document["images"]}
    for entry in document["annotations"]:
        if entry["image_id"] not in by_image:
            skipped.add("annotations of no image", f"id {entry['id']}")
        elif "segments_info" not in entry and entry["category_id"] not in indices:
            skipped.add("annotations of no category", f"id {entry['id']} has an unknown {entry['category_id']}")
        elif "segments_info" not in entry and not entry.get("segmentation"):  # as where there are only boxes
            skipped.add(SHAPELESS, f"id {entry['id']}")
        else:
            by_image[entry["image_id"]].append(entry)
    return by_image


def image_name(folder: str, name: str) -> str:
    """The path of an image below its folder, without `.` and `//`; a `\\` that no file's name holds divides folders."""
    path = posixpath.normpath(name)
    if "\\" in path and not storage.exists(storage.join(folder, path)):
        return posixpath.normpath(name.replace("\\", "/"))
    return path


def instance_sample(sample: Sample, entries: Sequence[CocoEntry], indices: Mapping[Identity | None, int]) -> Sample:
    """The sample of an image whose annotations are shapes; of two that are equally large the higher id lies above."""
    ordered = sorted(entries, key=by_id)
    shapes = (Shape(indices[entry["category_id"]], entry.get("segmentation"), entry["id"]) for entry in ordered)
    return replace(sample, shapes=tuple(shapes))


def panoptic_sample(
    sample: Sample, entries: Sequence[CocoEntry], indices: Mapping[Identity | None, int], skipped: Skipped
) -> Sample:
    """The sample of an image whose annotation is a PNG of coloured segments, in the folder named like the JSON."""
    name = (entries and entries[0].get("file_name")) or f"{sample.key}.png"
    segments = {}
    for entry in entries:
        infos = entry.get("segments_info")
        for info in (info for info in infos if isinstance(info, dict)) if isinstance(infos, list) else ():
            colour, category = identity(info.get("id")), identity(info.get("category_id"))
            if isinstance(colour, int) and category in indices:
                segments[colour] = indices[category]
            else:
                skipped.add("segments of no category", f"id {info.get('id')} has an unknown {info.get('category_id')}")
    truth = storage.join(sample.truth.removesuffix(".json"), name)
    return replace(sample, truth=truth, segments=tuple(segments.items()))


def panoptic_values(colours: npt.NDArray[np.uint8], values: Mapping[int, int]) -> Labels:
    """RGB (H, W, 3) of a panoptic PNG → the value of each id R + 256 G + 65536 B, 0 for others: (H, W)."""
    ids = colours.astype(np.int64) @ np.array([1, 256, 65536])
    unique, inverse = np.unique(ids, return_inverse=True)
    dtype = label_dtype(max(values.values(), default=0))
    return np.array([values.get(int(number), 0) for number in unique], dtype)[inverse.reshape(ids.shape)]

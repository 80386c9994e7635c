"""COCO annotation files as ground truth: instances are painted, panoptic colours looked up.

    samples, classes = coco_samples("val2017", "annotations/instances_val2017.json", background=False)

Classes are the file's categories in the order of their ids. Where instances overlap the smaller one lies above, as in
COCO-Stuff's pixel maps; crowds count as their category.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from scclip.pipeline.benchmarks.downloads import Sample, Shape, refuse_missing
from scclip.pipeline.benchmarks.label_ids import table
from scclip.pipeline.inputs.names import split_name
from scclip.pipeline.inputs.resolve import InputError
from scclip.pipeline.storage import files as storage

MOST_CLASSES = 254  # indices of 8-bit PNGs, with a background and 255 for ignore


class CocoEntry(TypedDict, total=False):
    """One of a document's images, categories or annotations, or a segment of a panoptic annotation."""

    id: int
    file_name: str
    name: str
    image_id: int
    category_id: int
    area: float
    segmentation: Any
    segments_info: list["CocoEntry"]


CocoDocument = dict[str, list[CocoEntry]]  # "images", "annotations" and "categories", each with its entries


def coco_samples(images: str, annotations: str, *, background: bool) -> tuple[list[Sample], list[str]]:
    """Samples of all images in a COCO file, in its order, and the names of the classes.

    Args:
        images: folder of the images.
        annotations: the JSON, instances or panoptic.
        background: True makes pixels without annotation class 0, and the classes count from 1; False ignores these
            pixels, and the classes count from 0.

    Raises:
        InputError: the file is neither instances nor panoptic, or names files that are missing.
    """
    document = read_document(annotations)
    categories = sorted(document["categories"], key=lambda entry: entry["id"])
    if not 1 <= len(categories) <= MOST_CLASSES:
        count = f"{len(categories)} categories"
        raise InputError(f"--truth {annotations} has {count}; give 1 to {MOST_CLASSES}, which fit an 8-bit PNG")
    indices = {entry["id"]: index for index, entry in enumerate(categories, start=1)}
    labels = table({index: index - (not background) for index in indices.values()} | ({0: 0} if background else {}))
    by_image: dict[int, list[CocoEntry]] = defaultdict(list)
    for entry in document["annotations"]:
        by_image[entry["image_id"]].append(entry)
    panoptic = any("segments_info" in entry for entry in document["annotations"])
    samples = []
    try:
        for image in document["images"]:
            url, key = storage.join(images, image["file_name"]), split_name(image["file_name"])[0]
            sample, entries = Sample(key, url, annotations, labels), by_image[image["id"]]
            samples.append((panoptic_sample if panoptic else instance_sample)(sample, entries, indices))
    except KeyError as error:
        problem = f"{annotations}: an entry has no or an unknown {error}"
        raise InputError(f"{problem}; give COCO instances or panoptic") from None
    refuse_missing(samples)
    return samples, [str(entry["name"]) for entry in categories]


def read_document(url: str) -> CocoDocument:
    """Reads a COCO file; InputError where it has no images, annotations or categories."""
    try:
        document: CocoDocument = json.loads(storage.read_bytes(url))
    except FileNotFoundError:
        raise InputError(f"--truth {url}: no such file; give a COCO instances or panoptic JSON") from None
    except ValueError as error:
        raise InputError(f"--truth {url} is not JSON ({' '.join(str(error).split())[:80]}); give a COCO file") from None
    for name in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(name), list) or not document[name]:
            raise InputError(f"--truth {url} has no {name}; give a COCO instances or panoptic JSON")
    return document


def instance_sample(sample: Sample, entries: Sequence[CocoEntry], indices: Mapping[int, int]) -> Sample:
    """The sample of an image whose annotations are shapes; the largest is painted first."""
    ordered = sorted(entries, key=lambda entry: (-float(entry.get("area", 0)), entry["id"]))
    shapes = tuple(Shape(indices[entry["category_id"]], entry["segmentation"]) for entry in ordered)
    return replace(sample, shapes=shapes)


def panoptic_sample(sample: Sample, entries: Sequence[CocoEntry], indices: Mapping[int, int]) -> Sample:
    """The sample of an image whose annotation is a PNG of coloured segments, in the folder named like the JSON."""
    name = entries[0]["file_name"] if entries else f"{sample.key}.png"
    segments = tuple((info["id"], indices[info["category_id"]]) for entry in entries for info in entry["segments_info"])
    return replace(sample, truth=storage.join(sample.truth.removesuffix(".json"), name), segments=segments)


def paint(shapes: Sequence[Shape], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Paints shapes one above the other, each with its value, on zeros: uint8 (H, W)."""
    plane = np.zeros((height, width), np.uint8)
    for shape in shapes:
        plane[decoded(shape.segmentation, height, width)] = shape.value
    return plane


def decoded(segmentation: Any, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Polygons, plain or compressed run lengths as a mask (H, W)."""
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    return np.asarray(coco_mask.decode(segmentation), bool)


def panoptic_values(colours: npt.NDArray[np.uint8], values: Mapping[int, int]) -> npt.NDArray[np.uint8]:
    """RGB (H, W, 3) of a panoptic PNG → the value of each id R + 256 G + 65536 B, 0 for others: uint8 (H, W)."""
    ids = colours.astype(np.int64) @ np.array([1, 256, 65536])
    unique, inverse = np.unique(ids, return_inverse=True)
    return np.array([values.get(int(number), 0) for number in unique], np.uint8)[inverse.reshape(ids.shape)]

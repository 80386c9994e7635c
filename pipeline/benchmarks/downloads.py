"""The official downloads of the benchmarks, in the layouts that mmsegmentation documents.

samples = list_samples("ade20k", "ADEChallengeData2016")     # pairs of image and ground truth
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from scclip.pipeline.benchmarks.label_ids import LABEL_TABLES, Table
from scclip.pipeline.benchmarks.shapes import Shape
from scclip.pipeline.inputs.resolve import InputError
from scclip.pipeline.storage import files as storage


@dataclass(frozen=True)
class Sample:
    """An image and its annotation."""

    key: str
    """Key in the shard."""
    image: str
    """URL of the image; its bytes are copied as they are."""
    truth: str
    """URL of the annotation PNG, or of the JSON that holds it."""
    labels: Table | None
    """What its values mean; None: they are class indices already, the highest of their dtype is ignored."""
    shapes: tuple[Shape, ...] | None = None
    """COCO instances to paint, the larger below the smaller; the values are `Shape.value`, 0 elsewhere."""
    segments: tuple[tuple[int, int], ...] | None = None
    """COCO panoptic: the PNG's colours as numbers, and the value of each; 0 for others."""


def list_samples(dataset: str, source: str) -> list[Sample]:
    """The validation split of an official download.

    Args:
        dataset: a name of LAYOUTS.
        source: folder of the unpacked download, any fsspec URL.

    Raises:
        InputError: a file is missing; the message says which and where it was expected.
    """
    samples = [Sample(*names, labels=LABEL_TABLES[dataset]) for names in LAYOUTS[dataset](source.rstrip("/"))]
    if not samples:
        raise InputError(f"{dataset}: the split in {source} names no image; unpack the official download there")
    refuse_missing(samples)
    return samples


def refuse_missing(samples: Sequence[Sample]) -> None:
    """Raises InputError where the image or the annotation of a sample is missing; lists each folder once."""
    urls = [url for sample in samples for url in (sample.image, sample.truth)]
    folders = dict.fromkeys(url.rpartition("/")[0] for url in urls)
    names = {folder: {file.url.rpartition("/")[2] for file in storage.list_files(folder)} for folder in folders}
    for sample in samples:
        for what, url in (("image", sample.image), ("ground truth", sample.truth)):
            folder, _, name = url.rpartition("/")
            if name not in names[folder]:
                raise InputError(f"expected the {what} of {sample.key} in {url}; unpack the official download")


def _pascal(release: str, split: str, truths: str, root: str) -> Iterator[tuple[str, str, str]]:
    """PASCAL's layout: a text file names the images of the split."""
    names = f"ImageSets/{split}/val.txt"
    home = _home(root, (f"VOCdevkit/{release}", release, ""), names)
    for line in storage.read_bytes(storage.join(home, names)).decode().splitlines():
        if key := line.strip():
            yield key, f"{home}/JPEGImages/{key}.jpg", f"{home}/{truths}/{key}.png"


def _two_folders(homes: Sequence[str], images: str, truths: str, root: str) -> Iterator[tuple[str, str, str]]:
    """A folder of images and one of PNGs with the same stems."""
    home = _home(root, homes, images)
    for image in _list_files(storage.join(home, images), ".jpg"):
        key = _stem(image.url.rpartition("/")[2])
        yield key, image.url, f"{home}/{truths}/{key}.png"


def _cityscapes(root: str) -> Iterator[tuple[str, str, str]]:
    home = _home(root, ("cityscapes", ""), "leftImg8bit/val")
    for image in _list_files(storage.join(home, "leftImg8bit/val"), "_leftImg8bit.png"):
        _, city, name = image.url.rsplit("/", 2)
        key = name.removesuffix("_leftImg8bit.png")
        yield key, image.url, f"{home}/gtFine/val/{city}/{key}_gtFine_labelIds.png"


_voc = partial(_pascal, "VOC2012", "Segmentation", "SegmentationClass")
_context = partial(_pascal, "VOC2010", "SegmentationContext", "SegmentationClassContext")
_coco = partial(_two_folders, ("coco_stuff164k", ""), "images/val2017", "annotations/val2017")
_ade_homes = ("ade/ADEChallengeData2016", "ADEChallengeData2016", "")

# Folder of a download → (key, URL of the image, URL of its annotation) of each image of the validation split.
LAYOUTS: dict[str, Callable[[str], Iterator[tuple[str, str, str]]]] = {
    "voc21": _voc,
    "voc20": _voc,
    "context60": _context,
    "context59": _context,
    "coco_object": _coco,
    "coco_stuff": _coco,
    "cityscapes": _cityscapes,
    "ade20k": partial(_two_folders, _ade_homes, "images/validation", "annotations/validation"),
}


def folder_pair(images: str, truths: str) -> list[Sample]:
    """Pairs the images of one folder with the PNGs of the same path, but for the extension, in another.

    Args:
        images: folder of the images.
        truths: folder of the PNGs; their values are class indices, 255 is ignored (65535 in 16 bits).

    Raises:
        InputError: a folder is empty, or an image has no PNG.
    """
    known = {_stem(file.path): file.url for file in _list_files(truths, ".png")}
    samples = []
    for image in _list_files(images, ""):
        key = _stem(image.path)
        if key not in known:
            raise InputError(f"{truths} holds no {key}.png for {image.url}; every image needs one of the same path")
        samples.append(Sample(key, image.url, known[key], labels=None))
    return samples


def _home(root: str, candidates: Sequence[str], probe: str) -> str:
    """The first of `candidates`, folders below `root`, that holds `probe`."""
    homes = [storage.join(root, candidate) if candidate else root for candidate in candidates]
    for home in homes:
        if storage.exists(storage.join(home, probe)):
            return home
    raise InputError(f"expected {storage.join(homes[0], probe)} (or {probe} in {root}); unpack the official download")


def _list_files(folder: str, suffix: str) -> list[storage.FileInfo]:
    """The files below a folder with this ending, sorted by URL; InputError if there is none."""
    files = [file for file in storage.list_files(folder) if file.url.endswith(suffix)]
    if not files:
        raise InputError(f"expected files *{suffix} in {folder}, there are none; unpack the official download there")
    return files


def _stem(path: str) -> str:
    """A path without the extension of its file."""
    return path.rsplit(".", 1)[0]

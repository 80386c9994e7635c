"""What the numbers in files of labels mean: written with the labels, read by whatever compares them.

    numbering = Numbering.of_maps(categories, base=0)       # without a background the first class is 0
    numbering.numbers(labels)                               # (H, W) category indices → numbers
    find_numbering(["export/train/0000001.tar"])            # as export/categories.json has it; None without one

categories.json, and the key `categories` in the metadata of Parquet files:

    {"format": "scclip-categories", "first_class": 0, "ignore": 255, "categories": [{"id": 0, "name": "car"}, …],
     "id2label": {"0": "car", …}}

`id2label` has no gap from 0 on, as the losses of trainers demand that read it (transformers' SegFormer among them).
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scclip.categories import BACKGROUND, Categories, Labels
from scclip.errors import UserError
from scclip.pipeline.storage.files import info, join, open_stream, read_bytes

FILE = "categories.json"
FORMAT = "scclip-categories"
KEY = b"categories"  # Parquet metadata
UNUSED = "unlabeled"  # in id2label: the number 0 where counting begins at 1 and there is no background
INNER = ("train", "val", "data", "labels")  # folders of an export, above which categories.json lies


@dataclass(frozen=True)
class Numbering:
    """Which number stands for which category, in files of labels."""

    categories: Categories
    """Without a background where the files have no number for it."""
    first: int = 1
    """Number of the first class, 0 or 1; a background is 0, so that with one it is 1."""

    def __post_init__(self) -> None:
        if self.first not in (0, 1) or (self.first == 0 and BACKGROUND in self.categories):
            raise ValueError(f"the first class is {self.first}: it must be 1, or 0 where no background is 0")

    @staticmethod
    def of_maps(categories: Categories, base: int) -> "Numbering":
        """The numbering of label maps that count from `base`: a background counts, and then is 0 whatever the base."""
        return Numbering(categories, 1 if BACKGROUND in categories else base)

    @staticmethod
    def of_classes(categories: Categories, base: int) -> "Numbering":
        """The numbering of files that hold classes alone, which count from `base`."""
        names = {category: categories[category] for category in categories.classes}
        return Numbering(Categories(names, categories.things), base)

    @cached_property
    def meanings(self) -> dict[int, str]:
        """Number → name."""
        return {self.number(category): name for category, name in sorted(self.categories.items())}

    def number(self, category: int) -> int:
        """The number of a category."""
        return category + self.first - 1

    def numbers(self, labels: Labels) -> Labels:
        """The numbers of a label map (H, W) of category indices; ignored pixels stay ignored."""
        if self.first == 1:
            return labels
        return np.where(labels == self.categories.ignore, labels, labels - 1).astype(labels.dtype)

    def to_json(self) -> dict[str, object]:
        """The content of categories.json."""
        things = {category: thing for category, thing in self.categories.things.items() if thing is not None}
        entries = [
            {"id": self.number(category), "name": name}
            | ({"isthing": int(things[category])} if category in things else {})
            for category, name in sorted(self.categories.items())
        ]
        id2label = {str(number): self.meanings.get(number, UNUSED) for number in range(max(self.meanings) + 1)}
        return {
            "format": FORMAT,
            "first_class": self.first,
            "ignore": self.categories.ignore,
            "categories": entries,
            "id2label": id2label,
        }

    @staticmethod
    def from_json(document: Any) -> "Numbering | None":
        """Reads the content of categories.json; None for any other object. ValueError where it is one and is broken."""
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            return None
        try:
            first, entries = int(document["first_class"]), document["categories"]
            names = {entry["id"] - first + 1: str(entry["name"]) for entry in entries}
            things = {entry["id"] - first + 1: bool(entry["isthing"]) for entry in entries if "isthing" in entry}
            return Numbering(Categories(names, things), first)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{error!r}") from None


def find_numbering(urls: Iterable[str]) -> Numbering | None:
    """What the numbers in these files of labels mean, as the exports say that they are of; None where nothing is said.

    Raises:
        UserError: a categories.json is broken, or two of them differ.
    """
    found: tuple[str, Numbering] | None = None
    for source, numbering in _said(urls):
        if found and found[1].to_json() != numbering.to_json():
            raise UserError(f"{found[0]} and {source} number their classes differently; use one of them at a time")
        found = found or (source, numbering)
    return found and found[1]


def _said(urls: Iterable[str]) -> Iterator[tuple[str, Numbering]]:
    """What is said in each folder of the files, or in that of their export, and where."""
    first = {url.rpartition("/")[0]: url for url in reversed(list(urls))}  # one file of each folder
    asked = dict[str, Numbering | None]()
    for folder, url in sorted(first.items()):
        for root in _roots(folder):
            if root not in asked:
                asked[root] = _in_folder(join(root, FILE))
            if numbering := asked[root]:
                yield join(root, FILE), numbering
                break
        else:
            if url.endswith(".parquet") and (numbering := _in_parquet(url)):
                yield url, numbering


def _roots(folder: str) -> Iterator[str]:
    """A folder, and those that may be the export that it belongs to, from the inside out: keys may hold folders."""
    yield folder
    parts = folder.split("/")
    for length in range(len(parts) - 1, 0, -1):
        if parts[length] in INNER and (above := "/".join(parts[:length])):
            yield above


def _in_folder(url: str) -> Numbering | None:
    try:
        return Numbering.from_json(json.loads(read_bytes(url)))
    except OSError:
        return None
    except ValueError as error:
        raise UserError(f"{url} is broken ({' '.join(str(error).split())[:80]}); export again, or remove it") from None


def _in_parquet(url: str) -> Numbering | None:
    with contextlib.suppress(OSError, ValueError, pa.ArrowException):  # the plan says what cannot be read
        metadata = pq.read_schema(open_stream(url, size=info(url).size)).metadata or {}
        return Numbering.from_json(json.loads(metadata.get(KEY, b"null")))
    return None

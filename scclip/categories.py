"""The categories of a vocabulary: 1..N are the classes, 0 is the background, the dtype's highest value is ignored.

categories = Categories({0: "background", 1: "car", 2: "road"}, things={1: True, 2: False})
labels = np.full((height, width), categories.unlabeled, categories.dtype)
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

BACKGROUND = 0

Labels = npt.NDArray[Any]  # (H, W) uint8 or uint16


def label_dtype(highest: int) -> type[np.uint8] | type[np.uint16]:
    """The dtype of label maps whose highest category is `highest`: uint8 up to 254, else uint16."""
    return np.uint8 if highest < np.iinfo(np.uint8).max else np.uint16


def ignore_value(dtype: npt.DTypeLike) -> int:
    """The label of ignored pixels: 255 in uint8 maps, 65535 in uint16 maps."""
    return int(np.iinfo(dtype).max)


@dataclass(frozen=True)
class Categories(Mapping[int, str]):
    """Category index → name, and how label maps of these categories are stored.

    Raises ValueError where the classes are not numbered 1..N.
    """

    names: Mapping[int, str]
    """Category index → name; 0 only where there is a background."""
    things: Mapping[int, bool | None] = field(default_factory=dict)
    """Class → countable (True) or stuff (False); None or left out where the vocabulary does not say."""

    def __post_init__(self) -> None:
        classes, last = self.classes, len(self.classes)
        if classes != list(range(1, last + 1)):
            raise ValueError(f"category ids {classes} are not 1..{last}: number the classes in vocabulary order")

    @staticmethod
    def of(classes: Iterable[tuple[str, bool | None]], *, background: bool) -> "Categories":
        """The categories of a vocabulary's classes in their order: pairs of a name and what `things` says of it."""
        numbered = list(enumerate(classes, start=1))
        names = {BACKGROUND: "background"} if background else {}
        names |= {category: name for category, (name, _) in numbered}
        return Categories(names, {category: thing for category, (_, thing) in numbered})

    def __getitem__(self, category: int) -> str:
        return self.names[category]

    def __iter__(self) -> Iterator[int]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def classes(self) -> list[int]:
        """The categories without the background, 1..N."""
        return sorted(category for category in self.names if category != BACKGROUND)

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Of label maps: uint8 up to 254 classes, else uint16."""
        return label_dtype(max(self.names))

    @property
    def ignore(self) -> int:
        """The label of ignored pixels."""
        return ignore_value(self.dtype)

    @property
    def unlabeled(self) -> int:
        """The label of pixels without a class: the background where there is one, else ignore."""
        return BACKGROUND if BACKGROUND in self.names else self.ignore

"""What a run's labels become on their way out: thresholds, floor, classes, components.

    target = Target.of(categories, mapping={"sedan": "car", "lamp": None})      # the categories of the export
    labels = refine(planes, target, rules)                               # (H, W) in the target's categories
    for instance in instances(labels, target, components=True): ...

Pure functions of one image's label map. Background is 0 and exists only where the target has one; ignore is the
dtype's last value.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scclip.categories import BACKGROUND, Categories, Labels, ignore_value
from scclip.errors import UserError

Quantised = npt.NDArray[np.uint8]  # (H, W), 255 = 1.0

LEVELS = 255  # of a quantised confidence


class MappingError(UserError):
    """A class mapping or thresholds that do not fit the run's vocabulary; one line."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The categories of an export, and which of them each category of the run becomes."""

    source: Categories
    """Of the run."""
    categories: Categories
    """Of the export."""
    becomes: Mapping[int, int]
    """The run's category index → the export's, or its ignore value."""

    @property
    def identity(self) -> bool:
        """True where every category stays what it is."""
        return all(old == new for old, new in self.becomes.items()) and self.source.dtype is self.categories.dtype

    @staticmethod
    def of(source: Categories, mapping: Mapping[str, str | None] | None = None) -> "Target":
        """The target of a run's categories under a class mapping (old name → new name, or None to drop the class).

        Classes that the mapping does not name stay. `background` and `ignore` may be new names. MappingError for a
        name that the vocabulary does not have.
        """
        mapping, known = mapping or {}, [source[category] for category in source.classes]
        refuse_unknown(mapping, known, "class mapping")
        new = [mapping.get(name, name) for name in known]
        background = BACKGROUND in source or "background" in mapping.values()
        kept = list(dict.fromkeys(name for name in new if name is not None and name not in ("background", "ignore")))
        if not kept:
            raise MappingError("class mapping: no class is left; drop fewer")
        categories = Categories.of(((name, _thing(source, new, name)) for name in kept), background=background)
        index = {name: category for category, name in categories.items()} | {"ignore": categories.ignore}
        becomes = {old: categories.unlabeled if name is None else index[name] for old, name in enumerate(new, start=1)}
        return Target(source=source, categories=categories, becomes={BACKGROUND: BACKGROUND} | becomes)

    def convert(self, labels: Labels) -> Labels:
        """The run's label map in the target's categories."""
        ignore = self.categories.ignore
        table: Labels = np.full(self.source.ignore + 1, ignore, self.categories.dtype)
        for old, new in self.becomes.items():
            table[old] = new
        table[-1] = ignore
        return table[labels]


def _thing(source: Categories, new: list[str | None], name: str) -> bool | None:
    """What the classes that became `name` agree on."""
    said = {source.things.get(old) for old, target in enumerate(new, start=1) if target == name}
    return said.pop() if len(said) == 1 else None


def refuse_unknown(given: Mapping[str, Any], known: list[str], what: str) -> None:
    """MappingError for the first name that is no class of the run."""
    import difflib

    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the classes are {', '.join(known[:8])}, …"
            raise MappingError(f"{what}: the run has no class {name!r}; {hint}")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a label map is changed before it is written."""

    thresholds: Mapping[int, float] | None = None
    """The run's category → confidence below which a pixel loses its class; None keeps the run's labels."""
    floor: float = 0.0
    """Confidence below which a pixel becomes ignore, whatever its label."""
    min_area: int = 0
    """Pixels: smaller segments lose their class."""
    components: bool = False
    """Things are one segment per 4-connected component, else one segment per class."""

    @property
    def needs_confidence(self) -> bool:
        """Whether the run's saved confidence is read."""
        return self.thresholds is not None or self.floor > 0


@dataclass(frozen=True)
class Planes:
    """One image's maps in the run's categories, as read."""

    labels: Labels
    argmax: Labels | None = None
    """Class before thresholds."""
    confidence: Quantised | None = None


def refine(planes: Planes, target: Target, rules: Rules) -> Labels:
    """The export's label map (H, W), dtype of the target."""
    labels = planes.labels
    if rules.thresholds is not None:
        assert planes.argmax is not None and planes.confidence is not None
        background = (
            any(old == 0 and new == 0 for old, new in target.becomes.items()) and BACKGROUND in target.categories
        )
        labels = rethreshold(planes.argmax, planes.confidence, rules.thresholds, background)
    labels = target.convert(labels)
    if rules.floor > 0:
        assert planes.confidence is not None
        labels = np.where(below(planes.confidence, rules.floor), target.categories.ignore, labels).astype(
            target.categories.dtype
        )
    return drop_small(labels, target, rules) if rules.min_area > 1 else labels


def below(confidence: Quantised, threshold: float) -> npt.NDArray[np.bool_]:
    """Pixels (H, W) whose quantised confidence is below a threshold in 0..1."""
    return (np.arange(LEVELS + 1) < threshold * LEVELS)[confidence]


def rethreshold(argmax: Labels, confidence: Quantised, thresholds: Mapping[int, float], background: bool) -> Labels:
    """Labels as `label` gives them with these thresholds, from what it saved; but for pixels within 1/255 of one."""
    limits = np.zeros(ignore_value(argmax.dtype) + 1)
    for category, threshold in thresholds.items():
        limits[category] = threshold * LEVELS
    lost = BACKGROUND if background else ignore_value(argmax.dtype)
    return np.where(confidence < limits[argmax], lost, argmax).astype(argmax.dtype)


def drop_small(labels: Labels, target: Target, rules: Rules) -> Labels:
    """The map without segments of fewer than `min_area` pixels."""
    labels = labels.copy()
    for instance in instances(labels.copy(), target, components=rules.components):
        if instance.area < rules.min_area:
            labels[instance.rows, instance.columns][instance.mask] = target.categories.unlabeled
    return labels


@dataclass(frozen=True)
class Instance:
    """One segment: a class's pixels in an image, or one component of a thing."""

    category: int
    rows: slice
    columns: slice
    mask: npt.NDArray[np.bool_]
    """(h, w) within rows and columns, its tight box."""

    @property
    def area(self) -> int:
        """Pixels."""
        return int(self.mask.sum())

    @property
    def bbox(self) -> list[float]:
        """x, y, width, height."""
        height, width = self.mask.shape
        return [float(self.columns.start), float(self.rows.start), float(width), float(height)]

    def whole(self, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """The mask in an image of this shape."""
        full = np.zeros(shape, bool)
        full[self.rows, self.columns] = self.mask
        return full

    def parts(self) -> Iterator["Instance"]:
        """Its 4-connected components, by their first pixel."""
        numbered, _ = ndimage.label(self.mask)
        for number, (rows, columns) in enumerate(ndimage.find_objects(numbered), start=1):
            yield Instance(
                self.category,
                slice(self.rows.start + rows.start, self.rows.start + rows.stop),
                slice(self.columns.start + columns.start, self.columns.start + columns.stop),
                numbered[rows, columns] == number,
            )


def instances(labels: Labels, target: Target, *, components: bool) -> Iterator[Instance]:
    """The segments of a map by category; with `components` a thing's components one by one."""
    for category, place in enumerate(ndimage.find_objects(classes_only(labels, target)), start=1):
        if place is not None:
            whole = Instance(category, place[0], place[1], labels[place] == category)
            yield from whole.parts() if components and target.categories.things.get(category) else (whole,)


def classes_only(labels: Labels, target: Target) -> npt.NDArray[np.int32]:
    """The map with ignored pixels as 0, so that 1..N are the classes."""
    return np.where(labels == target.categories.ignore, 0, labels).astype(np.int32)

"""Changes a run's label map for an export: thresholds, confidence floor, classes, small segments, components.

    target = Target.of(categories, mapping={"sedan": "car", "lamp": None})      # the categories of the export
    labels = refine(labels, confidence, target, rules)                          # (H, W) in the target's categories
    for instance in instances(labels, target, components=True): ...

Pure functions of one image's label map. Background is 0 and exists only where the target has one; the dtype's highest
value is ignored.
"""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scclip.categories import BACKGROUND, Categories, Labels, ignore_value
from scclip.errors import UserError

Quantised = npt.NDArray[np.uint8]  # (H, W), 255 = 1.0

LEVELS = 255  # of a quantised confidence


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
        """The target of a run's categories under a class mapping.

        Args:
            source: The run's categories.
            mapping: Old class name → new name, or None to drop the class; classes that it does not name stay. New
                names may be `background` and `ignore`.

        Raises:
            UserError: A name is no class of the run, or no class is left.
        """
        mapping, known = mapping or {}, [source[category] for category in source.classes]
        refuse_unknown(mapping, known, "class mapping")
        renamed = [mapping.get(name, name) for name in known]
        things: dict[str, set[bool | None]] = {}  # what the vocabulary says of all classes that become one
        for category, name in enumerate(renamed, start=1):
            if name not in (None, "background", "ignore"):
                things.setdefault(name, set()).add(source.things.get(category))
        if not things:
            raise UserError("class mapping: no class is left; drop fewer")
        categories = Categories.of(
            ((name, said.pop() if len(said) == 1 else None) for name, said in things.items()),
            background=BACKGROUND in source or "background" in renamed,
        )
        index: dict[str | None, int] = {name: category for category, name in categories.items()}
        index |= {None: categories.unlabeled, "ignore": categories.ignore}
        becomes = {category: index[name] for category, name in enumerate(renamed, start=1)}
        return Target(source=source, categories=categories, becomes={BACKGROUND: BACKGROUND} | becomes)

    def convert(self, labels: Labels) -> Labels:
        """The run's label map in the target's categories."""
        table: Labels = np.full(self.source.ignore + 1, self.categories.ignore, self.categories.dtype)
        table[list(self.becomes)] = list(self.becomes.values())
        return table[labels]


def refuse_unknown(names: Iterable[str], known: Collection[str], what: str) -> None:
    """UserError for the first of the names that is no class of the run; `what` says where the names stand."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the classes are {', '.join(list(known)[:8])}, …"
            raise UserError(f"{what}: the run has no class {name!r}; {hint}")


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

    @property
    def identity(self) -> bool:
        """True where every segment stays what it is."""
        return not self.needs_confidence and self.min_area <= 1 and not self.components


def rethreshold(argmax: Labels, confidence: Quantised, thresholds: Mapping[int, float], target: Target) -> Labels:
    """The label map (H, W) that `label` would give with these thresholds.

    Pixels within 1/255 of a threshold may differ, because the saved confidence is quantised.

    Args:
        argmax: Class before thresholds, of the run's categories.
        confidence: Its confidence.
        thresholds: Category → confidence in 0..1 below which a pixel loses its class.
        target: Says what such a pixel becomes: background, or ignored.
    """
    limits = np.zeros(ignore_value(argmax.dtype) + 1)
    limits[list(thresholds)] = np.array(list(thresholds.values())) * LEVELS
    unlabeled = BACKGROUND if BACKGROUND in target.categories else ignore_value(argmax.dtype)
    return np.where(confidence < limits[argmax], unlabeled, argmax).astype(argmax.dtype)


def refine(labels: Labels, confidence: Quantised | None, target: Target, rules: Rules) -> Labels:
    """The export's label map (H, W) from the run's; `confidence` is needed where the rules have a floor."""
    labels = target.convert(labels)
    if rules.floor > 0:
        unsure = (np.arange(LEVELS + 1) < rules.floor * LEVELS)[confidence]
        labels = np.where(unsure, target.categories.ignore, labels).astype(target.categories.dtype)
    if rules.min_area <= 1:
        return labels
    refined = labels.copy()
    for instance in instances(labels, target, components=rules.components):
        if instance.area < rules.min_area:
            refined[instance.rows, instance.columns][instance.mask] = target.categories.unlabeled
    return refined


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
        """The mask (H, W) in an image of `shape`."""
        mask = np.zeros(shape, bool)
        mask[self.rows, self.columns] = self.mask
        return mask

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


def instances(labels: Labels, target: Target, components: bool) -> Iterator[Instance]:
    """The segments of a map by category; with `components` a thing's components one by one."""
    classes = np.where(labels == target.categories.ignore, 0, labels).astype(np.int32)  # 1..N
    for category, box in enumerate(ndimage.find_objects(classes), start=1):
        if box is not None:
            whole = Instance(category, box[0], box[1], labels[box] == category)
            yield from whole.parts() if components and target.categories.things.get(category) else (whole,)

"""What a run's labels become on their way out: thresholds, floor, classes, components.

    target = Target.of(run, mapping={"sedan": "car", "lamp": None})      # the categories of the export
    labels = refine(planes, target, rules)                               # (H, W) in the target's categories
    for instance in instances(labels, target, components=True): ...

Pure functions of one image's label map. Background is 0 and exists only where the target has one; ignore is the
dtype's last value.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scclip.categories import BACKGROUND, Labels, ignore_value
from scclip.errors import UserError
from scclip.pipeline.annotations import coco
from scclip.pipeline.run.manifest import ClassRecord, RunManifest

Quantised = npt.NDArray[np.uint8]  # (H, W), 255 = 1.0

LEVELS = 255  # of a quantised confidence
WIDE = 254  # more categories than that need 16 bits


class MappingError(UserError):
    """A class mapping or thresholds that do not fit the run's vocabulary; one line."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The categories of an export, and which of them each category of the run becomes."""

    names: Mapping[int, str]
    """Category index → name; 0 only where there is a background."""
    things: Mapping[int, bool | None]
    """Classes that are countable; None where the vocabulary does not say."""
    becomes: Mapping[int, int]
    """The run's category index → the target's; IGNORE for dropped classes without a background."""
    source_dtype: type
    """uint8 or uint16: of the run's own maps."""
    dtype: type
    """Of the export's maps."""

    @property
    def identity(self) -> bool:
        """True where every category stays what it is."""
        return all(old == new for old, new in self.becomes.items()) and self.source_dtype is self.dtype

    @property
    def ignore(self) -> int:
        """The label of ignored pixels."""
        return ignore_value(self.dtype)

    @property
    def fallback(self) -> int:
        """What a pixel becomes that loses its class: background where there is one, else ignore."""
        return BACKGROUND if BACKGROUND in self.names else self.ignore

    @property
    def categories(self) -> list[dict[str, Any]]:
        """COCO's categories."""
        return coco.categories(dict(self.names), self.things)

    @staticmethod
    def of(run: RunManifest, mapping: Mapping[str, str | None] | None = None) -> "Target":
        """The target of a run.json under a class mapping (old name → new name, or None to drop the class).

        Classes that the mapping does not name stay. `background` and `ignore` may be new names. MappingError for a
        name that the vocabulary does not have.
        """
        vocabulary, mapping = run.vocabulary, dict(mapping or {})
        known = [entry.name for entry in vocabulary.classes]
        refuse_unknown(mapping, known, "class mapping")
        new = [mapping.get(name, name) for name in known]
        background = bool(vocabulary.background) or "background" in mapping.values()
        kept = list(dict.fromkeys(name for name in new if name is not None and name not in ("background", "ignore")))
        if not kept:
            raise MappingError("class mapping: no class is left; drop fewer")
        dtype = np.uint16 if len(kept) > WIDE else np.uint8
        ignore = ignore_value(dtype)
        place = {name: index for index, name in enumerate(kept, start=1)}
        place |= {"background": 0, "ignore": ignore} if background else {"ignore": ignore}
        lost = 0 if background else ignore
        things = {place[name]: _thing(vocabulary.classes, new, name) for name in kept}
        return Target(
            names=({0: "background"} if background else {}) | {place[name]: name for name in kept},
            things=things,
            becomes={0: 0} | {old: lost if name is None else place[name] for old, name in enumerate(new, start=1)},
            source_dtype=np.uint16 if len(known) > WIDE else np.uint8,
            dtype=dtype,
        )

    def convert(self, labels: Labels) -> Labels:
        """The run's label map in the target's categories."""
        table: Labels = np.full(ignore_value(self.source_dtype) + 1, self.ignore, self.dtype)
        for old, new in self.becomes.items():
            table[old] = new
        table[-1] = self.ignore
        return table[labels]


def _thing(classes: Sequence[ClassRecord], new: list[str | None], name: str) -> bool | None:
    """What the classes that became `name` agree on."""
    said = {entry.thing for entry, target in zip(classes, new, strict=True) if target == name}
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
        background = any(old == 0 and new == 0 for old, new in target.becomes.items()) and 0 in target.names
        labels = rethreshold(planes.argmax, planes.confidence, rules.thresholds, background)
    labels = target.convert(labels)
    if rules.floor > 0:
        assert planes.confidence is not None
        labels = np.where(below(planes.confidence, rules.floor), target.ignore, labels).astype(target.dtype)
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
            labels[instance.rows, instance.columns][instance.mask] = target.fallback
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
            yield from whole.parts() if components and target.things.get(category) else (whole,)


def classes_only(labels: Labels, target: Target) -> npt.NDArray[np.int32]:
    """The map with ignored pixels as 0, so that 1..N are the classes."""
    return np.where(labels == target.ignore, 0, labels).astype(np.int32)

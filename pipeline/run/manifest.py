"""run.json as objects: everything that changes labels, ids or chunk limits, and the libraries' versions.

manifest = RunManifest.from_json(json.loads(data))
manifest.options.exif, manifest.vocabulary.name, manifest.to_json()
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

from scclip.categories import Categories
from scclip.pipeline.inputs.chunks import ChunkLimits
from scclip.segmentation.types import SegmenterConfig

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """The model and the variant of the method."""

    model: str
    """open_clip's name, or demo."""
    method: str
    attention: str | None
    """Attention of the last block, where it is not the method's own."""
    without: tuple[str, ...]
    """Steps that were left out."""
    precision: str
    """float32, bf16 or fp16."""
    weights_sha256: str
    quick_gelu: bool
    calibration: Mapping[str, Any]
    """Content of the calibration file, {} where the published settings were taken."""
    calibration_note: str | None = None
    """How the method's settings were chosen for a tower whose depth has no published ones; None for other towers."""


@dataclass(frozen=True, kw_only=True)
class ClassRecord:
    """One class of the vocabulary."""

    name: str
    synonyms: tuple[str, ...] = ()
    """The queries; none: the name is the only one."""
    thing: bool | None = None
    threshold: float | None = None


@dataclass(frozen=True, kw_only=True)
class VocabularyRecord:
    """The vocabulary in full."""

    name: str
    background: tuple[str, ...]
    """Queries of category 0; none: there is no background."""
    classes: tuple[ClassRecord, ...]
    """Categories 1 to N."""
    templates: tuple[str, ...]
    logit_scale: float
    threshold: float
    area_threshold: float
    sha256: str


@dataclass(frozen=True, kw_only=True)
class OptionsRecord:
    """Options of `scclip label` that change labels or ids; None where an evaluation of labels has no such option."""

    exif: str
    limit: int | None
    image_ids: str
    masks: str | None = None
    save_confidence: bool | None = None
    reduced_decode: bool | None = None
    image_column: str | None = None

    def to_json(self) -> dict[str, object]:
        """What was recorded; `limit` also where it is null."""
        return {name: value for name, value in asdict(self).items() if value is not None or name == "limit"}


@dataclass(frozen=True, kw_only=True)
class RunManifest:
    """What a run is made of."""

    model: ModelRecord
    vocabulary: VocabularyRecord
    options: OptionsRecord
    segmentation: SegmenterConfig
    chunk_limits: ChunkLimits
    versions: Mapping[str, str]
    """Library → version."""
    evaluation: Mapping[str, object] | None = None
    """How labels are compared with ground truth; None for a labeling run."""

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "RunManifest":
        """Reads the content of run.json. Raises KeyError, TypeError or ValueError where it is none."""
        return record(RunManifest, document)

    def to_json(self) -> dict[str, object]:
        """The content of run.json."""
        document = asdict(self) | {"options": self.options.to_json()}
        for entry in document["vocabulary"]["classes"]:
            for name in [name for name, value in entry.items() if value is None]:
                del entry[name]
        if self.evaluation is None:
            del document["evaluation"]
        return document

    def document_info(self) -> dict[str, object]:
        """`info` of every COCO document: what made it. Without a date: equal runs have equal files."""
        return {
            "description": f"Pseudo-labels of {self.model.method} with {self.model.model}, "
            f"vocabulary {self.vocabulary.name}",
            "version": self.versions["scclip-pipeline"],
            "weights_sha256": self.model.weights_sha256,
            "vocabulary_sha256": self.vocabulary.sha256,
        }

    def digest(self) -> str:
        """SHA-256 (hex) of the content of run.json."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    @property
    def categories(self) -> Categories:
        """The categories of the vocabulary."""
        classes = ((entry.name, entry.thing) for entry in self.vocabulary.classes)
        return Categories.of(classes, background=bool(self.vocabulary.background))


def record(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """A dataclass, and those in its fields, from a JSON object; keys that it does not know are left out."""
    return kind(**{name: _field(hint, values[name]) for name, hint in get_type_hints(kind).items() if name in values})


def _field(hint: type[Any], value: Any) -> Any:
    """A JSON value as a field of this type holds it: lists become tuples, objects the dataclass that is meant."""
    if isinstance(value, list | tuple):
        inner = next(iter(get_args(hint)), Any)
        return tuple(_field(inner, each) for each in value)
    return record(hint, value) if is_dataclass(hint) else value

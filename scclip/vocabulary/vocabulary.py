"""Vocabularies: what to look for, by which prompts, above which confidence.

    vocabulary = Vocabulary.load("voc21")                          # or street.txt, street.yaml
    vocabulary = Vocabulary(["sky", "tree"])                       # or {"car": ["car", "sedan"], "road": []}
    text_features = encode_queries(model, tokenizer, vocabulary)   # (Q queries, E)

Categories are 1..N in class order; 0 is the background and exists only if the vocabulary has one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from scclip.categories import Categories
from scclip.documents import DocumentError, bounded, read_document
from scclip.vocabulary.files import NUMBERS, read_text, read_yaml
from scclip.vocabulary.lint import VocabularyError, check_number, check_template, lint, lint_prompts

BUILTIN = Path(__file__).with_name("builtin")


@cache
def imagenet_templates() -> tuple[str, ...]:
    """The 80 sentences of OpenAI's ImageNet evaluation, with {} for the class."""
    return tuple(yaml.safe_load(Path(__file__).with_name("imagenet_templates.yaml").read_text()))


@dataclass(frozen=True, kw_only=True)
class VocabularyClass:
    """One class; a pixel's score for it is the maximum over its queries."""

    name: str
    """The category's name in every output."""
    synonyms: tuple[str, ...] = ()
    """The queries: exactly these; the name alone if none are given."""
    thing: bool | None = None
    """Countable (True), stuff (False) or not said (None)."""
    threshold: float | None = None
    """Confidence in [0, 1] below which its pixels are dropped; None takes the vocabulary's."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", str(self.name))
        object.__setattr__(self, "synonyms", tuple(str(query) for query in self.synonyms) or (self.name,))
        if self.threshold is not None:
            object.__setattr__(self, "threshold", float(self.threshold))
            check_number("threshold", self.threshold)

    def to_dict(self) -> dict[str, object]:
        """The class as a vocabulary file would have it."""
        options = {"thing": self.thing, "threshold": self.threshold}
        given = {key: value for key, value in options.items() if value is not None}
        return {"name": self.name, "synonyms": list(self.synonyms), **given}


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Classes in category order, with the settings that turn their queries into labels."""

    classes: tuple[VocabularyClass, ...] = field(kw_only=False)
    """Categories 1..N, at most 4,095. May be given as names, or as a mapping of names to their synonyms."""
    name: str = "own"
    """What to call it; the file's stem unless the file says otherwise."""
    background: tuple[str, ...] = ()
    """Queries of category 0; empty: there is no background."""
    templates: tuple[str, ...] = field(default_factory=imagenet_templates)
    """Sentences with one {} each; a query's feature is the mean over all of them."""
    logit_scale: float = 40.0
    """Factor on the cosines before the softmax over queries."""
    threshold: float = 0.0
    """Confidence in [0, 1] below which a pixel becomes background, or ignore where there is none."""
    area_threshold: float = 0.0
    """Share in [0, 1] of the non-background area up to which a class is dropped from an image."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What the lint found and tolerates, one line each."""

    if TYPE_CHECKING:  # the dataclass makes it; here it says what `classes` may be

        def __init__(
            self,
            classes: Iterable[str | VocabularyClass] | Mapping[str, Iterable[str]],
            *,
            name: str = ...,
            background: Iterable[str] = ...,
            templates: Iterable[str] = ...,
            logit_scale: float = ...,
            threshold: float = ...,
            area_threshold: float = ...,
            warnings: tuple[str, ...] = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", str(self.name))
        object.__setattr__(self, "classes", classes_of(self.classes))
        for key in ("background", "templates"):
            object.__setattr__(self, key, tuple(str(text) for text in getattr(self, key)))
        for key in NUMBERS:
            object.__setattr__(self, key, float(getattr(self, key)))
            check_number(key, getattr(self, key))
        if not self.templates:
            raise VocabularyError(f'vocabulary "{self.name}": no template; give at least one')
        for template in self.templates:
            check_template(template)
        found = lint(f'vocabulary "{self.name}"', self.background, self.classes)
        object.__setattr__(self, "warnings", self.warnings or found)
        lint_prompts(f'vocabulary "{self.name}"', self.queries, self.templates)

    @property
    def queries(self) -> tuple[str, ...]:
        """All Q queries: the background's, then class by class."""
        return (*self.background, *(query for entry in self.classes for query in entry.synonyms))

    @property
    def query_category(self) -> tuple[int, ...]:
        """Category index of each of the Q queries; never falls from one query to the next."""
        classes = enumerate(self.classes, start=1)
        return (0,) * len(self.background) + tuple(index for index, entry in classes for _ in entry.synonyms)

    @property
    def categories(self) -> Categories:
        """The classes, and a background where there is one."""
        return Categories.of(((entry.name, entry.thing) for entry in self.classes), background=bool(self.background))

    @property
    def thresholds(self) -> dict[int, float]:
        """Category index → confidence threshold in [0, 1], for all `categories`."""
        own = {index: entry.threshold for index, entry in enumerate(self.classes, start=1)}
        return {index: self.threshold if (value := own.get(index)) is None else value for index in self.categories}

    def to_dict(self) -> dict[str, object]:
        """All but the warnings, ready for JSON; written as JSON or YAML it is a vocabulary file again."""
        return {
            "name": self.name,
            "background": list(self.background),
            "classes": [entry.to_dict() for entry in self.classes],
            "templates": list(self.templates),
            **{key: getattr(self, key) for key in NUMBERS},
        }

    def digest(self) -> str:
        """SHA-256 (hex) of `to_dict`: of everything that shows in labels or documents, names and things included."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @staticmethod
    def load(source: str) -> Vocabulary:
        """Loads a vocabulary; this needs neither PyTorch nor open_clip, unless a prompt is very long.

        Args:
            source: the name of a built-in vocabulary, or the path of a local .txt, .yaml or .yml file.

        Raises:
            VocabularyError: the file cannot be read, or something in it is wrong; one line that says where.
        """
        names = builtin_names()
        if source in names:
            return Vocabulary.parse((BUILTIN / f"{source}.yaml").read_bytes(), f"{source}.yaml")
        path = Path(source).expanduser()
        if path.suffix.lower() not in _READERS and not path.is_file():
            close = get_close_matches(source.lower(), names, n=1)
            hint = f' (did you mean "{close[0]}"?)' if close else ""
            known = f"built in are {', '.join(names)}; a path to a .txt or .yaml file works too"
            raise VocabularyError(f'unknown vocabulary "{source}"{hint}; {known}')
        try:
            data = read_document(path)
        except DocumentError as error:
            raise VocabularyError(f"vocabulary {source}: {error}; give a .txt or .yaml file") from None
        except OSError as error:
            raise VocabularyError(f"vocabulary {source} cannot be read: {error.strerror}; check the path") from None
        return Vocabulary.parse(data, source)

    @staticmethod
    def parse(data: bytes, source: str) -> Vocabulary:
        """Reads a vocabulary from the bytes of a file; the suffix of `source`, its path or URL, tells the format."""
        read = _READERS.get(Path(source).suffix.lower())
        if read is None:
            raise VocabularyError(f"vocabulary {source}: a vocabulary file ends in {', '.join(_READERS)}; rename it")
        try:
            text = bounded(data).decode("utf-8-sig")
        except DocumentError as error:
            raise VocabularyError(f"vocabulary {source}: {error}; give a .txt or .yaml file") from None
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise VocabularyError(f"{source} line {line}: not text in UTF-8; save it as UTF-8") from None
        fields = read(text, source)
        background, classes = fields.get("background", ()), fields["classes"]
        warnings = lint(source, background, classes)  # now, while the strings know their lines
        templates = fields.get("templates", "imagenet")
        templates = imagenet_templates() if templates == "imagenet" else templates
        lint_prompts(source, [*background, *(query for entry in classes for query in entry.synonyms)], templates)
        entries = tuple(VocabularyClass(**entry._asdict()) for entry in classes)
        return Vocabulary(**{**fields, "classes": entries, "templates": templates, "warnings": warnings})  # type: ignore


def classes_of(
    classes: Iterable[str | VocabularyClass] | Mapping[str, Iterable[str]],
) -> tuple[VocabularyClass, ...]:
    """The classes of names, of names with their synonyms, or as they are; VocabularyError for anything else."""
    if isinstance(classes, str):
        remedy = f"give a list of names; Vocabulary.load({classes!r}) loads a file or what is built in"
        raise VocabularyError(f"classes {classes!r} is one text; {remedy}")
    if isinstance(classes, Mapping):
        words = ((name, (given,) if isinstance(given, str) else tuple(given)) for name, given in classes.items())
        return tuple(VocabularyClass(name=name, synonyms=synonyms) for name, synonyms in words)
    return tuple(entry if isinstance(entry, VocabularyClass) else _named(entry) for entry in classes)


def _named(name: object) -> VocabularyClass:
    """The class of a name alone."""
    if not isinstance(name, str):
        raise VocabularyError(f"class {name!r} is no text; give names, or a mapping of names to their synonyms")
    if "," in name:
        first, *others = (part.strip() for part in name.split(","))
        remedy = f"for synonyms give {{{first!r}: {[first, *others]}}}, for a name VocabularyClass(name=…)"
        raise VocabularyError(f"class {name!r} holds a comma; {remedy}")
    return VocabularyClass(name=name)


_READERS = {".txt": read_text, ".yaml": read_yaml, ".yml": read_yaml}


def builtin_names() -> tuple[str, ...]:
    """Names of the vocabularies that come with the package, sorted."""
    return tuple(sorted(path.stem for path in BUILTIN.glob("*.yaml")))

"""Reads vocabulary files into fields for `Vocabulary`; every string keeps its line for the lint.

A text file has one class a line, comma-separated synonyms; a YAML file is walked node by node, never constructed, so
that nothing in it is executed and every value has its place.

    fields = read_yaml(Path("street.yaml").read_text(), "street.yaml")
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml

from scclip.vocabulary.lint import VocabularyError, Word, check_number, check_printable, check_template

CLASS_KEYS = ("name", "synonyms", "thing", "threshold")
KEYS = ("name", "background", "classes", "templates", "logit_scale", "threshold", "area_threshold")
_KINDS = {"bool": "a yes/no value", "int": "a number", "float": "a number", "timestamp": "a date"}


class ClassEntry(NamedTuple):
    """One class as the file has it; the fields of `VocabularyClass`."""

    name: str
    synonyms: tuple[str, ...]
    thing: bool | None = None
    threshold: float | None = None


def read_text(text: str, source: str) -> dict[str, Any]:
    """Fields of a vocabulary written as one class a line: `name[, synonym …]`; `#` starts a comment."""
    classes = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if line:
            words = tuple(Word.at(part, number) for part in line.split(","))
            classes.append(ClassEntry(words[0], words))
    return {"name": Path(source).stem, "classes": tuple(classes)}


def read_yaml(text: str, source: str) -> dict[str, Any]:
    """Fields of a vocabulary written as YAML.

    `templates` is "imagenet" or a tuple; keys that are absent or null are left out, but for `name` and `classes`.
    Raises `VocabularyError` for syntax, unknown keys, wrong types and values out of range.
    """
    reader = _YamlReader(source)
    root = _compose(text, source)
    entries = reader.mapping(root, "a vocabulary", KEYS) if root else {}
    fields: dict[str, Any] = {"name": Path(source).stem, "classes": ()}
    for key, node in entries.items():
        fields[key] = getattr(reader, key)(node)
    return fields


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" line {mark.line + 1} column {mark.column + 1}" if mark else ""
        why = ", ".join(part for part in (error.problem, error.context) if part)
        raise VocabularyError(f"{source}{place}: not valid YAML: {why}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise VocabularyError(f"{source} line {line}: not a text file: {error.reason}") from None
    except RecursionError:
        raise VocabularyError(f"{source}: not a vocabulary: nested too deeply") from None


class _YamlReader:
    """One method per key of the file: YAML node → value."""

    def __init__(self, source: str) -> None:
        self.source = source

    def fail(self, node: yaml.Node, message: str) -> NoReturn:
        raise VocabularyError(f"{self.source} line {node.start_mark.line + 1}: {message}")

    def mapping(self, node: yaml.Node, what: str, known: Sequence[str]) -> dict[str, yaml.Node]:
        """Key → value node in file order, nulls left out."""
        if not isinstance(node, yaml.MappingNode) or not node.tag.endswith("2002:map"):
            self.fail(node, f"{what} must be a mapping with the keys {', '.join(known)}")
        values: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = str(key_node.value)
            if key not in known:
                close = get_close_matches(key, known, n=1)
                hint = f'did you mean "{close[0]}"?' if close else f"known are {', '.join(known)}"
                self.fail(key_node, f'unknown key "{key[:40]}"; {hint}')
            if key in values:
                self.fail(key_node, f'key "{key}" is there already; remove one of them')
            values[key] = value
        return {key: value for key, value in values.items() if not value.tag.endswith(":null")}

    def word(self, node: yaml.Node, what: str) -> Word:
        kind = node.tag.rsplit(":", 1)[-1]
        if kind in _KINDS:
            self.fail(node, f"{what} {node.value} is {_KINDS[kind]} to YAML; put it into quotes")
        if not isinstance(node, yaml.ScalarNode) or kind not in ("str", "null"):
            self.fail(node, f"{what} must be text")
        return Word.at("" if kind == "null" else node.value, node.start_mark.line + 1)

    def words(self, node: yaml.Node, what: str) -> tuple[Word, ...]:
        return tuple(self.word(item, f"an entry of {what}") for item in self.items(node, what))

    def items(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode) or not node.tag.endswith("2002:seq"):
            self.fail(node, f"{what} must be a list, such as [first, second]")
        return node.value

    def number(self, node: yaml.Node, key: str) -> float:
        text = node.value if isinstance(node, yaml.ScalarNode) and node.style is None else ""
        try:
            value = float(text)
            check_number(key, value)
        except VocabularyError as error:
            self.fail(node, str(error))
        except ValueError:
            self.fail(node, f"{key} must be a number")
        return value

    def name(self, node: yaml.Node) -> Word:
        name = self.word(node, "name")
        check_printable(self.source, name, "name")
        return name

    def background(self, node: yaml.Node) -> tuple[Word, ...]:
        return self.words(node, "background")

    def synonyms(self, node: yaml.Node) -> tuple[Word, ...]:
        words = self.words(node, "synonyms")
        if not words:
            self.fail(node, "synonyms is an empty list; leave it out to use the class's name")
        return words

    def thing(self, node: yaml.Node) -> bool:
        if not node.tag.endswith(":bool"):
            self.fail(node, "thing must be true or false")
        return node.value.lower() in ("true", "yes", "on")

    def threshold(self, node: yaml.Node) -> float:
        return self.number(node, "threshold")

    def area_threshold(self, node: yaml.Node) -> float:
        return self.number(node, "area_threshold")

    def logit_scale(self, node: yaml.Node) -> float:
        return self.number(node, "logit_scale")

    def templates(self, node: yaml.Node) -> str | tuple[str, ...]:
        if node.value == "imagenet":
            return "imagenet"
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self.fail(node, 'templates must be imagenet or a list such as ["a photo of a {}."]')
        words = self.words(node, "templates")
        for word, item in zip(words, node.value, strict=True):
            check_printable(self.source, word, "template")
            try:
                check_template(word)
            except VocabularyError as error:
                self.fail(item, str(error))
        return words

    def classes(self, node: yaml.Node) -> tuple[ClassEntry, ...]:
        return tuple(self.entry(item) for item in self.items(node, "classes"))

    def entry(self, node: yaml.Node) -> ClassEntry:
        if not isinstance(node, yaml.MappingNode):
            name = self.word(node, "class name")
            return ClassEntry(name, (name,))
        entries = self.mapping(node, "a class", CLASS_KEYS)
        if "name" not in entries:
            self.fail(node, "a class needs a name")
        values: dict[str, Any] = {key: getattr(self, key)(value) for key, value in entries.items()}
        return ClassEntry(**{"synonyms": (values["name"],), **values})

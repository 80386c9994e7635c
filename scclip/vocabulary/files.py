"""Reads vocabulary files into the fields of a `Vocabulary`; every string remembers its line for the lint.

A text file has one class per line, with synonyms after commas. A YAML file is read node by node and no object is made
of it, so that nothing in it is executed and every value has a line number.

    fields = read_yaml(Path("street.yaml").read_text(), "street.yaml")
    text = write_text(["road", "traffic light, red"])      # a text file that read_text gives back
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn, TypedDict, cast

import yaml

from scclip.documents import DocumentLoader
from scclip.vocabulary.lint import VocabularyError, Word, check_number, check_printable, check_template

CLASS_KEYS = ("name", "synonyms", "thing", "threshold")
KEYS = ("name", "background", "classes", "templates", "logit_scale", "threshold", "area_threshold")
NUMBERS = ("logit_scale", "threshold", "area_threshold")
# A field of a text file's line and what ends it. A # is a comment where the line begins or behind white space.
_FIELD = re.compile(r'\s*(?:"((?:[^"]|"")*)"\s*|((?![\s"])(?:[^,#]|(?<=\S)#)*))(,|(?<!\S)#.*|\Z)')
_QUOTED = re.compile(r'["#]|.*(?:,|\s#)|\Z')  # names that are other names without quotes
_KINDS = {"bool": "a yes/no value", "int": "a number", "float": "a number", "timestamp": "a date"}


class ClassEntry(NamedTuple):
    """One class as the file has it, with the fields of `VocabularyClass`."""

    name: str
    synonyms: tuple[str, ...]
    thing: bool | None = None
    threshold: float | None = None


class VocabularyFields(TypedDict, total=False):
    """A vocabulary as the file has it, with the fields of `Vocabulary`; only `name` and `classes` are always there."""

    name: str
    classes: tuple[ClassEntry, ...]
    background: tuple[str, ...]
    templates: tuple[str, ...] | Literal["imagenet"]
    logit_scale: float
    threshold: float
    area_threshold: float


def read_text(text: str, source: str) -> VocabularyFields:
    """Reads a vocabulary with one class per line, `name[, synonym …]`; `#` starts a comment.

    A word that begins with `"` goes on to the next `"`, commas and `#` included; `""` in it is one `"`.

    Args:
        text: content of the file.
        source: path or URL of the file; its stem becomes the name of the vocabulary.

    Returns:
        The fields `name` and `classes`.

    Raises:
        VocabularyError: a quote is not closed, or more than a comma or a comment follows it.
    """
    classes = []
    for number, line in enumerate(map(str.strip, text.split("\n")), start=1):
        if line and not line.startswith("#"):
            words = tuple(_words(line, number, source))
            classes.append(ClassEntry(words[0], words))
    return {"name": Path(source).stem, "classes": tuple(classes)}


def _words(line: str, number: int, source: str) -> Iterator[Word]:
    """The words of a line that is neither empty nor a comment."""
    offset, end = 0, ","
    while end == ",":
        field = _FIELD.match(line, offset)
        if field is None:
            remedy = 'close it before the next comma, and write "" for a quote in a word'
            raise VocabularyError(f"{source} line {number}: a quote is not closed, or text follows it; {remedy}")
        quoted, plain, end = field.groups()
        yield Word.at(plain if quoted is None else quoted.replace('""', '"'), number)
        offset = field.end()


def write_text(names: Iterable[str]) -> str:
    """The text of a vocabulary with these classes, as `read_text` reads it; any white space becomes blanks."""
    lines = ["".join(" " if letter.isspace() else letter for letter in name).strip() for name in names]
    quoted = (f'"{line.replace(chr(34), chr(34) * 2)}"' if _QUOTED.match(line) else line for line in lines)
    return "".join(f"{line}\n" for line in quoted)


def read_yaml(text: str, source: str) -> VocabularyFields:
    """Reads a vocabulary in YAML or JSON.

    Args:
        text: content of the file.
        source: path or URL of the file, named in messages; its stem is the name where the file gives none.

    Returns:
        The fields that the file gives, and `name` and `classes` in any case.

    Raises:
        VocabularyError: wrong syntax, an unknown key, a wrong type or a value out of range.
    """
    reader, root = _YamlReader(source), _compose(text, source)
    given = reader.values(root, "a vocabulary", KEYS) if root else {}
    return cast(VocabularyFields, {"name": Path(source).stem, "classes": (), **given})


def _compose(text: str, source: str) -> yaml.Node | None:
    """The YAML tree of a text, None where there is nothing in it."""
    try:
        return yaml.compose(text, Loader=DocumentLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = f" line {mark.line + 1} column {mark.column + 1}" if mark else ""
        why = ", ".join(part for part in (error.problem, error.context) if part)
        raise VocabularyError(f"{source}{position}: not valid YAML: {why}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise VocabularyError(f"{source} line {line}: not a text file: {error.reason}") from None


class _YamlReader:
    """Turns YAML nodes into values: a method for each key of the file but the numbers."""

    def __init__(self, source: str) -> None:
        self.source = source

    def fail(self, node: yaml.Node, message: str) -> NoReturn:
        raise VocabularyError(f"{self.source} line {node.start_mark.line + 1}: {message}")

    def values(self, node: yaml.Node, what: str, known: Sequence[str]) -> dict[str, object]:
        """Reads all keys of a mapping, in the order of the file; keys without a value are left out."""
        nodes = self.mapping(node, what, known).items()
        return {key: self.number(at, key) if key in NUMBERS else getattr(self, key)(at) for key, at in nodes}

    def mapping(self, node: yaml.Node, what: str, known: Sequence[str]) -> dict[str, yaml.Node]:
        """Key → value node, in the order of the file; keys without a value are left out."""
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
        if "name" not in self.mapping(node, "a class", CLASS_KEYS):
            self.fail(node, "a class needs a name")
        values = self.values(node, "a class", CLASS_KEYS)
        return ClassEntry(**{"synonyms": (values["name"],), **values})  # type: ignore[arg-type]

"""Checks vocabularies; each problem is one line that names the file and line, the value and the remedy.

A string that was read from a file is a `Word`, which knows its line; plain strings are checked in the same way.

    warnings = lint("street.yaml", background, classes)
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any, NoReturn, Protocol

from scclip.errors import UserError

MAX_CLASSES = 4095  # annotation_id = image_id · 2^12 + category_id
MANY_CLASSES = 200
MAX_TOKENS = 77  # context length of OpenAI's text towers, start and end token included
# Zero-width joiners and non-joiners: inside a word they are letters of Persian and Indian scripts, and parts of emoji.
_JOINER = re.compile(r"(?<=[^\s\u200c\u200d])[\u200c\u200d](?=[^\s\u200c\u200d])")


class VocabularyError(UserError):
    """The vocabulary cannot be used; the message is one line: file and line, value, remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))  # quoted file content may hold line breaks


class Word(str):
    """A string that remembers its line in the file, counted from 1."""

    line: int | None = None

    @classmethod
    def at(cls, text: str, line: int) -> Word:
        """The `text` of a line, without white space around it; spaces of any width become plain ones."""
        word = cls("".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in text).strip())
        word.line = line
        return word


class ClassLike(Protocol):
    """What the lint reads of a class: a `ClassEntry` of a file or a `VocabularyClass`."""

    @property
    def name(self) -> str: ...
    @property
    def synonyms(self) -> tuple[str, ...]: ...


def lint(source: str, background: Sequence[str], classes: Sequence[ClassLike]) -> tuple[str, ...]:
    """Checks names and queries across the whole vocabulary.

    Args:
        source: what messages call the vocabulary, such as the path of its file.
        background: the queries of the background.
        classes: the classes in category order.

    Returns:
        Warnings, one line each.

    Raises:
        VocabularyError: the first problem that cannot be tolerated.
    """
    if not classes:
        raise VocabularyError(f"{source}: no class at all; list at least one")
    if len(classes) > MAX_CLASSES:
        raise VocabularyError(f"{source}: {len(classes)} classes, annotation ids hold {MAX_CLASSES}; leave some out")
    names = _lint_names(source, background, classes)
    warnings = _lint_queries(source, background, classes)
    if not background and (word := names.get("background")) is not None:
        why = "is a class like any other; the key background makes category 0"
        warnings.append(f'{_location(source, word)}: "{word}" {why}')
    if len(classes) > MANY_CLASSES:
        warnings.append(
            f"{source}: {len(classes)} classes: scores are a softmax over all queries, so each class lowers the "
            "confidences and costs time and memory; list only what the images can show, and lower the thresholds"
        )
    return tuple(warnings)


def _lint_names(source: str, background: Sequence[str], classes: Sequence[ClassLike]) -> dict[str, str]:
    """Refuses class names that are there twice; returns the names by their `_key`."""
    names: dict[str, str] = {}
    for entry in classes:
        check_printable(source, entry.name, "class name")
        key = _key(entry.name)
        if key in names:
            _fail(source, entry.name, f'class "{entry.name}" is there already{_line(names[key])}; remove one of them')
        if key == "background" and background:
            _fail(source, entry.name, f'class "{entry.name}" and the key background clash; remove one of them')
        names[key] = entry.name
    return names


def _lint_queries(source: str, background: Sequence[str], classes: Sequence[ClassLike]) -> list[str]:
    """Refuses queries that are there twice; one of the background and of a class is a warning only."""
    warnings = []
    owners: dict[str, tuple[int, str]] = {}  # key → category and first occurrence
    for category, queries in enumerate([background, *(entry.synonyms for entry in classes)]):
        for query in queries:
            check_printable(source, query, "prompt")
            if (key := _key(query)) not in owners:
                owners[key] = category, query
                continue
            owner, first = owners[key]
            holder = f'class "{classes[owner - 1].name}"' if owner else "the background"
            belongs = f'synonym "{query}" already belongs to {holder}{_line(first)}; remove one of them'
            if owner or not category:
                _fail(source, query, belongs)
            warnings.append(f"{_location(source, query)}: {belongs}, or the background wins the tie")
    return warnings


def lint_prompts(source: str, queries: Sequence[str], templates: Sequence[str]) -> None:
    """Raises `VocabularyError` for a query that has more than 77 tokens in the longest template."""
    longest_bytes = max(_size(template) for template in templates)
    # byte-pair encoding never makes more tokens than bytes, so only long ones need the tokenizer
    suspects = [query for query in queries if longest_bytes + _size(query) + 2 > MAX_TOKENS]
    longest = max(templates, key=lambda template: count_tokens(fill(template, "x"))) if suspects else ""
    for query in suspects:
        tokens = count_tokens(fill(longest, query))
        if tokens > MAX_TOKENS:
            where = f'prompt "{query[:40]}…" has {tokens} tokens in the template "{longest}"'
            _fail(source, query, f"{where}, CLIP reads {MAX_TOKENS}; shorten it")


def fill(template: str, query: str) -> str:
    """The prompt: the template with `query` in place of its {}."""
    return template.replace("{}", query)


def count_tokens(prompt: str) -> int:
    """Tokens of a prompt by CLIP's byte-pair encoding, start and end token included."""
    return len(_tokenizer().encode(prompt)) + 2


@cache
def _tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer  # takes seconds to import, and few vocabularies need it

    return SimpleTokenizer()


def check_number(key: str, value: float) -> None:
    """Raises `VocabularyError` unless logit_scale is finite and above 0, a threshold within [0, 1]."""
    if key == "logit_scale" and not (value > 0 and math.isfinite(value)):
        raise VocabularyError(f"logit_scale {value:g} must be finite and above 0; the usual value is 40")
    if key != "logit_scale" and not 0 <= value <= 1:
        raise VocabularyError(f"{key} {value:g} must lie between 0 and 1")


def check_template(template: str) -> None:
    """Raises `VocabularyError` unless the template holds {} exactly once."""
    if template.count("{}") != 1:
        raise VocabularyError(f'template "{template}" must hold {{}} once, where the query goes')


def check_printable(source: str, text: str, what: str) -> None:
    """Raises `VocabularyError` for text that is empty or holds control, zero-width or odd space characters."""
    if not text.strip():
        _fail(source, text, f"empty {what}; write a word or remove the entry")
    for character in _JOINER.sub("", text):
        if not character.isprintable():
            _fail(source, text, f"{what} holds the unprintable character U+{ord(character):04X}; remove it")


def _fail(source: str, text: str, message: str) -> NoReturn:
    raise VocabularyError(f"{_location(source, text)}: {message}")


def _key(text: str) -> str:
    """The text as CLIP's tokenizer reads it: equal keys are equal prompts."""
    return " ".join(text.lower().split())


def _size(text: str) -> int:
    """Bytes of the text as CLIP's tokenizer reads it."""
    return len(text.lower().encode("utf-8", "replace"))


def _location(source: str, text: str) -> str:
    """The source, and the line where the text knows its own."""
    line = getattr(text, "line", None)
    return f"{source} line {line}" if line else source


def _line(text: str) -> str:
    """` (line 3)` where the text knows its line, else nothing."""
    line = getattr(text, "line", None)
    return f" (line {line})" if line else ""

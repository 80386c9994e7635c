"""Reads small YAML documents that people hand in: bounded in bytes, in depth, and in what their aliases stand for.

    content = parse_yaml(read_document(path))     # DocumentError says in one line what is wrong

An alias costs a few bytes and stands for all that its anchor holds: nine lines of them can mean a billion values.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 2**20  # 4,095 classes with three synonyms and a threshold each are 420,000, and take four seconds
MAX_DEPTH = 32
MAX_COPIED = 10_000  # values that all aliases of a document stand for


class DocumentError(ValueError):
    """A document that is too large or no valid YAML; one line without the name of its file."""


class DocumentLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the bounds of this module; it raises yaml.MarkedYAMLError where they are passed."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.nodes = self.copied = 0
        self.sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Composes a node; counts its values, those behind an alias once more."""
        event, before = self.peek_event(), self.nodes
        if isinstance(event, yaml.AliasEvent):
            node = super().compose_node(parent, index)
            size = self.sizes.get(id(node), MAX_COPIED + 1)  # unknown is that of an anchor around its own alias
            self.nodes, self.copied = self.nodes + size, self.copied + size
            if self.copied > MAX_COPIED:
                raise self.refused(f"its aliases stand for more than {MAX_COPIED:,} values", event)
            return node
        if self.depth == MAX_DEPTH:
            raise self.refused(f"nested deeper than {MAX_DEPTH} levels", event)
        self.nodes, self.depth = self.nodes + 1, self.depth + 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        self.sizes[id(node)] = self.nodes - before
        return node

    def refused(self, why: str, event: yaml.Event) -> yaml.MarkedYAMLError:
        """The error for a document that passes a bound."""
        return yaml.composer.ComposerError(None, None, why, event.start_mark)  # type: ignore[arg-type]


def read_document(path: Path) -> bytes:
    """The bytes of a document; OSError where it cannot be read, DocumentError where it is too large."""
    with path.open("rb") as file:
        return bounded(file.read(MAX_BYTES + 1))


def bounded(data: bytes) -> bytes:
    """The first `MAX_BYTES` + 1 bytes of a document; DocumentError where it has so many."""
    if len(data) > MAX_BYTES:
        raise DocumentError(f"larger than {MAX_BYTES:,} bytes, as no file of its kind is")
    return data


def parse_yaml(data: bytes) -> Any:
    """What a document holds, made of Python's own types; DocumentError where it is no valid YAML within the bounds."""
    try:
        return yaml.load(bounded(data).decode("utf-8-sig"), Loader=DocumentLoader)
    except DocumentError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = f"line {mark.line + 1} column {mark.column + 1}: " if mark else ""
        raise DocumentError(position + ", ".join(part for part in (error.problem, error.context) if part)) from None
    except Exception as error:  # a tag or number whose value does not fit it: ValueError, KeyError, AttributeError, …
        raise DocumentError(" ".join(f"{type(error).__name__}: {error}".split())[:200]) from None


def parse_mapping(data: bytes) -> dict[Hashable, Any]:
    """`parse_yaml` of a document of `name: value` lines; an empty one is {}. DocumentError for any other form."""
    content = parse_yaml(data)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise DocumentError("must hold `name: value` lines")
    return content

"""What an input holds besides shards and images: counted by kind, with one example each, and said.

>>> passed = PassedOver()
>>> units = plan_units(["photos/"], passed=passed)
>>> passed.lines()                    # ['12 files passed over: 8 .json (a.json), 4 hidden (.DS_Store)']
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from scclip.pipeline.inputs.names import split_name
from scclip.pipeline.storage.retries import redact
from scclip.wording import counted

HIDDEN = "hidden"
LABELS = "labels beside images"
OTHER_NAMES = "other names of files already taken"
NO_IMAGE_COLUMN = "Parquet without an image column"
NOTHING_THERE = "lines of lists that name nothing to label"
KINDS = 60  # at most: names may end in anything
SHOWN = 8  # kinds in one line

_FOLDERS = r"@eaDir|@Recycle|#recycle|\$RECYCLE\.BIN|__MACOSX|_delta_log|_temporary"
_SKIPPED = re.compile(rf"(?:^|/)(?:(\.)[^/]*|({_FOLDERS}))(?=/)")
_EXTENSION = re.compile(r"(?=.*[a-z])[a-z0-9_+-]{1,10}")


@dataclass
class Tally:
    """Things that are left out, counted by kind. What several tasks left out is added up by `update`."""

    kinds: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Kind → (how many, the first of them)."""

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Counts `count` more of a kind."""
        before, first = self.kinds.get(kind, (0, example))
        self.kinds[kind] = (before + count, first)

    def update(self, other: "Tally") -> None:
        """Adds what another one has, which comes after this."""
        for kind, (count, example) in other.kinds.items():
            self.add(kind, example, count)

    def ordered(self) -> list[tuple[str, tuple[int, str]]]:
        """All kinds, the most frequent first."""
        return sorted(self.kinds.items(), key=lambda item: (-item[1][0], item[0]))


@dataclass
class PassedOver(Tally):
    """The files that are not planned; the examples are their URLs."""

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Counts a file, without credentials in its URL."""
        if kind not in self.kinds and len(self.kinds) >= KINDS:
            kind = "others"
        super().add(kind, example if kind in self.kinds else redact(example), count)

    def lines(self, shown: int = SHOWN) -> list[str]:
        """All of it in one sentence, the largest `shown` kinds by name; [] where there is nothing."""
        kinds = self.ordered()
        texts = [f"{count:,} {kind} ({url.rstrip('/').rpartition('/')[2]})" for kind, (count, url) in kinds[:shown]]
        texts += [counted(len(kinds) - shown, "more kind")] if len(kinds) > shown else []
        total = sum(count for count, _ in self.kinds.values())
        return [f"{counted(total, 'file')} passed over: {', '.join(texts)}"] if total else []

    def to_json(self) -> dict[str, dict[str, object]]:
        """Kind → count and example, as summary.json keeps it."""
        return {kind: {"count": count, "example": url} for kind, (count, url) in sorted(self.kinds.items())}

    @staticmethod
    def from_json(document: Mapping[str, Mapping[str, object]]) -> "PassedOver":
        """Reads what `to_json` wrote."""
        return PassedOver({kind: (int(str(each["count"])), str(each["example"])) for kind, each in document.items()})


def skipped(path: str) -> str | None:
    """Why a file is left out by its path below the input: the kind, or None for a file that may be input."""
    folder, slash, base = path.rpartition("/")
    return HIDDEN if base.startswith(".") else _skipped_folder(folder + slash)


@functools.lru_cache(1024)
def _skipped_folder(folder: str) -> str | None:
    match = _SKIPPED.search(folder)
    return match and (HIDDEN if match[1] else match[2])


def other_kind(path: str, truth: str | None) -> str:
    """The kind of a file that is neither a shard nor an image, by its name."""
    extension = split_name(path, truth)[1]
    if "." in extension:
        return LABELS
    before = path.lower().removesuffix(f".{extension}").rpartition(".")[2]
    if before == "tar" and extension:
        return f".tar.{extension}"
    return f".{extension}" if _EXTENSION.fullmatch(extension) else "without a usual extension"

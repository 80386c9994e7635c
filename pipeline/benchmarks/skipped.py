"""What is left out of the ground truth: counted by kind, with one example each.

>>> skipped = Skipped()
>>> skipped.add("annotations without a shape", "id 9001")
>>> skipped.line()
'skipped: annotations without a shape: 1 (id 9001)'
"""

from dataclasses import dataclass, field


@dataclass
class Skipped:
    """Kinds of things that were left out. What several tasks skipped is added up by `update`."""

    kinds: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Kind → how many, and the first of them."""

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Counts `count` more of a kind."""
        known, first = self.kinds.get(kind, (0, example))
        self.kinds[kind] = known + count, first

    def update(self, other: "Skipped") -> None:
        """Counts what another one has, which comes after this."""
        for kind, (count, example) in other.kinds.items():
            self.add(kind, example, count)

    def count(self, kind: str) -> int:
        """How many of a kind there are."""
        return self.kinds.get(kind, (0, ""))[0]

    def line(self) -> str:
        """All kinds in one line, the most frequent first; empty where nothing was skipped."""
        ordered = sorted(self.kinds.items(), key=lambda item: (-item[1][0], item[0]))
        parts = [f"{kind}: {count:,} ({example})" for kind, (count, example) in ordered]
        return f"skipped: {'; '.join(parts)}" if parts else ""

"""What is left out of the ground truth: counted by kind, with one example each.

>>> skipped = Skipped()
>>> skipped.add("annotations without a shape", "id 9001")
>>> skipped.line()
'skipped: annotations without a shape: 1 (id 9001)'
"""

from dataclasses import dataclass

from scclip.pipeline.inputs.passed_over import Tally


@dataclass
class Skipped(Tally):
    """Kinds of things that were left out of the ground truth."""

    def count(self, kind: str) -> int:
        """How many of a kind there are."""
        return self.kinds.get(kind, (0, ""))[0]

    def line(self) -> str:
        """All kinds in one line, the most frequent first; empty where nothing was skipped."""
        parts = [f"{kind}: {count:,} ({example})" for kind, (count, example) in self.ordered()]
        return f"skipped: {'; '.join(parts)}" if parts else ""

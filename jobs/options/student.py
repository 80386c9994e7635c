"""Options of `scclip student`."""

from dataclasses import dataclass

from scclip.errors import UserError
from scclip.jobs.cli.options import OptionParser, option


@dataclass(frozen=True, kw_only=True)
class StudentOptions:
    """Student."""

    output: str = option("student-run", travels="path")
    """Directory for shards, labels and exports; the same command again finds them done."""
    scenes: int = 1000
    """Scenes to label and to learn from."""
    test: int = 300
    """Scenes of the test split that teacher and student are measured on."""
    steps: int = 3000
    """Training steps of each student."""
    keep: float = 0.8
    """Share of every class's pixels that teach the second student: the most confident ones (thresholds.yaml)."""

    def __post_init__(self) -> None:
        if self.scenes < 1 or self.test < 1 or self.steps < 1:
            raise UserError("--scenes, --test and --steps must be at least 1")
        if not 0 < self.keep <= 1:
            raise UserError(f"--keep {self.keep:g} must lie above 0 and be at most 1, e.g. 0.8")


def parser() -> OptionParser:
    """The verb's options."""
    return OptionParser("student", "Train a student on the demo's labels.", [StudentOptions])

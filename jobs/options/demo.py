"""Options of `scclip demo`."""

from dataclasses import dataclass
from typing import Literal

from scclip.errors import UserError
from scclip.jobs.cli.options import OptionParser, option

SHARDS = 4


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Demo."""

    output: str = option("demo-run", travels="path")
    """Directory for shards, labels and report."""
    images: int = 64
    """Scenes to draw, in four shards."""
    model: str = option("demo", travels="model")
    """Model to label with, as `scclip label --model` takes it."""
    split: Literal["demo", "test", "development"] = "demo"
    """Scenes to draw: the demo's own, or those that scclip/demo/README.md reports (test) or chooses settings on."""
    shards_only: bool = False
    """Draw the scenes, and stop."""

    def __post_init__(self) -> None:
        if not SHARDS <= self.images <= 100_000:
            raise UserError(f"--images {self.images} must be {SHARDS} to 100000: there are {SHARDS} shards to fill")


def parser() -> OptionParser:
    """The verb's options."""
    return OptionParser("demo", "Draw scenes, label them, compare with the truth.", [DemoOptions])

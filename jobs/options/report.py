"""Options of `scclip report`."""

from dataclasses import dataclass

from scclip.errors import UserError
from scclip.jobs.cli.options import OptionParser, option, positional


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Run."""

    output: str = positional("OUTPUT", travels="path")
    """Directory of a labeling run, any fsspec URL; the page is written into it."""
    truth: str = option("seg.png", travels="path or word")
    """Extension (in Parquet: column) of ground truth, in this vocabulary's category indices; none leaves it out."""
    pictures: int = 36
    """Images in the gallery, at most 48."""
    keep: float = 0.8
    """Share of every class's pixels that the thresholds in thresholds.yaml keep, for `scclip export --thresholds`."""

    trust_plan: bool = option(False, recorded=False)
    """Follow the plan of a run that was made elsewhere to pictures that lie neither beside it nor in its bucket."""

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise UserError(f"--keep {self.keep:g} must lie above 0 and be at most 1, e.g. 0.8")
        if not 0 <= self.pictures <= 48:
            raise UserError(f"--pictures {self.pictures} must be 0 to 48: the page stays small")


EXAMPLE = """examples:
  scclip report labels/
  scclip report s3://bucket/labels --truth mask.png
"""


def parser() -> OptionParser:
    """The verb's options."""
    return OptionParser("report", "A run as one page with pictures.", [ReportOptions], EXAMPLE)

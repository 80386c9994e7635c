"""Options of `scclip compare`."""

from dataclasses import dataclass

from scclip.errors import UserError
from scclip.jobs.cli.options import OptionParser, option, positional

MOST_PICTURES = 24  # images that a comparison keeps


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Runs."""

    run_a: str = positional("RUN_A", travels="path")
    """Directory of a labeling run, any fsspec URL."""
    run_b: str = positional("RUN_B", travels="path")
    """Another run over the same input, with any vocabulary, model or options."""
    output: str = option("compare.html", travels="path")
    """Where the page goes, any fsspec URL; none writes no page."""
    pictures: int = 12
    """Images on the page, those that changed most, at most 24."""
    json: bool = False
    """Print one JSON object instead of tables."""

    trust_plan: bool = option(False, recorded=False)
    """Follow the plan of a run that was made elsewhere to pictures that lie neither beside it nor in its bucket."""

    def __post_init__(self) -> None:
        if not 0 <= self.pictures <= MOST_PICTURES:
            raise UserError(f"--pictures {self.pictures} must be 0 to {MOST_PICTURES}")


def parser() -> OptionParser:
    """The verb's options."""
    return OptionParser("compare", "How far two runs agree, class by class.", [CompareOptions])

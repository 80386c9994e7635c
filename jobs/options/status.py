"""Options of `scclip status`."""

from dataclasses import dataclass

from scclip.jobs.cli.options import OptionParser, positional


@dataclass(frozen=True, kw_only=True)
class StatusOptions:
    """Run."""

    output: str = positional("OUTPUT", travels="path")
    """Directory of a labeling run, any fsspec URL."""
    json: bool = False
    """Print one JSON object on stdout."""


def parser() -> OptionParser:
    """The verb's options."""
    return OptionParser("status", "Progress of a run, read from its files alone.", [StatusOptions])

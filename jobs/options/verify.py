"""Options of `scclip verify`."""

from dataclasses import dataclass

from scclip.jobs.cli.options import OptionParser, positional


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Run."""

    output: str = positional("OUTPUT", travels="path")
    """Directory of a labeling run, any fsspec URL."""
    json: bool = False
    """Print one JSON object on stdout."""


def parser() -> OptionParser:
    """The verb's options."""
    description = "Check a run: complete, digests and counts agree, ids unique, RLEs decode."
    return OptionParser("verify", description, [VerifyOptions])

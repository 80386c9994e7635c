"""`scclip report OUTPUT`: a run as one self-contained page, OUTPUT/report.html, from its files and its input.

scclip report s3://bucket/labels
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scclip.errors import UserError
from scclip.jobs.cli.options import OptionParser, positional
from scclip.jobs.pages.run import render_run
from scclip.pipeline.evaluation.results import Evaluation
from scclip.pipeline.review.curation import THRESHOLDS, thresholds_yaml
from scclip.pipeline.review.report import ReportLimits, gather
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.storage.files import join, replace


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Run."""

    output: str = positional("OUTPUT")
    """Directory of a labeling run, any fsspec URL; the page is written into it."""
    truth: str = "seg.png"
    """Extension (in Parquet: column) of ground truth, in this vocabulary's category indices; none leaves it out."""
    pictures: int = 36
    """Images in the gallery, at most 48."""
    keep: float = 0.8
    """Share of every class's pixels that the thresholds in thresholds.yaml keep, for `scclip export --thresholds`."""

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


def main(argv: Sequence[str]) -> int:
    """Writes the page and prints where it is; returns 0."""
    (options,) = parser().parse(argv)
    print(f"report: {write_report(options)}")
    return 0


def write_report(options: ReportOptions, evaluation: Evaluation | None = None) -> str:
    """Writes OUTPUT/report.html, with an evaluation against ground truth where one is given.

    Returns:
        The page's URL.

    Raises:
        UserError: OUTPUT holds no run.
    """
    files = RunFiles(options.output.rstrip("/") or "/")
    try:
        limits = ReportLimits(pictures=options.pictures, keep=options.keep)
        content = gather(files, limits, None if options.truth == "none" else options.truth)
    except FileNotFoundError:
        raise UserError(f"OUTPUT {files.output} holds no run (no run.json); give the directory of one") from None
    if content.curation:
        replace(join(files.output, THRESHOLDS), thresholds_yaml(content.curation, content.names))
    url = join(files.output, "report.html")
    replace(url, render_run(content, evaluation).encode())
    return url

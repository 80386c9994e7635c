"""`scclip report OUTPUT`: a run as one self-contained page, OUTPUT/report.html, from its files and its input.

scclip report s3://bucket/labels
"""

from scclip.jobs.cli.talk import say
from scclip.jobs.options.report import ReportOptions
from scclip.jobs.pages.run import render_run
from scclip.pipeline.evaluation.results import Evaluation
from scclip.pipeline.review.curation import THRESHOLDS, thresholds_yaml
from scclip.pipeline.review.report import ReportLimits, gather
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.storage.files import from_root, join, replace


def report(options: ReportOptions) -> int:
    """Writes the page and prints where it is; returns 0."""
    say(f"report: {write_report(options)}")
    return 0


def write_report(options: ReportOptions, evaluation: Evaluation | None = None) -> str:
    """Writes OUTPUT/report.html, with an evaluation against ground truth where one is given.

    Returns:
        The page's URL.

    Raises:
        UserError: OUTPUT holds no run.
    """
    files = RunFiles(from_root(options.output))
    limits = ReportLimits(pictures=options.pictures, keep=options.keep)
    content = gather(files, limits, None if options.truth == "none" else options.truth, options.trust_plan)
    if content.curation:
        replace(join(files.output, THRESHOLDS), thresholds_yaml(content.curation, content.run.names))
    url = join(files.output, "report.html")
    replace(url, render_run(content, evaluation).encode())
    return url

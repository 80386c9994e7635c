"""The page of an evaluation, OUTPUT/report.html: figures, the confusion matrix, the worst images.

write_page(files, units, scoring, evaluation, truth="seg.png", pictures=12)
"""

from collections.abc import Sequence
from itertools import chain, islice

from scclip.jobs.pages.render import on_other_pictures, render
from scclip.jobs.pages.scores import score_view
from scclip.metrics import mean_iou, pixel_accuracy
from scclip.pipeline.evaluation.results import Evaluation, percent
from scclip.pipeline.evaluation.scoring import Scoring
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.review.gallery import EvaluationPainter, Picture, WorstImage, worst_images
from scclip.pipeline.review.images import FailedImage, ReviewedRun, columns_of, failed_images
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.fingerprint import read_run
from scclip.pipeline.storage.files import join, replace
from scclip.pipeline.storage.retries import redact
from scclip.wording import counted

SHOWN = 40  # images that could not be evaluated


def write_page(
    files: RunFiles, units: Sequence[Unit], scoring: Scoring, evaluation: Evaluation, *, truth: str, pictures: int
) -> None:
    """Draws the worst images and writes the page.

    Args:
        truth: extension (tar, files) or column (Parquet) of the ground truth in the input.
        pictures: images that are shown, at most.
    """
    run = read_run(files)
    painter = EvaluationPainter(run=ReviewedRun(files, run, units, trusted=True), truth=truth, scoring=scoring)
    worst, notes = painter.pictures(worst_images(files, units, scoring, pictures))
    tables = (files.table("images", unit.number, columns_of(FailedImage)) for unit in units if evaluation.failed)
    failures = list(islice(chain.from_iterable(failed_images(table, SHOWN) for table in tables), SHOWN))
    html = render_evaluation(evaluation, worst, notes, failures, demo=on_other_pictures(run.model.model, units))
    replace(join(files.output, "report.html"), html.encode())


def render_evaluation(
    evaluation: Evaluation,
    worst: Sequence[Picture[WorstImage]],
    notes: Sequence[str],
    failures: Sequence[FailedImage],
    *,
    demo: bool,
) -> str:
    """The whole page.

    Args:
        worst: the worst images.
        notes: why some of them are missing.
        failures: some of the images that could not be evaluated.
        demo: whether the labels are the bundled demo model's, of pictures that it does not know.
    """
    first = next(iter(evaluation.matrices.values()))
    return render(
        "evaluation.html.j2",
        title=f"{evaluation.title}: {counted(evaluation.images, 'image')} against the truth",
        evaluation=evaluation,
        class_names=evaluation.names,
        model=redact(evaluation.model),
        demo=demo,
        miou=percent(mean_iou(first)),
        accuracy=percent(pixel_accuracy(first)),
        pixels=int(first.sum()),
        scores=score_view(evaluation),
        worst=worst,
        missing=notes,
        failures=failures,
    )

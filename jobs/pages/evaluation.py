"""The page of an evaluation, OUTPUT/report.html: figures, the confusion picture, the worst images.

write_page(files, units, scoring, evaluation, truth="seg.png", pictures=12)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scclip.jobs.pages.gallery import STRENGTH, article
from scclip.jobs.pages.parts import share, text
from scclip.jobs.pages.run import DEMO_NOTE, page
from scclip.jobs.pages.scores import confusion_section, score_section
from scclip.metrics import mean_iou, pixel_accuracy
from scclip.pipeline.annotations.schemas import OK
from scclip.pipeline.evaluation.results import Evaluation, percent
from scclip.pipeline.evaluation.scoring import Scoring
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.review.gallery import Picture
from scclip.pipeline.review.worst import worst_pictures
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.fingerprint import read_run
from scclip.pipeline.run.manifest import RunManifest
from scclip.pipeline.storage.files import join, read_bytes, replace
from scclip.pipeline.storage.retries import redact

FAILURES_SHOWN = 40


def write_page(
    files: RunFiles, units: Sequence[Unit], scoring: Scoring, evaluation: Evaluation, *, truth: str, pictures: int
) -> None:
    """Draws the worst images and writes the page."""
    run = read_run(files)
    worst, notes = worst_pictures(files, units, scoring, truth=truth, exif=run.options.exif, count=pictures)
    failures = failed_images(files, units) if evaluation.failed else []
    sections = [
        header(evaluation, run),
        score_section(evaluation),
        confusion_section(evaluation) if evaluation.images else "",
        worst_section(worst, notes, scoring),
        failure_section(failures, evaluation),
    ]
    html = page(f"{evaluation.title}: {evaluation.images:,} images against the truth", sections)
    replace(join(files.output, "report.html"), html.encode("utf-8", "replace"))


def header(evaluation: Evaluation, run: RunManifest) -> str:
    """Title, what was measured, warnings, and the first variant's figures."""
    first = next(iter(evaluation.matrices.values()))
    failed = f'<span class="bad">{evaluation.failed:,}</span>' if evaluation.failed else "0"
    published = "" if evaluation.published is None else f"published {evaluation.published:.1f}"
    entries = [
        ("Mean IoU", f"{percent(mean_iou(first))} %", published),
        ("Pixel accuracy", f"{percent(pixel_accuracy(first))} %", ""),
        ("Images", f"{evaluation.images:,}", ""),
        ("Not evaluated", failed, ""),
        ("Pixels with truth", f"{int(first.sum()) / 1e6:,.1f}", "million"),
    ]
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{more}</small></dd></div>" for name, value, more in entries)
    note = f'<p class="note">{DEMO_NOTE}</p>' if run.model.model == "demo" else ""
    return (
        f"<header><h1>Evaluation: {text(evaluation.title)}</h1><p>{text(redact(evaluation.model))}</p>{note}"
        f'<dl class="tiles">{cells}</dl></header>'
    )


def worst_section(pictures: Sequence[tuple[float, Picture]], notes: Sequence[str], scoring: Scoring) -> str:
    """The images with the lowest mean IoU, the worst first."""
    said = "".join(f'<p class="note">{text(note)}</p>' for note in notes)
    if not pictures:
        return said
    articles = "".join(
        article(place, picture, scoring.names, f"mean IoU {100 * value:.1f} %")
        for place, (value, picture) in enumerate(pictures)
    )
    about = "The lowest mean IoU over the classes of one image's truth and labels, the worst first."
    head = f'<h2>Worst images</h2><p class="soft">{about}</p>{said}{STRENGTH}'
    return f'<section>{head}<div class="gallery">{articles}</div></section>'


def failed_images(files: RunFiles, units: Sequence[Unit]) -> list[dict[str, Any]]:
    """The first images that could not be evaluated: file_name, status, error."""
    found: list[dict[str, Any]] = []
    for unit in units:
        source = pa.BufferReader(read_bytes(files.unit_file("images", unit.number)))
        rows = pq.read_table(source, columns=["file_name", "status", "error"]).to_pylist()
        found += [row for row in rows if row["status"] != OK]
        if len(found) >= FAILURES_SHOWN:
            break
    return found[:FAILURES_SHOWN]


def failure_section(failures: Sequence[Mapping[str, Any]], evaluation: Evaluation) -> str:
    """Images without a figure, and why."""
    if not failures:
        return ""
    rows = "".join(
        f"<tr><td>{text(row['file_name'])}</td><td>{text(row['status'])}</td><td>{text(row['error'] or '')}</td></tr>"
        for row in failures
    )
    columns = '<colgroup><col class="key"><col class="status"><col></colgroup>'
    head = "<thead><tr><th>Image</th><th>Status</th><th>Reason</th></tr></thead>"
    some = f"{len(failures):,} of {evaluation.failed:,} ({share(evaluation.failed, sum(evaluation.statuses.values()))})"
    table = f'<table class="failures">{columns}{head}<tbody>{rows}</tbody></table>'
    return f'<section><h2>Not evaluated</h2><p class="soft">{some}</p>{table}</section>'

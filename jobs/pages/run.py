"""A report's content as one self-contained HTML page: no script, font, style or picture from anywhere else.

    html = render(content, evaluation)

The skeleton with its CSS and its few lines of script is `report.html`; the tables of classes and the gallery are in
`report_classes.py`, `report_scores.py` and `report_gallery.py`, here is the rest.
"""

from collections.abc import Sequence
from pathlib import Path
from string import Template

from scclip.jobs.pages.classes import class_section
from scclip.jobs.pages.curation import curation_section
from scclip.jobs.pages.gallery import gallery_section
from scclip.jobs.pages.parts import bar, share, text
from scclip.jobs.pages.scores import confusion_section, score_section
from scclip.pipeline.annotations.schemas import OK
from scclip.pipeline.evaluation.results import Evaluation
from scclip.pipeline.review.report import ReportContent
from scclip.pipeline.run.totals import Totals
from scclip.pipeline.storage.retries import redact

TEMPLATE = Path(__file__).with_name("templates") / "run.html"
INPUTS_SHOWN = 4

METHODS = {"scclip": "SC-CLIP", "maskclip": "MaskCLIP", "clip": "plain CLIP"}
DEMO_NOTE = (
    "<strong>Labeled by the bundled demo model.</strong> It was trained on drawn scenes and knows nothing else: on "
    "photographs its labels and confidences mean nothing. Use <code>--model</code> for a model that knows them."
)


def render(content: ReportContent, evaluation: Evaluation | None = None) -> str:
    """The whole page, with an evaluation against ground truth where there is one."""
    sections = [
        header(content),
        run_section(content),
        status_section(content),
        score_section(evaluation) if evaluation else "",
        confusion_section(evaluation) if evaluation else "",
        class_section(content),
        curation_section(content),
        gallery_section(content),
        footer(content),
    ]
    return page(f"{content.run.vocabulary.name}: labels of {content.totals.labeled:,} images", sections)


def page(title: str, sections: Sequence[str]) -> str:
    """Sections in the skeleton; empty ones are left out."""
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=text(title), body="\n".join(filter(None, sections)))


def header(content: ReportContent) -> str:
    """Title, what was labeled by what, warnings, and the totals."""
    model, vocabulary = content.run.model, content.run.vocabulary
    method = METHODS.get(model.method, model.method)
    lede = (
        f"{content.totals.labeled:,} images, {len(vocabulary.classes):,} classes, labeled by "
        f"<strong>{text(method)}</strong> with {text(model.model)}."
    )
    notes = [DEMO_NOTE] if model.model == "demo" else []
    if content.finished < len(content.units):
        state = f"{content.finished:,} of {len(content.units):,} units are finished"
        notes.append(f"<strong>The run is not complete:</strong> {state}, and this page shows only these.")
    warnings = "".join(f'<p class="note">{note}</p>' for note in notes)
    return f"<header><h1>Labels: {text(vocabulary.name)}</h1><p>{lede}</p>{warnings}{tiles(content.totals)}</header>"


def tiles(totals: Totals) -> str:
    """The totals in large figures."""
    covered = totals.pixels - totals.background_pixels - totals.ignored_pixels
    seen = sum(1 for pixels in totals.class_pixels.values() if pixels)
    failed = f'<span class="bad">{totals.failed:,}</span>' if totals.failed else "0"
    entries = [
        ("Images read", f"{totals.read:,}", ""),
        ("Labeled", f"{totals.labeled:,}", ""),
        ("Failed", failed, share(totals.failed, totals.read) + " of those read"),
        ("Segments", f"{totals.segments:,}", f"{totals.segments / max(1, totals.labeled):.1f} per image"),
        ("Classes found", f"{seen:,}", ""),
        ("Pixels with a class", share(covered, totals.pixels), f"of {totals.pixels / 1e6:,.1f} million"),
        ("Windows", f"{totals.windows:,}", f"{totals.windows / max(1, totals.labeled):.1f} per image"),
    ]
    cells = (f"<div><dt>{name}</dt><dd>{value}<small>{more}</small></dd></div>" for name, value, more in entries)
    return f'<dl class="tiles">{"".join(cells)}</dl>'


def run_section(content: ReportContent) -> str:
    """The fingerprint: everything that the labels depend on."""
    run = content.run
    model, cut, vocabulary = run.model, run.segmentation, run.vocabulary
    switched = [f"attention {model.attention}"] if model.attention else []
    switched += [f"without {', '.join(model.without)}"] if model.without else []
    settings = ", ".join(f"{name} {value}" for name, value in sorted(model.calibration.items()))
    window = f"windows of {cut.window} px every {cut.stride} px" if cut.window else "one window"
    options = ", ".join(
        f"{name.replace('_', '-')} {value}" for name, value in sorted(run.options.to_json().items()) if value
    )
    queries = sum(len(entry.synonyms) for entry in vocabulary.classes) + len(vocabulary.background)
    facts = [
        ("Output", redact(content.output)),
        ("Input", inputs(content)),
        ("Method", "; ".join([METHODS.get(model.method, model.method), *switched])),
        ("Calibration", settings or "published settings"),
        ("Model", f"{model.model}, {model.precision}{', QuickGELU' if model.quick_gelu else ''}"),
        ("Weights", f"SHA-256 {model.weights_sha256[:16]}…"),
        ("Vocabulary", f"{vocabulary.name}, SHA-256 {vocabulary.sha256[:16]}…"),
        (
            "Queries",
            f"{queries:,}; templates {len(vocabulary.templates)}; logit scale {cut.logit_scale:g}",
        ),
        ("Windows", f"short side {cut.short_side} px, {window}; PAMR steps {cut.pamr_steps}"),
        ("Thresholds", f"confidence {cut.confidence_threshold:g}, area {cut.area_threshold:g}"),
        ("Options", options),
        ("Versions", ", ".join(f"{name} {value}" for name, value in sorted(run.versions.items()))),
    ]
    items = "".join(f"<dt>{name}</dt><dd>{text(value)}</dd>" for name, value in facts)
    return f'<section><h2>What was run</h2><dl class="facts">{items}</dl></section>'


def inputs(content: ReportContent) -> str:
    """How many units of which kind from where."""
    urls = list(dict.fromkeys(redact(unit.url) for unit in content.units))
    more = f" and {len(urls) - INPUTS_SHOWN:,} more" if len(urls) > INPUTS_SHOWN else ""
    return f"{len(content.units):,} units: {', '.join(urls[:INPUTS_SHOWN])}{more}"


def status_section(content: ReportContent) -> str:
    """Images by status, and the failed ones with their reasons."""
    totals = content.totals
    rows = [
        f"<tr><td>{text(status)}{bar(count / totals.read, None if status == OK else 'var(--bad)')}</td>"
        f'<td class="num">{count:,}</td><td class="num">{share(count, totals.read)}</td></tr>'
        for status, count in sorted(totals.statuses.items(), key=lambda item: (item[0] != OK, -item[1], item[0]))
    ]
    head = '<tr><th>Status</th><th class="num">Images</th><th class="num">Share</th></tr>'
    columns = '<colgroup><col><col class="n"><col class="n"></colgroup>'
    table = f'<table class="tally">{columns}<thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'
    body = table if rows else "<p>No unit is finished yet.</p>"
    return f"<section><h2>Images by status</h2>{body}{failures(content)}</section>"


def failures(content: ReportContent) -> str:
    """The failed images of the sample, or nothing where none failed."""
    if not content.failures:
        return ""
    rows = "".join(
        f"<tr><td>{text(row['file_name'])}</td><td>{text(row['status'])}</td><td>{text(row['error'] or '')}</td></tr>"
        for row in content.failures
    )
    columns = '<colgroup><col class="key"><col class="status"><col></colgroup>'
    head = "<thead><tr><th>Failed image</th><th>Status</th><th>Reason</th></tr></thead>"
    some = len(content.failures) < content.totals.failed
    more = (
        f'<p class="soft">{len(content.failures):,} of {content.totals.failed:,}; images/ has all.</p>' if some else ""
    )
    return f'<table class="failures">{columns}{head}<tbody>{rows}</tbody></table>{more}'


def footer(content: ReportContent) -> str:
    """What the page was drawn from."""
    sample = (
        f"Totals are of all {content.finished:,} finished units. Histograms, failures and pictures are of "
        f"{content.sampled:,} of them."
        if content.sampled < content.finished
        else "Everything is of all finished units."
    )
    return f"<footer><p>{sample} Confidence is the score of a pixel's class before thresholds, 0 to 1.</p></footer>"

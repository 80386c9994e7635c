"""The page of a run, with an evaluation where there is one.

>>> html = render_run(gather(files, ReportLimits()), evaluation=None)
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from scclip.categories import BACKGROUND
from scclip.jobs.pages.render import on_other_pictures, render
from scclip.jobs.pages.scores import METHODS, score_view
from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.evaluation.results import Evaluation
from scclip.pipeline.inputs.passed_over import KINDS
from scclip.pipeline.review.report import BINS, Counts, ReportContent
from scclip.pipeline.storage.retries import redact
from scclip.wording import counted

INPUTS_SHOWN = 4
AXIS_ENDS = (0.05, 0.1, 0.2, 0.5, 1.0)
BARS = 20  # of a histogram, at most


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """A class in the table of classes."""

    category: int
    pixels: int
    images: int
    confidence: float
    """Mean of its pixels, 0..1."""
    bars: list[int]
    """Its segments by their mean confidence; empty where the sample has none."""


@dataclass(frozen=True, kw_only=True)
class ClassView:
    """The table of classes."""

    rows: list[ClassRow]
    """Classes that were found, the largest first."""
    absent: list[int]
    """Classes in no image."""
    segments: int
    """Of the sample."""
    bars: list[int]
    """Segments of all classes by their mean confidence."""
    end: float
    """Confidence at the end of all histograms' axes."""


def render_run(content: ReportContent, evaluation: Evaluation | None = None, *, preview: bool = False) -> str:
    """The whole page, with an evaluation against ground truth where there is one; a preview shows its images first."""
    totals, run = content.totals, content.run.manifest
    return render(
        "run.html.j2",
        title=f"{run.vocabulary.name}: {'preview' if preview else 'labels'} of {counted(totals.labeled, 'image')}",
        preview=preview,
        content=content,
        names=content.run.names,
        class_names=content.run.names,
        demo=on_other_pictures(run.model.model, content.run.units),
        method=METHODS.get(run.model.method, run.model.method),
        run_facts=facts(content),
        statuses=sorted(totals.statuses.items(), key=lambda item: (item[0] != Status.OK, -item[1], item[0])),
        scores=score_view(evaluation) if evaluation else None,
        classes=class_view(content),
    )


def facts(content: ReportContent) -> dict[str, str]:
    """The fingerprint: everything that the labels depend on."""
    run = content.run.manifest
    model, cut, vocabulary = run.model, run.segmentation, run.vocabulary
    method = [METHODS.get(model.method, model.method)]
    method += [f"attention {model.attention}"] if model.attention else []
    method += [f"without {', '.join(model.without)}"] if model.without else []
    window = f"windows of {cut.window} px every {cut.stride} px" if cut.window else "one window"
    recorded = run.options.to_json().items()
    passed = content.passed_over.lines(KINDS + 1)
    queries = sum(len(entry.synonyms) for entry in vocabulary.classes) + len(vocabulary.background)
    return {
        "Output": redact(content.run.files.output),
        "Input": inputs(content),
        **({"Passed over": passed[0]} if passed else {}),
        "Method": "; ".join(method),
        "Calibration": named_values(sorted(model.calibration.items())) or "published settings",
        "Model": f"{model.model}, {model.precision}{', QuickGELU' if model.quick_gelu else ''}",
        "Weights": f"SHA-256 {model.weights_sha256[:16]}…",
        "Vocabulary": f"{vocabulary.name}, SHA-256 {vocabulary.sha256[:16]}…",
        "Queries": f"{queries:,}; templates {len(vocabulary.templates)}; logit scale {cut.logit_scale:g}",
        "Windows": f"short side {cut.short_side} px, {window}; PAMR steps {cut.pamr_steps}",
        "Thresholds": f"confidence {cut.confidence_threshold:g}, area {cut.area_threshold:g}",
        "Options": named_values((name.replace("_", "-"), value) for name, value in recorded if value),
        "Versions": named_values(sorted(run.versions.items())),
    }


def named_values(items: Iterable[tuple[str, object]]) -> str:
    """Names and values in one line."""
    return ", ".join(f"{name} {value}" for name, value in items)


def inputs(content: ReportContent) -> str:
    """How many units of which kind from where."""
    urls = list(dict.fromkeys(redact(unit.url) for unit in content.run.units))
    more = f" and {len(urls) - INPUTS_SHOWN:,} more" if len(urls) > INPUTS_SHOWN else ""
    return f"{counted(len(content.run.units), 'unit')}: {', '.join(urls[:INPUTS_SHOWN])}{more}"


def class_view(content: ReportContent) -> ClassView:
    """Area and confidence of each class, largest first."""
    totals, names = content.totals, content.run.names
    present = sorted((c for c in totals.class_pixels if c in names), key=lambda c: (-totals.class_pixels[c], c))
    segments = sum(content.confidence.values(), np.zeros(BINS, np.int64))
    end = axis_end(segments)
    rows = [
        ClassRow(
            category=category,
            pixels=totals.class_pixels[category],
            images=totals.class_images[category],
            confidence=totals.class_confidence[category] / 255 / max(1, totals.class_pixels[category]),
            bars=bars(content.confidence[category], end) if category in content.confidence else [],
        )
        for category in present
    ]
    return ClassView(
        rows=rows,
        absent=sorted(names.keys() - {BACKGROUND, *present}),
        segments=int(segments.sum()),
        bars=bars(segments, end),
        end=end,
    )


def axis_end(counts: Counts) -> float:
    """Where a histogram's axis may end: the first of AXIS_ENDS at or above the highest level in (BINS,) counts."""
    top = (int(np.flatnonzero(counts).max(initial=0)) + 1) / len(counts)
    return next(end for end in AXIS_ENDS if end >= top)


def bars(counts: Counts, end: float) -> list[int]:
    """The part 0..`end` of a (BINS,) histogram over 0..1 as at most BARS sums."""
    cut = counts[: round(end * len(counts))]
    return cut.reshape(min(BARS, len(cut)), -1).sum(axis=1).tolist()

"""`scclip compare RUN_A RUN_B`: how far two runs over the same images agree, class by class, and where they do not.

scclip compare labels/ labels-other-words/ --output compare.html
"""

import numpy as np

from scclip.errors import UserError
from scclip.jobs.cli.errors import warn
from scclip.jobs.cli.talk import json_line, say, tell
from scclip.jobs.options.compare import CompareOptions
from scclip.jobs.pages.comparison import render_comparison
from scclip.jobs.pages.render import on_other_pictures
from scclip.pipeline.review.drift import Classes, Drift, compare_units, pair_units
from scclip.pipeline.review.gallery import ComparisonPainter
from scclip.pipeline.review.images import ReviewedRun
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.fingerprint import existing_run
from scclip.pipeline.storage.files import from_root, replace
from scclip.wording import counted

ROWS, FLOWS = 24, 8  # of the terminal's tables


def compare(options: CompareOptions) -> int:
    """Compares, prints, writes the page; returns 0."""
    a, b = (compared_run(name, options.trust_plan) for name in (options.run_a, options.run_b))
    classes, pairs = Classes.of(a.names, b.names), pair_units(a.units, b.units)
    outputs = a.files.output, b.files.output
    if not pairs:
        raise UserError(f"{' and '.join(outputs)} share no finished shard; compare runs over the same input")
    if len(pairs) < max(len(a.units), len(b.units)):
        note = f"{counted(len(pairs), 'unit')} in both runs, of {len(a.units):,} and {len(b.units):,} finished ones"
        warn([note], "compare")
    size = len(classes.names)
    drift = sum(compare_units((a, b), pairs, classes), Drift(np.zeros((size, size), np.int64)))
    tell(*(as_json(drift, classes) if options.json else as_text(drift, classes)).split("\n"))
    if options.output != "none":
        shown = ComparisonPainter(run=a, other=b, classes=classes).pictures(drift.images[: options.pictures])
        demo = any(on_other_pictures(run.manifest.model.model, run.units) for run in (a, b))
        replace(options.output, render_comparison(drift, classes, outputs, *shown, demo=demo).encode())
        if not options.json:
            say(f"page: {options.output}")
    return 0


def compared_run(name: str, trusted: bool = False) -> ReviewedRun:
    """Opens a run with its finished units; UserError where there is no run."""
    files = RunFiles(from_root(name))
    (run, plan), finished = existing_run(files, "RUN"), files.finished()
    return ReviewedRun(files, run, [unit for unit in plan if unit.number in finished], trusted)


def as_text(drift: Drift, classes: Classes) -> str:
    """Tables for the terminal: classes by IoU, the lowest first; what moved where."""
    names, width = classes.names, max(len(name) for name in classes.names)
    images = f"{counted(drift.compared, 'image')} in both runs, {drift.equal:,} of them equal"
    lines = [f"{images}; {drift.changed:.2%} of pixels moved"]
    if drift.missing:
        lines.append(f"{counted(drift.missing, 'image')} labeled in one run only, or of another size there")
    for row in drift.classes()[:ROWS]:
        lines.append(f"  {names[row.index]:{width}}  IoU {row.iou:.3f}  area {row.area_a:7.2%} → {row.area_b:7.2%}")
    if any(drift.ignored):
        lines.append("  ignored: {:.2%} → {:.2%} of all pixels".format(*drift.ignored))
    for flow in drift.flows()[:FLOWS]:
        share = flow.pixels / drift.matrix.sum()
        lines.append(f"  moved: {names[flow.before]} → {names[flow.after]}  {share:.2%} of all pixels")
    for which, only in zip("AB", classes.only, strict=True):
        lines += [f"  only in {which}: {', '.join(only)}"] if only else []
    return "\n".join(lines)


def as_json(drift: Drift, classes: Classes) -> str:
    """The comparison as one JSON object."""
    names, (only_a, only_b) = classes.names, classes.only
    drifts, flows = drift.classes(), drift.flows()[:ROWS]
    document = {
        "compared": drift.compared,
        "equal": drift.equal,
        "missing": drift.missing,
        "changed": drift.changed,
        "classes": [{"name": names[row.index], "iou": row.iou, "area": [row.area_a, row.area_b]} for row in drifts],
        "ignored": drift.ignored,
        "moved": [{"from": names[flow.before], "to": names[flow.after], "pixels": flow.pixels} for flow in flows],
        "only_a": only_a,
        "only_b": only_b,
        "images": [{"key": changed.image.key, "changed": changed.share} for changed in drift.images],
    }
    return json_line(document)

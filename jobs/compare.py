"""`scclip compare RUN_A RUN_B`: how far two runs over the same images agree, class by class, and where they do not.

scclip compare labels/ labels-other-words/ --output compare.html
"""

import json
import sys
from typing import Any

import numpy as np

from scclip.errors import UserError
from scclip.jobs.options.compare import CompareOptions
from scclip.jobs.pages.comparison import render
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.review.compare_pictures import draw_changed
from scclip.pipeline.review.drift import Classes, Drift, Side, compare_runs, pair_units
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.fingerprint import read_run
from scclip.pipeline.run.generations import read_plan
from scclip.pipeline.run.manifest import RunManifest
from scclip.pipeline.storage.files import replace

ROWS, FLOWS = 24, 8  # of the terminal's tables


def compare(options: CompareOptions) -> int:
    """Compares, prints, writes the page; returns 0."""
    (a, run, units), (b, _, others) = (open_side(name) for name in (options.run_a, options.run_b))
    classes, pairs = Classes.of(a.names, b.names), pair_units(units, others)
    if not pairs:
        raise UserError(
            f"{a.files.output} and {b.files.output} share no finished shard; compare runs over the same input"
        )
    if len(pairs) < max(len(units), len(others)):
        note = f"{len(pairs):,} units are in both runs, of {len(units):,} and {len(others):,} finished ones"
        print(f"scclip compare: {note}", file=sys.stderr)
    size = len(classes.names)
    drift = sum(compare_runs(a, b, pairs, classes), Drift(np.zeros((size, size), np.int64)))
    print(json.dumps(as_dict(drift, classes)) if options.json else describe(drift, classes))
    if options.output != "none":
        shown = drift.images[: options.pictures]
        pictures, notes = draw_changed(a, b, units, shown, classes, run.options.exif)
        page = render(drift, classes, (a.files.output, b.files.output), pictures, notes)
        replace(options.output, page.encode("utf-8", "replace"))
        if not options.json:
            print(f"page: {options.output}")
    return 0


def open_side(name: str) -> tuple[Side, RunManifest, list[Unit]]:
    """A run and its finished units; UserError where there is none."""
    files = RunFiles(name.rstrip("/") or "/")
    try:
        run, units = read_run(files), read_plan(files)
    except FileNotFoundError:
        raise UserError(f"{name} holds no run (no run.json); give the directory of one") from None
    finished = files.finished()
    return Side(files=files, names=run.category_names()), run, [unit for unit in units if unit.number in finished]


def describe(drift: Drift, classes: Classes) -> str:
    """Tables for the terminal: classes by IoU, the lowest first; what moved where."""
    width = max(len(name) for name in classes.names)
    lines = [
        f"{drift.compared:,} images in both runs, {drift.equal:,} of them equal; {drift.changed:.2%} of pixels moved"
    ]
    if drift.missing:
        lines.append(f"{drift.missing:,} images are labeled in one run only, or have another size there")
    for place in order(drift)[:ROWS]:
        areas = f"area {drift.area[0, place]:7.2%} → {drift.area[1, place]:7.2%}"
        lines.append(f"  {classes.names[place]:{width}}  IoU {drift.iou[place]:.3f}  {areas}")
    for a, b, pixels in drift.flows()[:FLOWS]:
        lines.append(
            f"  moved: {classes.names[a]} → {classes.names[b]}  {pixels / drift.matrix.sum():.2%} of all pixels"
        )
    for which, names in zip("AB", classes.only, strict=True):
        lines += [f"  only in {which}: {', '.join(names)}"] if names else []
    return "\n".join(lines)


def order(drift: Drift) -> list[int]:
    """Places of the classes that have pixels, the lowest IoU first."""
    known = np.flatnonzero(~np.isnan(drift.iou)).tolist()
    return sorted(known, key=lambda place: (drift.iou[place], place))


def as_dict(drift: Drift, classes: Classes) -> dict[str, Any]:
    """The comparison as JSON."""
    rows = [
        {
            "name": classes.names[place],
            "iou": float(drift.iou[place]),
            "area": [float(drift.area[0, place]), float(drift.area[1, place])],
        }
        for place in order(drift)
    ]
    moved = [
        {"from": classes.names[a], "to": classes.names[b], "pixels": pixels} for a, b, pixels in drift.flows()[:ROWS]
    ]
    images = [{"key": image.key, "changed": image.share} for image in drift.images]
    counts = {"compared": drift.compared, "equal": drift.equal, "missing": drift.missing, "changed": drift.changed}
    only = {"only_a": list(classes.only[0]), "only_b": list(classes.only[1])}
    return {**counts, "classes": rows, "moved": moved, **only, "images": images}

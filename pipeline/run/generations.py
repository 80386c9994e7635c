"""What a run is: its fingerprint (run.json), its plan in generations, its totals.

open_run(files, fingerprint)               # RunMismatch where an earlier run differs in what changes labels
units = write_generation(files, known, new, replan)  # all units, the new ones as the next generation
summary = write_summary(files, ...)        # summary.json from the totals that every images/ file carries
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scclip.pipeline.annotations.statistics import Totals
from scclip.pipeline.inputs.plan import Unit, plan_from_table, plan_to_table
from scclip.pipeline.run.commit import TOTALS_KEY, RunFiles
from scclip.pipeline.storage.files import create, info, join, list_files, open_stream, read_bytes, remove, replace

LIBRARIES = ("scclip-pipeline", "torch", "open_clip_torch", "ray", "pyarrow", "pycocotools", "numpy", "pillow")
SECTIONS = ("model", "vocabulary", "options", "chunk_limits", "segmentation", "versions")  # of run.json
FOOTER_BLOCK = 2**16  # bytes a request: enough for a Parquet footer with its metadata


class RunMismatch(ValueError):
    """The output holds a run whose labels, ids or chunks would differ; the message names the field and both values."""


def library_versions() -> dict[str, str]:
    """Versions of our code and of the libraries that labels pass through."""
    return {name: version(name) for name in LIBRARIES}


def open_run(files: RunFiles, fingerprint: Mapping[str, Any]) -> list[str]:
    """Creates run.json or compares with the one that is there; returns warnings (library patch versions).

    One without a plan (its inputs were wrong, say) is replaced, and the text features of its vocabulary go. Raises
    RunMismatch where anything that changes labels, ids or chunk limits differs, OSError if it cannot be written.
    """
    url, data = join(files.output, "run.json"), json.dumps(fingerprint, indent=1, sort_keys=True).encode()
    created = create(url, data)
    if created or not read_plan(files):
        remove([join(files.output, "text_features.npy")])
        if not created:
            replace(url, data)
        return []
    return compare_runs(read_run(files), fingerprint, files.output)


def read_run(files: RunFiles) -> dict[str, Any]:
    """The fingerprint of an existing run; FileNotFoundError if there is none, RunMismatch if it is no run's."""
    url = join(files.output, "run.json")
    try:
        return dict(json.loads(read_bytes(url)))
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, ValueError):
        raise RunMismatch(f"{url} is no run's fingerprint; give another OUTPUT") from None


def read_labeling_run(files: RunFiles) -> dict[str, Any]:
    """`read_run` for what needs labels; RunMismatch where the run is an evaluation."""
    run = read_run(files)
    if "evaluation" in run:
        raise RunMismatch(f"{files.output} holds an evaluation, which keeps no labels; give a labeling run")
    return run


def compare_runs(old: Mapping[str, Any], new: Mapping[str, Any], output: str) -> list[str]:
    """Warnings for library patch versions; RunMismatch for the first field that differs otherwise."""
    before, now = flatten(old), flatten(json.loads(json.dumps(new)))
    warnings = []
    for field in sorted(before.keys() | now.keys(), key=precedence):
        was, is_now = before.get(field), now.get(field)
        if was == is_now:
            continue
        if field.startswith("versions.") and same_but_patch(was, is_now):
            warnings.append(f"{field.removeprefix('versions.')} was {was} when this run began and is {is_now} now")
            continue
        raise RunMismatch(
            f"{output} holds a run with {field} {shown(was)}, not {shown(is_now)}; use the same or another OUTPUT"
        )
    return warnings


def precedence(field: str) -> tuple[int, bool, str]:
    """Sort key: what people choose comes before what follows from it (a vocabulary's thresholds), names first."""
    section = field.partition(".")[0]
    return SECTIONS.index(section) if section in SECTIONS else -1, ".name" not in field, field


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} → {"a.b": 1}; lists are leaves."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def same_but_patch(old: Any, new: Any) -> bool:
    """True for versions that share their first two numbers."""
    numbers = [re.findall(r"\d+", str(value))[:2] for value in (old, new)]
    return numbers[0] == numbers[1] and len(numbers[0]) == 2


def shown(value: Any) -> str:
    """A value short enough for an error line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def read_plan(files: RunFiles) -> list[Unit]:
    """The units of all generations, in order."""
    tables = [
        pq.read_table(pa.BufferReader(read_bytes(file.url)))
        for file in list_files(join(files.output, "plan"))
        if file.url.endswith(".parquet")
    ]
    return [unit for table in tables for unit in plan_from_table(table)]


def write_generation(
    files: RunFiles, known: Sequence[Unit], new: Sequence[Unit], replan: Callable[[Sequence[Unit]], list[Unit]]
) -> list[Unit]:
    """All units, the `new` ones written as the next generation of the plan.

    Where another driver wrote that generation first, its units are known now, and `replan` finds what is still new.
    """
    while new:
        generation = 1 + len(list_files(join(files.output, "plan")))
        sink = pa.BufferOutputStream()
        pq.write_table(plan_to_table(new), sink)
        if create(join(files.output, "plan", f"gen-{generation:04d}.parquet"), sink.getvalue().to_pybytes()):
            return [*known, *new]
        known = read_plan(files)
        new = replan(known)
    return list(known)


def unit_totals(files: RunFiles, units: Iterable[int]) -> dict[int, Totals]:
    """Totals of finished units, from the metadata of their images/ files."""
    with ThreadPoolExecutor(16) as threads:
        return dict(threads.map(lambda unit: (unit, Totals.from_json(unit_metadata(files, unit)[TOTALS_KEY])), units))


def unit_metadata(files: RunFiles, unit: int) -> Mapping[bytes, bytes]:
    """The metadata of a finished unit's images/ file, without reading its rows."""
    url = files.unit_file("images", unit)
    with open_stream(url, size=info(url).size, block=FOOTER_BLOCK) as stream:
        return pq.read_schema(stream).metadata or {}


def summarise(totals: Totals, names: Mapping[int, str], seconds: float, labeled_now: int) -> dict[str, Any]:
    """The totals as summary.json has them; rates are those of this invocation."""
    classes = [
        {
            "category_id": category,
            "name": name,
            "images": totals.class_images[category],
            "pixels": totals.class_pixels[category],
            "mean_confidence": mean_confidence(totals, category),
        }
        for category, name in names.items()
        if category
    ]
    return {
        "images_read": totals.read,
        "images_labeled": totals.labeled,
        "images_failed": totals.failed,
        "segments": totals.segments,
        "statuses": dict(sorted(totals.statuses.items())),
        "windows": totals.windows,
        "anomaly_tokens": totals.anomaly_tokens,
        "pixels": totals.pixels,
        "background_pixels": totals.background_pixels,
        "ignored_pixels": totals.ignored_pixels,
        "seconds": round(seconds, 3),
        "images_labeled_this_time": labeled_now,
        "images_per_second": round(labeled_now / seconds, 3) if seconds > 0 else 0.0,
        "classes": classes,
    }


def mean_confidence(totals: Totals, category: int) -> float | None:
    """Mean confidence of a category's pixels in 0..1, None where it has none."""
    pixels = totals.class_pixels[category]
    return totals.class_confidence[category] / 255 / pixels if pixels else None


def write_summary(files: RunFiles, summary: Mapping[str, Any]) -> None:
    """summary.json, replaced as a whole."""
    replace(join(files.output, "summary.json"), json.dumps(summary, indent=1, ensure_ascii=True).encode())

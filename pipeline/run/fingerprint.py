"""run.json: everything that changes labels."""

import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from scclip.categories import Categories
from scclip.errors import UserError
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.generations import read_plan
from scclip.pipeline.storage.files import create, join, read_bytes, remove, replace

LIBRARIES = ("scclip-pipeline", "torch", "open_clip_torch", "ray", "pyarrow", "pycocotools", "numpy", "pillow")

SECTIONS = ("model", "vocabulary", "options", "chunk_limits", "segmentation", "versions")  # of run.json


class RunMismatch(UserError):
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


def run_categories(run: Mapping[str, Any]) -> Categories:
    """The categories of the vocabulary in a run.json."""
    vocabulary = run["vocabulary"]
    classes = ((str(entry["name"]), entry.get("thing")) for entry in vocabulary["classes"])
    return Categories.of(classes, background=bool(vocabulary["background"]))

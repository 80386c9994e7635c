"""Writes run.json, reads it, and compares a run with the one that lies in OUTPUT already.

warnings = open_run(files, manifest)   # RunMismatch where an earlier run differs in what changes labels
manifest = read_run(files)
"""

import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from scclip.errors import UserError
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.generations import read_plan
from scclip.pipeline.run.manifest import RunManifest
from scclip.pipeline.storage.files import create, exists, join, read_bytes, remove, replace

LIBRARIES = ("scclip-pipeline", "torch", "open_clip_torch", "ray", "pyarrow", "pycocotools", "numpy", "pillow")

NO_RUN = "is no run's fingerprint; give another OUTPUT"

SECTIONS = ("model", "vocabulary", "options", "chunk_limits", "segmentation", "versions")  # of run.json


class RunMismatch(UserError):
    """OUTPUT holds a run whose labels, ids or chunks would differ; the message names the field and both values."""


def library_versions() -> dict[str, str]:
    """Returns the versions of this package and of the libraries that labels pass through."""
    return {name: version(name) for name in LIBRARIES}


def open_run(files: RunFiles, manifest: RunManifest) -> list[str]:
    """Creates run.json, or compares with the one that is there.

    A run.json without a plan (its inputs were wrong, say) is replaced, and the text features of its vocabulary go.

    Returns:
        Warnings: libraries of another patch version.

    Raises:
        RunMismatch: anything that changes labels, ids or chunk limits differs.
        OSError: OUTPUT cannot be written.
    """
    url, data = join(files.output, "run.json"), json.dumps(manifest.to_json(), indent=1, sort_keys=True).encode()
    created = create(url, data)
    if not created and read_plan(files):
        return check_same(files, manifest)
    remove([join(files.output, "text_features.npy")])
    if not created:
        replace(url, data)
    return []


def read_run(files: RunFiles) -> RunManifest:
    """Reads run.json; FileNotFoundError if there is none, RunMismatch if it is not the file of a run."""
    document = read_document(files)
    try:
        return RunManifest.from_json(document)
    except (KeyError, TypeError, ValueError):
        raise RunMismatch(f"{join(files.output, 'run.json')} {NO_RUN}") from None


def read_document(files: RunFiles) -> Mapping[str, Any]:
    """Reads run.json as it was written, also by another version; raises as `read_run`."""
    url = join(files.output, "run.json")
    data = read_bytes(url)  # a UserError, that no filesystem can be had, is a ValueError as well
    try:
        return dict(json.loads(data))
    except (TypeError, ValueError):
        raise RunMismatch(f"{url} {NO_RUN}") from None


def existing_run(files: RunFiles, name: str, labels: bool = False) -> tuple[RunManifest, list[Unit]]:
    """Reads manifest and planned units of a run that must be there.

    Args:
        files: the run.
        name: how the user named it, e.g. OUTPUT or --labels.
        labels: whether an evaluation is refused, which keeps no labels.

    Raises:
        UserError: there is none.
        RunMismatch: it is an evaluation, and labels are needed.
    """
    try:
        manifest = read_run(files)
    except FileNotFoundError:
        if exists(join(files.output, "export.json")):
            raise UserError(f"{name} {files.output} is an export; give the run that it was made from") from None
        raise UserError(f"{name} {files.output} holds no run (no run.json); give the directory of one") from None
    if labels and manifest.evaluation is not None:
        raise RunMismatch(f"{files.output} holds an evaluation, which keeps no labels; give a labeling run")
    return manifest, read_plan(files)


def check_same(files: RunFiles, manifest: RunManifest) -> list[str]:
    """Compares every key of the run.json that is there, also keys of another version.

    Returns:
        Warnings: libraries of another patch version.

    Raises:
        RunMismatch: another field differs; the first one is named, with both values.
    """
    before, now = flatten(read_document(files)), flatten(json.loads(json.dumps(manifest.to_json())))
    warnings, changed = [], [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]
    for field in sorted(changed, key=precedence):
        was, is_now = before.get(field), now.get(field)
        if not field.startswith("versions.") or not same_but_patch(was, is_now):
            what = f"holds a run with {field} {shown(was)}, not {shown(is_now)}"
            raise RunMismatch(f"{files.output} {what}; use the same or another OUTPUT")
        warnings.append(f"{field.removeprefix('versions.')} was {was} when this run began and is {is_now} now")
    return warnings


def precedence(field: str) -> tuple[int, bool, str]:
    """Returns a sort key: options before what follows from them (a vocabulary's thresholds), names first."""
    section = field.partition(".")[0]
    return SECTIONS.index(section) if section in SECTIONS else -1, ".name" not in field, field


def flatten(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """{"a": {"b": 1}} → {"a.b": 1}; lists are leaves."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def same_but_patch(old: object, new: object) -> bool:
    """Returns whether two versions share their first two numbers."""
    numbers = [re.findall(r"\d+", str(value))[:2] for value in (old, new)]
    return numbers[0] == numbers[1] and len(numbers[0]) == 2


def shown(value: object) -> str:
    """Returns a value as text, short enough for an error line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"

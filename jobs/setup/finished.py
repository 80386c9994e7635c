"""Recognises a command that repeats an earlier one, without PyTorch, Ray or the model: by what was asked for.

    asked = asked_for(options, model, segmentation, compute, vocabulary)
    remember(files, asked)               # once run.json is known to be that of this command
    planned = plan_again(files, asked, options)
    planned is not None and planned.finished   # nothing to do

What run.json holds of a model, its digest and settings, takes seconds to find out. The same words about the same files
and the same versions lead to the same run.json; any difference means no more than that it has to be found out.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import scclip
from scclip.encoder.config import ModelConfig
from scclip.errors import JobFailed
from scclip.jobs.cli.options import recorded
from scclip.jobs.cli.steps import LISTING, watched_step
from scclip.jobs.cli.talk import say
from scclip.jobs.options.label import LabelOptions
from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.pipeline.inputs.passed_over import PassedOver
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.fingerprint import library_versions
from scclip.pipeline.run.generations import read_plan
from scclip.pipeline.run.totals import Summary, Totals, summarise, unit_totals, write_summary
from scclip.pipeline.storage.files import exists, info, join, list_files, read_bytes, replace
from scclip.pipeline.storage.secrets import public_url
from scclip.segmentation.types import SegmentationOptions
from scclip.vocabulary.vocabulary import Vocabulary
from scclip.wording import counted

FILE = "asked.json"  # in OUTPUT
HUB = "hf-hub:"  # what a name of the hub stands for only the hub can tell


@dataclass(frozen=True)
class Planned:
    """The units of a run and those that its inputs have gained, found without the run's settings."""

    known: Sequence[Unit]
    new: Sequence[Unit]
    passed: PassedOver
    finished: bool
    """Whether every unit has its files."""


def new_units(options: LabelOptions, files: RunFiles, known: Sequence[Unit], passed: PassedOver | None) -> list[Unit]:
    """Returns the units that were added to the inputs since those known were planned; counts the rest."""
    with watched_step("label", LISTING):
        return plan_units(
            options.inputs,
            known,
            limit=options.limit,
            exclude=[files.output],
            image_column=options.image_column,
            passed=passed,
        )


def asked_for(
    options: LabelOptions,
    model: ModelConfig,
    segmentation: SegmentationOptions,
    compute: ComputeConfig,
    vocabulary: Vocabulary,
) -> str | None:
    """Returns a digest of all that run.json depends on, as far as the command says it; None where it cannot be told."""
    if model.model.startswith(HUB):
        return None
    try:
        weights = [list(found) for found in weights_files(model)]
        calibration = Path(model.calibration).read_text() if model.calibration else None
    except (OSError, ValueError):
        return None
    asked = {
        "options": recorded(options) | {"chunk_size": options.chunk_size},
        "model": asdict(model) | {"pretrained": model.pretrained and public_url(model.pretrained)},
        "segmentation": asdict(segmentation),
        "gpus": compute.gpus_per_actor,
        "vocabulary": vocabulary.digest(),
        "weights": weights,
        "calibration": calibration,
        "versions": library_versions(),
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def weights_files(model: ModelConfig) -> list[tuple[str, int, str]]:
    """Name, size and version of the files that hold a model; none where open_clip's name and tag say which they are."""
    if model.model == "demo":
        return folder_files(os.path.join(os.path.dirname(scclip.__file__), "demo", "weights"))
    if model.model.startswith("local-dir:"):
        return folder_files(model.model.removeprefix("local-dir:"))
    given = model.pretrained or ""
    if "://" in given or os.path.isfile(given):
        found = info(given)
        return [(public_url(given), found.size, found.version)]
    return []


def folder_files(folder: str) -> list[tuple[str, int, str]]:
    """Name, size and version of the files in a folder."""
    return [(file.path, file.size, file.version) for file in list_files(folder)]


def remember(files: RunFiles, asked: str | None) -> None:
    """Writes down that this command leads to the run.json that is there."""
    if asked is not None:
        replace(join(files.output, FILE), note(files, asked))


def note(files: RunFiles, asked: str) -> bytes:
    """What `remember` writes."""
    run = hashlib.sha256(read_bytes(join(files.output, "run.json"))).hexdigest()
    return json.dumps({"asked_sha256": asked, "run_sha256": run}).encode()


def plan_again(files: RunFiles, asked: str | None, options: LabelOptions) -> Planned | None:
    """Returns the units of a run that this command has led to before; None where it has not, as far as is known."""
    try:
        if asked is None or read_bytes(join(files.output, FILE)) != note(files, asked):
            return None
        known = read_plan(files)
    except (OSError, ValueError):
        return None
    passed = PassedOver()
    new = new_units(options, files, known, passed)
    done = files.finished()
    return Planned(known, new, passed, not new and all(unit.number in done for unit in known))


def report_nothing_to_do(options: LabelOptions, files: RunFiles, vocabulary: Vocabulary) -> int:
    """Says that a run is finished; makes summary.json again if it is missing."""
    say(f"nothing to do: every image of the input is labeled in {files.output}")
    url = join(files.output, "summary.json")
    if exists(url):
        summary: Summary = json.loads(read_bytes(url))
    else:
        totals = sum(unit_totals(files, files.finished()).values(), Totals())
        summary = summarise(totals, vocabulary.categories, 0.0, 0)
        if not options.dry_run:
            write_summary(files, summary)
    return check_failures(summary["statuses"], options.max_failed)


def check_failures(statuses: Mapping[str, int], max_failed: float) -> int:
    """Returns 0; raises JobFailed (exit code 1) where a larger share of the images failed than allowed.

    Args:
        statuses: images by status.
        max_failed: the share that may fail, 0 to 1.
    """
    read = sum(statuses.values())
    reasons = {status: count for status, count in sorted(statuses.items()) if status != Status.OK and count}
    failed = sum(reasons.values())
    if failed <= max_failed * read:
        return 0
    named = ", ".join(f"{count:,} {status}" for status, count in reasons.items())
    what = f"{failed:,} of {counted(read, 'image')} failed ({named})"
    more = f"a larger share than --max-failed {max_failed:g} allows"
    raise JobFailed(f"{what}, {more}; images/*.parquet tells why, --retry-failed tries them again")

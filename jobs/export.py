"""`scclip export RUN OUTPUT --format …`: a run's labels in the form that trainers read; no model, no GPU.

scclip export labels/ coco/ --format coco --images --val 0.1 --filter "coverage > 0.5"
"""

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import ray
import yaml
from tqdm import tqdm

from scclip.errors import JobFailed, UserError, one_line
from scclip.jobs.cli.cluster import local_or_cluster
from scclip.jobs.cli.errors import cause
from scclip.jobs.cli.options import recorded
from scclip.jobs.options.export import ExportOptions, SelectionOptions
from scclip.pipeline.annotations.schemas import IMAGES_SCHEMA
from scclip.pipeline.export.chain import assemble, export_unit, export_units, repeated, unexported
from scclip.pipeline.export.filter import FilterError, parse_filter
from scclip.pipeline.export.job import ExportJob
from scclip.pipeline.export.source import ExportError, Source
from scclip.pipeline.export.transform import MappingError, Rules, Target, refuse_unknown
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.fingerprint import existing_run
from scclip.pipeline.run.manifest import RunManifest
from scclip.pipeline.storage.files import create, exists, join, read_bytes

FEW_UNITS = 8  # a Ray of our own takes 5 to 10 seconds to start; a unit of 250 images about one second
NAMED_SHOWN = 3  # repeated keys in an error line


def export(options: ExportOptions, selection: SelectionOptions) -> int:
    """Checks everything that can be wrong, exports the finished units, tells what was written."""
    files = RunFiles(options.run.rstrip("/") or "/")
    run, units = existing_run(files, "RUN")
    finished = files.finished()
    ready = [unit for unit in units if unit.number in finished]
    if not ready:
        raise UserError(f"RUN {files.output} has no finished unit yet; run scclip label first")
    if len(ready) < len(units):
        print(
            f"scclip export: {len(ready):,} of {len(units):,} units are finished; only these are exported",
            file=sys.stderr,
        )
    job = prepare(options, selection, files, run)
    claim(job.output, fingerprint(options, selection, run, ready))
    if exists(join(job.output, "summary.json")):
        print(f"nothing to do: {job.output} is whole")
        return 0
    refuse_repeated(job, run, ready)
    follow(ready, job, options.address or os.environ.get("RAY_ADDRESS"))
    return conclude(assemble(ready, job), job)


def prepare(options: ExportOptions, selection: SelectionOptions, files: RunFiles, run: RunManifest) -> ExportJob:
    """The job; UserError for a filter, a class or an option that does not fit the run."""
    categories = run.categories
    try:
        if selection.filter:
            parse_filter(selection.filter, IMAGES_SCHEMA.names)
        target = Target.of(categories, yaml_file("--classes", selection.classes))
        rules = Rules(
            thresholds=thresholds(selection, run),
            floor=selection.confidence_floor,
            min_area=selection.min_area,
            components=options.components or options.format == "coco-panoptic",
        )
    except (FilterError, MappingError) as error:
        raise UserError(str(error)) from None
    if rules.needs_confidence and not run.options.save_confidence:
        raise UserError(f"RUN {files.output} has no saved confidence; label with --save-confidence to use thresholds")
    if options.components and True not in target.categories.things.values():
        warning = "--components: the vocabulary calls no class a thing (thing: true); every class stays one segment"
        print(f"scclip export: {warning}", file=sys.stderr)
    source = Source(
        files=files,
        categories=categories,
        condition=selection.filter,
        val=selection.val,
        pictures=options.images,
        confidence=rules.needs_confidence,
    )
    return ExportJob(
        output=options.output.rstrip("/") or "/",
        format=options.format,
        source=source,
        target=target,
        rules=rules,
        form=options.segmentation,
        info=document_info(run),
    )


def yaml_file(flag: str, name: str) -> dict[str, Any]:
    """A YAML file of `name: value` lines, {} where none is given."""
    if not name:
        return {}
    try:
        content = yaml.safe_load(read_bytes(name).decode("utf-8-sig")) or {}
    except OSError as error:
        raise UserError(f"{flag} {name}: {one_line(error)}; give a readable YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{flag} {name}: {one_line(error)}; give valid YAML") from None
    if not isinstance(content, dict):
        raise UserError(f"{flag} {name}: must hold `class name: value` lines")
    return {str(key): value for key, value in content.items()}


def thresholds(selection: SelectionOptions, run: RunManifest) -> dict[int, float] | None:
    """The run's category → threshold as `label` would have it; None where none was asked for."""
    if not selection.thresholds and selection.confidence_threshold is None:
        return None
    names, segmentation = run.categories, run.segmentation
    given = yaml_file("--thresholds", selection.thresholds)
    refuse_unknown(given, [name for category, name in names.items() if category], "--thresholds")
    own = dict(segmentation.category_thresholds)
    usual = selection.confidence_threshold
    usual = segmentation.confidence_threshold if usual is None else usual
    values = {category: own.get(category, usual) for category in names}
    for category, name in names.items():
        if category and name in given:
            value = given[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UserError(f"--thresholds {selection.thresholds}: {name}: {value!r} must lie between 0 and 1")
            values[category] = float(value)
    return values


def document_info(run: RunManifest) -> dict[str, Any]:
    """`info` of the merged JSON, as the run's own documents have it."""
    model, vocabulary = run.model, run.vocabulary
    return {
        "description": f"Pseudo-labels of {model.method} with {model.model}, vocabulary {vocabulary.name}",
        "version": run.versions["scclip-pipeline"],
        "weights_sha256": model.weights_sha256,
        "vocabulary_sha256": vocabulary.sha256,
    }


def fingerprint(
    options: ExportOptions, selection: SelectionOptions, run: RunManifest, units: Sequence[Unit]
) -> dict[str, Any]:
    """All that the export depends on: export.json."""
    chosen = recorded(options)
    numbers = ",".join(str(unit.number) for unit in units)
    return {
        "options": chosen | asdict(selection),
        "classes": yaml_file("--classes", selection.classes),
        "thresholds": yaml_file("--thresholds", selection.thresholds),
        "run_sha256": run.digest(),
        "units": len(units),
        "units_sha256": hashlib.sha256(numbers.encode()).hexdigest(),
    }


def claim(output: str, wanted: dict[str, Any]) -> None:
    """Writes export.json; UserError where OUTPUT holds another export."""
    url, data = join(output, "export.json"), json.dumps(wanted, indent=1, sort_keys=True).encode()
    try:
        if create(url, data):
            return
        found = json.loads(read_bytes(url))
    except ValueError:
        found = {}
    except OSError as error:
        raise UserError(f"OUTPUT {output} cannot be written: {one_line(error)}; check URL and rights") from None
    before, now = json.loads(json.dumps(found)), json.loads(data)
    if before == now:
        return
    options = before.get("options", {}) | {name: before.get(name) for name in now if name != "options"}
    asked = now["options"] | {name: now[name] for name in now if name != "options"}
    name = next(name for name in asked if options.get(name) != asked[name])
    raise UserError(
        f"OUTPUT {output} holds an export with {name} {options.get(name)!r}, not {asked[name]!r}; choose another OUTPUT"
    )


def refuse_repeated(job: ExportJob, run: RunManifest, units: Sequence[Unit]) -> None:
    """UserError where two images would have one id, or one file name, with their names."""
    files_by_key = job.format in ("yolo", "coco-panoptic") or (job.source.pictures and job.format == "coco")
    if run.options.image_ids == "key":
        refuse(repeated(job.source, units, "image_id"), "image ids", "label with --image-ids plan")
    if files_by_key:
        refuse(repeated(job.source, units, "key"), "keys", f"{job.format} names files by key: use png or parquet")


def refuse(found: Sequence[str], what: str, remedy: str) -> None:
    """UserError where anything was found."""
    if found:
        names = ", ".join(found[:NAMED_SHOWN]) + (", …" if len(found) > NAMED_SHOWN else "")
        raise UserError(f"{len(found):,} {what} belong to several images: {names}; {remedy}")


def follow(units: Sequence[Unit], job: ExportJob, address: str | None) -> None:
    """Exports what is missing under a progress line; JobFailed with the reason where a unit cannot be exported."""
    left = unexported(units, job)
    with tqdm(total=len(left), unit=" units", disable=not sys.stderr.isatty(), leave=False) as bar:
        try:
            for _ in exported(left, job, address):
                bar.update()
        except KeyboardInterrupt:
            raise KeyboardInterrupt("stopped; the same command again goes on from here") from None
        except ExportError as error:
            raise JobFailed(f"{error}; what is written is kept, the same command again goes on") from None


def exported(units: Sequence[Unit], job: ExportJob, address: str | None) -> Iterator[Counter[str]]:
    """Each unit's counts: by Ray tasks, or in this process where there are too few units for starting Ray to pay."""
    if len(units) <= FEW_UNITS and not address:
        yield from (export_unit(unit, job) for unit in units)
        return
    with local_or_cluster(address) as cluster:
        cluster.start()
        try:
            yield from export_units(units, job)
        except ray.exceptions.RayError as error:
            raise ExportError(cause(error)) from error


def conclude(counts: dict[str, int], job: ExportJob) -> int:
    """Prints the result; returns 0."""
    splits = [f"{counts[f'{split} images']:,} {split}" for split in ("train", "val") if counts.get(f"{split} images")]
    segments = f", {counts['segments']:,} segments" if counts.get("segments") else ""
    print(f"{' + '.join(splits) or '0'} images{segments}: {job.output}")
    if counts.get("lost"):
        print(
            f"scclip export: {counts['lost']:,} of the smallest segments had no id left; use --min-area",
            file=sys.stderr,
        )
    return 0

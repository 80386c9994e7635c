"""`scclip export RUN OUTPUT --format …`: a run's labels in the form that trainers read; no model, no GPU.

scclip export labels/ coco/ --format coco --images --val 0.1 --filter "coverage > 0.5"
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TextIO

from tqdm import tqdm

from scclip.documents import MAX_BYTES, DocumentError, parse_mapping
from scclip.errors import JobFailed, UserError, one_line
from scclip.jobs.cli import errors
from scclip.jobs.cli.errors import cause
from scclip.jobs.cli.options import recorded
from scclip.jobs.cli.talk import json_line, no_bar, notes, say
from scclip.jobs.options.export import ExportOptions, SelectionOptions
from scclip.pipeline.annotations.schemas import IMAGES_SCHEMA
from scclip.pipeline.export.chain import assemble, export_unit, export_units, unexported
from scclip.pipeline.export.exporter import make_exporter
from scclip.pipeline.export.filter import parse_filter
from scclip.pipeline.export.job import ExportJob
from scclip.pipeline.export.source import ExportError, repeated_ids, repeated_names
from scclip.pipeline.export.transform import Rules, Target, refuse_unknown
from scclip.pipeline.inputs.units import Unit, sample_urls
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.fingerprint import existing_run
from scclip.pipeline.run.manifest import RunManifest
from scclip.pipeline.run.origin import outside, own_plan
from scclip.pipeline.storage.files import create, exists, from_root, join, read_bytes, read_start
from scclip.pipeline.storage.retries import redact
from scclip.wording import counted

FEW_UNITS = 8  # a Ray of our own takes 5 to 10 seconds to start; a unit of 250 images about one second
NAMED_SHOWN = 3  # repeated ids in an error line

Document = dict[str, object]  # a JSON or YAML object


def export(options: ExportOptions, selection: SelectionOptions) -> int:
    """Checks everything that can be wrong, exports the finished units, tells what was written."""
    files = RunFiles(from_root(options.run))
    run, units = existing_run(files, "RUN")
    finished = files.finished()
    ready = [unit for unit in units if unit.number in finished]
    if not ready:
        raise UserError(f"RUN {files.output} has no finished unit yet; run scclip label first")
    if len(ready) < len(units):
        warn(f"{len(ready):,} of {counted(len(units), 'unit')} finished; nothing else is exported")
    job = prepare(options, selection, files, run)
    if options.images and not own_plan(files):
        if not options.trust_plan:
            refuse_elsewhere(files, ready)
        job = replace(job, foreign=True)
    ours = claim(job.output, fingerprint(options, selection, run, ready))
    if ours and exists(join(job.output, "summary.json")):
        say(f"nothing to do: {job.output} is complete", notes(options.json))
        if options.json:
            print(as_json(job))
        return 0
    refuse_repeated(job, run, ready)
    job = with_names(job, ready)
    counts = follow(ready, job, options.address or os.environ.get("RAY_ADDRESS"))
    conclude(counts, job, notes(options.json))
    if options.json:
        print(as_json(job))
    return 0


def refuse_elsewhere(files: RunFiles, units: Sequence[Unit]) -> None:
    """UserError where a plan that was not made here names a file that does not lie near the run."""
    if url := outside(files, units):
        remedy = "add --trust-plan if you know who made the run, or leave --images out"
        what = f"its plan was not made by you on this machine, and names {redact(url)}, which lies elsewhere"
        raise UserError(f"RUN {files.output}: {what}; {remedy}")


def warn(message: str) -> None:
    """Prints a line to stderr."""
    errors.warn([message], "export")


def prepare(options: ExportOptions, selection: SelectionOptions, files: RunFiles, run: RunManifest) -> ExportJob:
    """The job; UserError for a filter, a class or an option that does not fit the run."""
    if selection.filter:
        parse_filter(selection.filter, IMAGES_SCHEMA.names)
    target = Target.of(run.categories, yaml_file("--classes", selection.classes))
    rules = Rules(
        thresholds=thresholds(selection, run),
        floor=selection.confidence_floor,
        min_area=selection.min_area,
        components=options.components,
    )
    if rules.needs_confidence and not run.options.save_confidence:
        raise UserError(f"RUN {files.output} has no saved confidence; label with --save-confidence to use thresholds")
    if options.components and True not in target.categories.things.values():
        warn("--components: the vocabulary calls no class a thing (thing: true); every class stays one segment")
    if options.label_base == 0 and options.format in ("coco", "coco-panoptic"):
        warn("--label-base 0: Datumaro and CVAT take category 0 of a COCO file for no class; leave it out for them")
    return ExportJob(
        output=from_root(options.output),
        format=options.format,
        files=files,
        condition=selection.filter,
        val=selection.val,
        pictures=options.images,
        upright=run.options.exif == "apply",
        target=target,
        rules=rules,
        base=1 if options.label_base is None else options.label_base,
        segmentation=options.segmentation,
        info=run.document_info(),
    )


def yaml_file(flag: str, name: str) -> dict[str, Any]:
    """A YAML file of `name: value` lines, {} where none is given."""
    if not name:
        return {}
    try:
        content = parse_mapping(read_start(name, MAX_BYTES + 1))
    except (OSError, DocumentError) as error:
        remedy = "give a readable YAML file" if isinstance(error, OSError) else "give `class name: value` lines"
        raise UserError(f"{flag} {name}: {one_line(error)}; {remedy}") from None
    return {str(key): value for key, value in content.items()}


def thresholds(selection: SelectionOptions, run: RunManifest) -> dict[int, float] | None:
    """The run's category → threshold as `label` would have it; None where none was asked for."""
    if not selection.thresholds and selection.confidence_threshold is None:
        return None
    own = yaml_file("--thresholds", selection.thresholds)
    refuse_unknown(own, [run.categories[category] for category in run.categories.classes], "--thresholds")
    usual = selection.confidence_threshold
    if usual is None:
        usual = run.segmentation.confidence_threshold
    values = dict.fromkeys(run.categories, usual) | dict(run.segmentation.category_thresholds)
    for category in run.categories.classes:
        if (name := run.categories[category]) in own:
            value = own[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UserError(f"--thresholds {selection.thresholds}: {name}: {value!r} must lie between 0 and 1")
            values[category] = float(value)
    return values


def fingerprint(
    options: ExportOptions, selection: SelectionOptions, run: RunManifest, units: Sequence[Unit]
) -> Document:
    """All that the export depends on: export.json."""
    numbers = ",".join(str(unit.number) for unit in units)
    return {
        "options": recorded(options) | recorded(selection),
        "classes": yaml_file("--classes", selection.classes),
        "thresholds": yaml_file("--thresholds", selection.thresholds),
        "run_sha256": run.digest(),
        "units": len(units),
        "units_sha256": hashlib.sha256(numbers.encode()).hexdigest(),
    }


def claim(output: str, wanted: Document) -> bool:
    """Writes export.json; True where it was there already. UserError where OUTPUT holds another export."""
    url, data = join(output, "export.json"), json.dumps(wanted, indent=1, sort_keys=True).encode()
    try:
        present = exists(url)  # an equal object counts as created
        if create(url, data):
            return present
        before = json.loads(read_bytes(url))
    except (json.JSONDecodeError, UnicodeDecodeError):
        before = {}
    except OSError as error:
        raise UserError(f"OUTPUT {output} cannot be written: {one_line(error)}; check URL and rights") from None
    was, asked = ({**document.pop("options", {}), **document} for document in (before, json.loads(data)))
    different = [name for name in {**asked, **was} if was.get(name) != asked.get(name)]
    if not different:  # exports of earlier versions lack options that are null
        return True
    name = different[0]
    raise UserError(
        f"OUTPUT {output} holds an export with {name} {was.get(name)!r}, not {asked.get(name)!r}; choose another OUTPUT"
    )


def refuse_repeated(job: ExportJob, run: RunManifest, units: Sequence[Unit]) -> None:
    """UserError where two images of a document would have one id; it names them."""
    if run.options.image_ids == "key" and make_exporter(job).unique_ids:
        count, named = repeated_ids(job.files, units, NAMED_SHOWN)
        if count:
            names = ", ".join(named) + (", …" if count > NAMED_SHOWN else "")
            raise UserError(f"{count:,} image ids belong to several images: {names}; label with --image-ids plan")


def with_names(job: ExportJob, units: Sequence[Unit]) -> ExportJob:
    """The job, which knows the names that several images would have, where its format names files by keys."""
    exporter = make_exporter(job)
    return (
        replace(job, repeated=repeated_names(job.files, units, exporter.name_rules)) if exporter.named_by_key else job
    )


def follow(units: Sequence[Unit], job: ExportJob, address: str | None) -> Counter[str]:
    """Exports what is missing under a progress line; all counts. JobFailed with the reason where that is impossible."""
    left = unexported(units, job)
    with tqdm(total=len(left), unit=" units", disable=no_bar(), leave=False) as bar:
        try:
            for _ in exported(left, job, address):
                bar.update()
            return assemble(units, job)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("stopped; the same command again goes on from here") from None
        except ExportError as error:
            raise JobFailed(f"{error}; what is written is kept, the same command again goes on") from None


def exported(units: Sequence[Unit], job: ExportJob, address: str | None) -> Iterator[Counter[str]]:
    """Each unit's counts: by Ray tasks, or in this process where there are too few units for starting Ray to pay."""
    if len(units) <= FEW_UNITS and not address:
        yield from (export_unit(unit, job) for unit in units)
        return
    import ray  # a complete export, or a small one, needs none

    from scclip.jobs.cli.cluster import local_or_cluster
    from scclip.jobs.cli.waiting import watched_tasks

    with local_or_cluster("export", address) as cluster:
        cluster.start()
        try:
            samples = [job.files.unit_file("images", unit.number) for unit in units[:1]]
            samples += sample_urls(units) if job.pictures else []
            cluster.check_storage(job.output, samples)
            with watched_tasks("export") as silence:
                for counts in export_units(units, job):
                    silence.progress()
                    yield counts
        except ray.exceptions.RayError as error:
            raise ExportError(cause(error)) from error


def conclude(counts: Counter[str], job: ExportJob, file: TextIO) -> None:
    """Prints what was written."""
    splits = [f"{counts[f'{split} images']:,} {split}" for split in job.splits if counts[f"{split} images"]]
    shapes = [f", {counted(counts[f'{noun}s'], noun)}" for noun in ("segment", "polygon") if counts[f"{noun}s"]]
    say(f"{' + '.join(splits) or '0'} images{''.join(shapes)}: {job.output}", file)
    if counts["lost"]:
        warn(f"{counts['lost']:,} of the smallest segments had no id left; use --min-area")


def as_json(job: ExportJob) -> str:
    """A complete export as one JSON object: where it is, and its summary.json."""
    return json_line({"output": job.output, **json.loads(read_bytes(join(job.output, "summary.json")))})

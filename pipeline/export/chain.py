"""The export of a run: each unit by a Ray Data task, then the files that cover all units.

    for counts in export_units(unexported(units, job), job): ...     # one Counter per unit
    counts = assemble(units, job)                                    # merged files, summary.json

A task writes its unit's files, and last a marker, so that the same command again goes on where it stopped. No model,
no GPU, no PyTorch; memory holds one image of a unit at a time beside the unit's table of segments.
"""

import json
import pickle
from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import ray
import ray.data

from scclip.pipeline.annotations.numbering import FILE
from scclip.pipeline.cluster.ray_data import configure_ray_data
from scclip.pipeline.export.exporter import make_exporter
from scclip.pipeline.export.files import write_new
from scclip.pipeline.export.job import ExportJob
from scclip.pipeline.export.source import ExportError, ExportImage, unit_images
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.storage.files import join, list_files, read_bytes, remove
from scclip.pipeline.storage.threads import map_threads

EXPORT_CPUS = 0.5


def unexported(units: Sequence[Unit], job: ExportJob) -> list[Unit]:
    """The units that have no marker yet."""
    done = {file.url.rsplit("/", 1)[1] for file in list_files(job.work)}
    return [unit for unit in units if f"{unit.number:07d}.json" not in done]


def export_units(units: Sequence[Unit], job: ExportJob) -> Iterator[Counter[str]]:
    """Exports units by Ray tasks and yields the counts of each. Raises ExportError for a unit that fails."""
    configure_ray_data()
    shared = ray.put(job)

    def work(batch: pa.Table) -> pa.Table:
        unit, counts, error = pickle.loads(batch["unit"][0].as_py()), Counter[str](), ""
        try:
            counts = export_unit(unit, ray.get(shared))
        except Exception as failure:  # as a row: through Ray its reason would be lost in tracebacks
            reason = str(failure) if isinstance(failure, ExportError) else f"unit {unit.number}: {failure!r}"
            error = " ".join(reason.split()) or "unknown"
        return pa.table({"counts": [json.dumps(counts)], "error": [error]})

    rows = ray.data.from_items([{"unit": pickle.dumps(unit)} for unit in units], override_num_blocks=len(units))
    exported = rows.map_batches(work, batch_size=1, batch_format="pyarrow", num_cpus=EXPORT_CPUS)
    for batch in exported.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for counts, error in zip(*pa.table(batch).select(["counts", "error"]).to_pydict().values(), strict=True):
            if error:
                raise ExportError(error)
            yield Counter(json.loads(counts))


def export_unit(unit: Unit, job: ExportJob) -> Counter[str]:
    """Writes all that a unit adds to the export, its marker last; returns its counts."""
    counts, exporter = Counter[str](), make_exporter(job)

    def images() -> Iterator[ExportImage]:
        for image in unit_images(job, unit, exporter.name_rules):
            counts[f"{image.split} images"] += 1
            yield image

    counts.update(exporter.write(images(), unit.number))
    write_new(job.marker(unit.number), json.dumps(counts, sort_keys=True).encode())
    return counts


def assemble(units: Sequence[Unit], job: ExportJob) -> Counter[str]:
    """Writes the files that cover all units, then summary.json; removes the work files; returns all counts."""
    markers = map_threads(lambda unit: read_bytes(job.marker(unit.number)), units)
    counts = sum((Counter(json.loads(marker)) for marker in markers), Counter[str]())
    exporter = make_exporter(job)
    exporter.finish(units)
    write_new(join(job.output, FILE), json.dumps(exporter.numbering.to_json(), indent=1).encode())
    names = {str(number): name for number, name in exporter.numbering.meanings.items()}
    summary = {"format": job.format, "categories": names, "counts": dict(sorted(counts.items())), "units": len(units)}
    write_new(join(job.output, "summary.json"), json.dumps(summary, indent=1).encode())
    remove((file.url for file in list_files(job.work)), prune=True)
    return counts

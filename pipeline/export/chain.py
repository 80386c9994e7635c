"""The export of a run: units by Ray Data tasks, small ones together, then the files that cover all units.

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

from scclip.pipeline.annotations.numbering import FILE
from scclip.pipeline.export.exporter import make_exporter
from scclip.pipeline.export.files import write_new
from scclip.pipeline.export.job import ExportJob
from scclip.pipeline.export.source import ExportError, ExportImage, unit_images
from scclip.pipeline.inputs.chunks import from_row, to_row
from scclip.pipeline.inputs.groups import grouped
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
    import ray  # takes a second, and few units need none
    import ray.data

    from scclip.pipeline.cluster.ray_data import configure_ray_data

    configure_ray_data()
    shared, cpus = ray.put(job), ray.cluster_resources().get("CPU", 1)

    def work(batch: pa.Table) -> pa.Table:
        exported = list(outcomes(pickle.loads(batch["units"][0].as_py()), ray.get(shared)))
        return to_row(pa.table({"outcome": [json.dumps(outcome) for outcome in exported]}))

    rows = [{"units": pickle.dumps(group)} for group in grouped(units, int(cpus / EXPORT_CPUS))]
    exported = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        work, batch_size=1, batch_format="pyarrow", num_cpus=EXPORT_CPUS
    )
    for batch in exported.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for counts, error in map(json.loads, from_row(batch)["outcome"].to_pylist()):
            if error:
                raise ExportError(error)
            yield Counter(counts)


def outcomes(units: Sequence[Unit], job: ExportJob) -> Iterator[tuple[Counter[str], str]]:
    """Exports units up to the first that fails; yields the counts of each, and why it failed."""
    for unit in units:
        try:
            yield export_unit(unit, job), ""
        except Exception as failure:  # as a row: through Ray its reason would be lost in tracebacks
            reason = str(failure) if isinstance(failure, ExportError) else f"unit {unit.number}: {failure!r}"
            yield Counter(), " ".join(reason.split()) or "unknown"
            return


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

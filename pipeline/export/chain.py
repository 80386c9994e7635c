"""A run's labels in the form that trainers read: the export as one Ray Data chain.

    for counts in export_units(unexported(units, job), job): ...     # one Counter per unit, written by tasks
    summary = assemble(units, job)                # the merged JSON, streamed from the units' fragments

A unit's task writes its shards or its images' files, its fragments of the merged JSON, and last its marker, so that
the same command again goes on where it stopped. No model, no GPU, no PyTorch; memory holds one image of a unit at a
time beside the unit's table of segments.
"""

import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

from scclip.pipeline.annotations import coco
from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.cluster.ray_data import configure_ray_data
from scclip.pipeline.export.formats import coco as export_coco
from scclip.pipeline.export.formats import panoptic as export_panoptic
from scclip.pipeline.export.formats import shards as export_shards
from scclip.pipeline.export.formats import yolo as export_yolo
from scclip.pipeline.export.job import MERGED, WORK, ExportJob
from scclip.pipeline.export.source import Exported, ExportError, Source, unit_images
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.storage.files import create, exists, info, join, list_files, open_stream, read_bytes, remove
from scclip.pipeline.storage.streams import BLOCK, create_file, create_stream, scratch

FORMATS = ("coco", "coco-panoptic", "png", "yolo", "parquet")
SPLITS = ("train", "val")
EXPORT_CPUS = 0.5
ROW_GROUP = 64  # images of a Parquet row group: what a reader loads at once


def unexported(units: Sequence[Unit], job: ExportJob) -> list[Unit]:
    """The units that have no marker yet."""
    done = {file.url.rsplit("/", 1)[1] for file in list_files(join(job.output, WORK))}
    return [unit for unit in units if f"{unit.number:07d}.json" not in done]


def export_units(units: Sequence[Unit], job: ExportJob) -> Iterator[Counter[str]]:
    """Exports units by Ray tasks; yields each one's counts. ExportError for one that cannot be exported."""
    configure_ray_data()
    plan, shared = ray.put({unit.number: unit for unit in units}), ray.put(job)

    def work(batch: pa.Table) -> pa.Table:
        unit = ray.get(plan)[batch["unit"][0].as_py()]
        try:
            return pa.table({"counts": [json.dumps(export_unit(unit, ray.get(shared)))], "error": [""]})
        except Exception as error:  # as a row: through Ray its reason would be lost in tracebacks
            reason = str(error) if isinstance(error, ExportError) else f"unit {unit.number}: {error!r}"
            return pa.table({"counts": ["{}"], "error": [" ".join(reason.split()) or "unknown"]})

    numbers = ray.data.from_items([{"unit": unit.number} for unit in units], override_num_blocks=len(units))
    exported = numbers.map_batches(work, batch_size=1, batch_format="pyarrow", num_cpus=EXPORT_CPUS)
    for batch in exported.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in pa.table(batch).to_pylist():
            if row["error"]:
                raise ExportError(row["error"])
            yield Counter(json.loads(row["counts"]))


def export_unit(unit: Unit, job: ExportJob) -> Counter[str]:
    """Writes all that a unit adds to the export, its marker last; returns its counts."""
    images = unit_images(job.source, unit)
    writers: dict[str, Callable[[Iterator[Exported], int, ExportJob], Counter[str]]] = {
        "coco": write_fragments,
        "coco-panoptic": write_fragments,
        "yolo": write_yolo,
        "png": write_tars,
        "parquet": write_parquet,
    }
    counts = writers[job.format](images, unit.number, job)
    create(job.marker(unit.number), json.dumps(counts, sort_keys=True).encode())
    return counts


def write_fragments(images: Iterator[Exported], unit: int, job: ExportJob) -> Counter[str]:
    """COCO and panoptic: entries into fragments, pictures and panoptic PNGs into files of their own."""
    counts, files = Counter[str](), dict[tuple[str, str], IO[bytes]]()
    try:
        with ThreadPoolExecutor(8) as threads:
            for image in images:
                entry, annotations, lost, pictures = entries_of(image, job)
                list(threads.map(lambda item: create(*item), pictures.items()))
                for kind, pieces in (("images", [entry]), ("annotations", annotations)):
                    file = files.setdefault((image.split, kind), scratch())
                    data = export_coco.dump(pieces)
                    file.write(b"," + data if file.tell() and data else data)
                segments = annotations if job.format == "coco" else annotations[0]["segments_info"]
                counts += Counter({f"{image.split} images": 1, "segments": len(segments), "lost": lost})
        for (split, kind), file in files.items():
            create_file(job.fragment(unit, split, kind), file)
    finally:
        for file in files.values():
            file.close()
    return counts


def entries_of(image: Exported, job: ExportJob) -> tuple[dict[str, Any], list[dict[str, Any]], int, dict[str, bytes]]:
    """An image's entry, its annotations, segments lost, and the files to write beside, by URL."""
    pictures, name = picture_files(image, job)
    if job.format == "coco":
        entry, annotations, lost = export_coco.coco_entries(image, job.target, job.rules, job.form, name)
        return entry, annotations, lost, pictures
    entry, annotation, data = export_panoptic.panoptic_entries(image, job.target, job.rules, name)
    folder = job.merged(image.split).removesuffix(".json")
    return entry, [annotation], 0, pictures | {join(folder, annotation["file_name"]): data}


def picture_files(image: Exported, job: ExportJob) -> tuple[dict[str, bytes], str]:
    """The copied picture by URL, if pictures are copied, and the name that documents give the image."""
    if image.data is None:
        return {}, image.row["file_name"]
    name = f"{image.stem}.{image.extension}"
    return {join(job.output, "images", image.split, name): image.data}, name


def write_yolo(images: Iterator[Exported], unit: int, job: ExportJob) -> Counter[str]:
    """One text file per image, and its picture."""
    counts = Counter[str]()
    with ThreadPoolExecutor(8) as threads:
        for image in images:
            text, lines = export_yolo.yolo_lines(image, job.target, job.rules)
            files = picture_files(image, job)[0]
            files[join(job.output, "labels", image.split, f"{image.stem}.txt")] = text.encode()
            list(threads.map(lambda item: create(*item), files.items()))
            counts += Counter({f"{image.split} images": 1, "segments": lines})
    return counts


def write_tars(images: Iterator[Exported], unit: int, job: ExportJob) -> Counter[str]:
    """One WebDataset tar per split."""
    counts, files, tars = Counter[str](), dict[str, IO[bytes]](), dict[str, tarfile.TarFile]()
    try:
        for image in images:
            if image.split not in tars:
                files[image.split] = scratch()
                tars[image.split] = tarfile.open(  # noqa: SIM115 - closed below, one per split
                    fileobj=files[image.split], mode="w", format=tarfile.PAX_FORMAT
                )
            export_shards.add_sample(tars[image.split], image, job.target, job.rules)
            counts[f"{image.split} images"] += 1
        for split, tar in tars.items():
            tar.close()
            create_file(job.shard(unit, split), files[split])
    finally:
        for file in files.values():
            file.close()
    return counts


def write_parquet(images: Iterator[Exported], unit: int, job: ExportJob) -> Counter[str]:
    """One Parquet file per split."""
    counts, waiting = Counter[str](), dict[str, list[Exported]]()
    files, writers = dict[str, IO[bytes]](), dict[str, pq.ParquetWriter]()
    schema = export_shards.parquet_schema(job.target, job.source.pictures)

    def flush(split: str) -> None:
        if split not in writers:
            files[split] = scratch()
            writers[split] = pq.ParquetWriter(files[split], schema, compression="zstd")
        writers[split].write_table(export_shards.parquet_table(waiting.pop(split), job.target, job.rules, schema))

    try:
        for image in images:
            counts[f"{image.split} images"] += 1
            waiting.setdefault(image.split, []).append(image)
            if len(waiting[image.split]) == ROW_GROUP:
                flush(image.split)
        for split in list(waiting):
            flush(split)
        for split, writer in writers.items():
            writer.close()
            create_file(job.shard(unit, split), files[split])
    finally:
        for file in files.values():
            file.close()
    return counts


def assemble(units: Sequence[Unit], job: ExportJob) -> Counter[str]:
    """Writes the merged JSON from the units' fragments, then summary.json; removes the work files; the sums."""
    with ThreadPoolExecutor(16) as threads:
        markers = threads.map(lambda unit: read_bytes(job.marker(unit.number)), units)
        counts = sum((Counter(json.loads(marker)) for marker in markers), Counter())
    splits = [split for split in SPLITS if split == "train" or job.source.val > 0]
    if job.format in MERGED:
        for split in splits:
            create_stream(job.merged(split), partial(merged_document, units, job, split))
    if job.format == "yolo":
        create(join(job.output, "data.yaml"), export_yolo.data_yaml(job.target, "val" in splits))
    names = {str(category): name for category, name in sorted(job.target.categories.items())}
    summary = {"format": job.format, "categories": names, "counts": dict(sorted(counts.items())), "units": len(units)}
    create(join(job.output, "summary.json"), json.dumps(summary, indent=1).encode())
    remove((file.url for file in list_files(join(job.output, WORK))), prune=True)
    return counts


def merged_document(units: Sequence[Unit], job: ExportJob, split: str) -> Iterator[bytes]:
    """The merged JSON of a split, fragment by fragment."""
    panoptic = job.format == "coco-panoptic"
    categories = export_panoptic.panoptic_categories(job.target) if panoptic else coco.categories(job.target.categories)
    head = {"info": job.info, "licenses": [], "categories": categories}
    lists = {kind: partial(fragments, units, job, split, kind) for kind in ("images", "annotations")}
    return export_coco.merged(head, lists)


def fragments(units: Sequence[Unit], job: ExportJob, split: str, kind: str) -> Iterator[bytes]:
    """The units' fragments in order, each read in one piece: at most a unit's annotations."""
    for unit in units:
        url = job.fragment(unit.number, split, kind)
        if exists(url):
            size = info(url).size
            with open_stream(url, size=size) as stream:
                yield stream.read(size) if size <= BLOCK else stream.read()


def repeated(source: Source, units: Sequence[Unit], column: str) -> list[str]:
    """Values of a column of images/ that several labeled images share: "KEY (units 1 and 3)", the first few.

    Eight bytes an image stay in memory: hashes, whose equal ones are looked up again.
    """
    import numpy as np

    def hashes(unit: Unit) -> np.ndarray:
        return np.array([hash(value) for value in unit_values(source, unit, column)], np.int64)

    with ThreadPoolExecutor(8) as threads:
        values, counts = np.unique(
            np.concatenate([np.empty(0, np.int64), *threads.map(hashes, units)]), return_counts=True
        )
    twice = set(values[counts > 1].tolist())
    places: dict[Any, list[int]] = {}
    for unit in units if twice else ():
        for value in unit_values(source, unit, column):
            if hash(value) in twice:
                places.setdefault(value, []).append(unit.number)
    several = {value: found for value, found in places.items() if len(found) > 1}
    return [f"{value} (units {' and '.join(map(str, found[:3]))})" for value, found in several.items()]


def unit_values(source: Source, unit: Unit, column: str) -> list[Any]:
    """A column of a unit's labeled images."""
    url = source.files.unit_file("images", unit.number)
    table = pq.read_table(
        pa.BufferReader(read_bytes(url)), columns=[column, "status"], filters=[("status", "==", Status.OK)]
    )
    return list(table[column].to_pylist())

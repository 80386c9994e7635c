"""COCO's JSON of a whole export: every unit writes a fragment of each list, and the end joins them as a stream.

counts = write_fragments(job, unit, (entries(image) for image in images))
write_documents(job, units, "instances", categories)     # annotations/instances_train.json, instances_val.json
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

from scclip.pipeline.annotations import coco
from scclip.pipeline.export.files import scratch_writers, write_files
from scclip.pipeline.export.job import ExportJob
from scclip.pipeline.export.source import LabeledImage
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.storage.files import exists, info, open_stream
from scclip.pipeline.storage.streams import BLOCK, create_stream

LISTS = ("images", "annotations")

JsonObject = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class ImageEntries:
    """What one image adds to the document of its split."""

    split: str
    """train or val."""
    image: JsonObject
    """Its entry in the list `images`."""
    annotations: Sequence[JsonObject]
    """Its entries in the list `annotations`."""
    segments: int
    """Segments in these annotations."""
    lost: int = 0
    """Segments that the ids have no room for."""
    files: Mapping[str, bytes]
    """Files to write beside the document: URL → content."""


def image_entry(image: LabeledImage) -> JsonObject:
    """COCO's image; `file_name` is that of the copied picture where pictures are copied."""
    return {"id": image.image_id, "file_name": image.picture_name, "height": image.height, "width": image.width}


def write_fragments(job: ExportJob, unit: int, entries: Iterable[ImageEntries]) -> Counter[str]:
    """Writes a unit's fragments of both lists, one pair per split, and the files beside; returns the counts."""
    counts = Counter[str]()
    with scratch_writers(partial(job.fragment, unit), nullcontext) as fragment:
        for entry in entries:
            write_files(entry.files)
            for name, objects in zip(LISTS, ([entry.image], entry.annotations), strict=True):
                file, data = fragment(f"{entry.split}.{name}"), b",".join(map(coco.dump, objects))
                file.write(b"," + data if file.tell() and data else data)
            counts.update(segments=entry.segments, lost=entry.lost)
    return counts


def write_documents(job: ExportJob, units: Sequence[Unit], name: str, categories: Sequence[JsonObject]) -> None:
    """Writes annotations/NAME_SPLIT.json of each split from the fragments of all units."""
    head = {"info": job.info, "licenses": [], "categories": categories}
    for split in job.splits:
        create_stream(job.document(name, split), partial(joined, head, job, units, split))


def joined(head: JsonObject, job: ExportJob, units: Sequence[Unit], split: str) -> Iterator[bytes]:
    """The document of a split: `head`, then the lists fragment by fragment; at most one fragment is in memory."""
    yield json.dumps(head, separators=(",", ":"), ensure_ascii=True)[:-1].encode()
    for name in LISTS:
        yield f',"{name}":['.encode()
        between = b""
        for fragment in (read_fragment(job.fragment(unit.number, f"{split}.{name}")) for unit in units):
            if fragment:
                yield between + fragment
                between = b","
        yield b"]"
    yield b"}"


def read_fragment(url: str) -> bytes:
    """The content of a fragment; empty where a unit has none because it has no image in this split."""
    if not exists(url):
        return b""
    size = info(url).size
    with open_stream(url, size=size) as stream:
        return stream.read(size) if size <= BLOCK else stream.read()

"""COCO's JSON of a whole export: every unit writes a fragment of each list, and the end joins them as a stream.

class CocoExporter(DocumentExporter): ...     # annotations/instances_train.json, annotations/instances_val.json
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial

from scclip.pipeline.annotations import coco
from scclip.pipeline.annotations.numbering import Numbering
from scclip.pipeline.export.exporter import Exporter
from scclip.pipeline.export.files import file_writer, read_fragment, scratch_writers, write_stream
from scclip.pipeline.export.source import ExportImage
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.storage.files import join

LISTS = ("images", "annotations")

JsonObject = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class ImageEntries:
    """What one image adds to the document of its split, beside its entry in the list `images`."""

    annotations: Sequence[JsonObject]
    """Its entries in the list `annotations`."""
    segments: int
    """Segments in these annotations."""
    lost: int = 0
    """Segments that the ids have no room for."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """URL → content of what is written beside the document."""


class DocumentExporter(Exporter):
    """Writes one COCO document per split; a format says what each image adds to it."""

    name: str
    """What the file names of the documents begin with."""
    unique_ids = True

    @abstractmethod
    def entries(self, image: ExportImage) -> ImageEntries:
        """What an image adds."""

    @cached_property
    def numbering(self) -> Numbering:
        """The ids of the documents' categories, which are classes alone."""
        return Numbering.of_classes(self.job.target.categories, self.job.base)

    def categories(self) -> list[JsonObject]:
        """The list `categories` of the documents."""
        entries = coco.categories(self.job.target.categories)
        return [{**entry, "id": self.numbering.first + index} for index, entry in enumerate(entries)]

    def document(self, split: str) -> str:
        """The document of a split, without its ending .json."""
        return join(self.job.output, "annotations", f"{self.name}_{split}")

    def write(self, images: Iterator[ExportImage], unit: int) -> Counter[str]:
        """Writes a unit's fragments of both lists, one pair per split, and the files beside."""
        counts = Counter[str]()
        fragments = scratch_writers(partial(self.job.fragment, unit), nullcontext)
        with fragments as fragment, file_writer(self) as write_files:
            for image in images:
                entries = self.entries(image)
                write_files(image, entries.files)
                entry = coco.image_entry(image) | {"file_name": image.picture_name}
                for name, objects in zip(LISTS, ([entry], entries.annotations), strict=True):
                    file, data = fragment(f"{image.split}.{name}"), b",".join(map(coco.dump, objects))
                    file.write(b"," + data if file.tell() and data else data)
                counts.update(segments=entries.segments, lost=entries.lost)
        return counts

    def finish(self, units: Sequence[Unit]) -> None:
        """Joins the fragments of all units."""
        for split in self.job.splits:
            write_stream(f"{self.document(split)}.json", partial(self.joined, units, split))

    def joined(self, units: Sequence[Unit], split: str) -> Iterator[bytes]:
        """The document of a split, fragment by fragment; at most one of them is in memory."""
        head = {"info": self.job.info, "licenses": [], "categories": self.categories()}
        yield coco.dump(head)[:-1]
        for name in LISTS:
            yield f',"{name}":['.encode()
            between = b""
            fragments = (read_fragment(self.job.fragment(unit.number, f"{split}.{name}")) for unit in units)
            for fragment in filter(None, fragments):
                yield between + fragment
                between = b","
            yield b"]"
        yield b"}"

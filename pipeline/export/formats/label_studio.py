"""Label Studio: tasks with predictions to start from, and the labeling interface that they belong to.

    label_config.xml, tasks/train-0000001.json, images/train/KEY.jpg

A segment is a brush region with its score. Pictures are found through LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=OUTPUT
where OUTPUT is a folder, by their URL where it is a bucket, by their name in the run where they are not copied.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from scclip.pipeline.annotations import coco
from scclip.pipeline.annotations.brush import brush
from scclip.pipeline.annotations.palette import css_colour
from scclip.pipeline.export.exporter import Exporter
from scclip.pipeline.export.files import file_writer, scratch_writers, write_new
from scclip.pipeline.export.formats.coco import score
from scclip.pipeline.export.job import ExportJob
from scclip.pipeline.export.names import NameRules
from scclip.pipeline.export.source import ExportImage
from scclip.pipeline.export.transform import instances
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.storage.files import join

CONTROL, PICTURE = "label", "image"  # names of the interface's brush and of its picture
EXTENSIONS = frozenset(["avif", "bmp", "gif", "jpeg", "jpg", "png", "webp"])  # that browsers show


class LabelStudioExporter(Exporter):
    """Writes tasks."""

    name_rules = NameRules(extensions=EXTENSIONS)

    def __init__(self, job: ExportJob) -> None:
        super().__init__(job)
        self.named_by_key = job.pictures  # nothing else is named by keys

    def write(self, images: Iterator[ExportImage], unit: int) -> Counter[str]:
        counts, folder = Counter[str](), join(self.job.output, "tasks")
        tasks = scratch_writers(lambda split: join(folder, f"{split}-{unit:07d}.json"), json_list)
        with file_writer(self) as write_files, tasks as writer:
            for image in images:
                write_files(image, {})
                regions = list(self.regions(image))
                writer(image.split).append(self.task(image, regions))
                counts["segments"] += len(regions)
        return counts

    def finish(self, units: Sequence[Unit]) -> None:
        categories = self.job.target.categories
        labels = (
            f'    <Label value={quoteattr(categories[category])} background="{css_colour(category)}"/>\n'
            for category in categories.classes
        )
        picture = f'  <Image name="{PICTURE}" value="${PICTURE}" zoom="true"/>\n'
        brush_tag = f'  <BrushLabels name="{CONTROL}" toName="{PICTURE}">\n{"".join(labels)}  </BrushLabels>\n'
        write_new(join(self.job.output, "label_config.xml"), f"<View>\n{picture}{brush_tag}</View>\n".encode())

    def task(self, image: ExportImage, regions: Sequence[coco.Entry]) -> coco.Entry:
        """The task of an image, with all regions as one prediction."""
        prediction: dict[str, object] = {"model_version": str(self.job.info.get("description", "")), "result": regions}
        if image.mean_confidence is not None:
            prediction["score"] = image.mean_confidence
        return {"data": {PICTURE: self.picture_link(image), "key": image.key}, "predictions": [prediction]}

    def picture_link(self, image: ExportImage) -> str:
        """What Label Studio opens."""
        url = image.file_name if image.data is None else self.picture_url(image)
        if image.data is None or "://" in url:
            return url
        return f"/data/local-files/?d={quote(f'images/{image.split}/{image.picture_name}')}"

    def regions(self, image: ExportImage) -> Iterator[coco.Entry]:
        """The segments of an image."""
        job, (height, width) = self.job, image.shape
        segments = instances(image.labels(job), job.target, job.rules.components)
        for number, instance in enumerate(segments, start=1):
            yield {
                "id": f"s{number}",
                "type": "brushlabels",
                "from_name": CONTROL,
                "to_name": PICTURE,
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "score": score(image, instance, job.target),
                "value": {
                    "format": "rle",
                    "rle": brush(instance.whole(image.shape)),
                    "brushlabels": [job.target.categories[instance.category]],
                },
            }


class JsonList:
    """A JSON list in a file, written entry by entry."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.before = b"["

    def append(self, entry: coco.Entry) -> None:
        """Writes one more entry."""
        self.file.write(self.before + coco.dump(entry))
        self.before = b","


@contextmanager
def json_list(file: IO[bytes]) -> Iterator[JsonList]:
    """A new list; it ends with the block."""
    entries = JsonList(file)
    yield entries
    file.write(b"]" if entries.before == b"," else b"[]")

"""Parquet in Hugging Face's layout: one file per unit and split, with label PNGs, statistics and pictures as columns.

    data/train-0000001.parquet     # datasets.load_dataset(OUTPUT) reads it

What the numbers in a label PNG mean is in the metadata, key `categories`, and in categories.json; 255 (65535 in 16
bits) is ignored.
"""

import functools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from scclip.pipeline.annotations.numbering import KEY
from scclip.pipeline.annotations.png import png
from scclip.pipeline.annotations.schemas import IMAGES_SCHEMA
from scclip.pipeline.export.exporter import Exporter
from scclip.pipeline.export.files import scratch_writers
from scclip.pipeline.export.source import ExportImage
from scclip.pipeline.storage.files import join

ROW_GROUP = 64  # images of a row group: what a reader loads at once
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as datasets.Image stores it
COLUMNS = ("image_id", "key", "width", "height", "coverage", "mean_confidence")  # of images/
FEATURE_NAMES = {"double": "float64"}  # where `datasets` names a type otherwise than Arrow

Row = dict[str, object]


class ParquetExporter(Exporter):
    """Writes Parquet files."""

    named_by_key = True

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The columns; the metadata holds the features that `datasets.load_dataset` reads and the classes' names."""
        pictures = [*(["image"] if self.job.pictures else []), "label"]
        features: dict[str, object] = {name: {"_type": "Image"} for name in pictures}
        fields = [IMAGES_SCHEMA.field(name).with_nullable(True) for name in COLUMNS]
        for field in fields:
            features[field.name] = {"dtype": FEATURE_NAMES.get(str(field.type), str(field.type)), "_type": "Value"}
        metadata = {b"huggingface": json.dumps({"info": {"features": features}})}
        metadata[KEY] = json.dumps(self.numbering.to_json())
        return pa.schema([*(pa.field(name, IMAGE) for name in pictures), *fields], metadata=metadata)

    def write(self, images: Iterator[ExportImage], unit: int) -> Counter[str]:
        waiting = defaultdict[str, list[Row]](list)
        folder = join(self.job.output, "data")
        with scratch_writers(lambda split: join(folder, f"{split}-{unit:07d}.parquet"), self.open) as writer:
            for image in images:
                waiting[image.split].append(self.row(image))
                if len(waiting[image.split]) == ROW_GROUP:
                    writer(image.split).write_table(pa.Table.from_pylist(waiting.pop(image.split), self.schema))
            for split, rows in waiting.items():
                writer(split).write_table(pa.Table.from_pylist(rows, self.schema))
        return Counter()

    def open(self, file: IO[bytes]) -> AbstractContextManager[pq.ParquetWriter]:
        """A new Parquet file in an open file."""
        return pq.ParquetWriter(file, self.schema, compression="zstd")

    def row(self, image: ExportImage) -> Row:
        """The values of an image."""
        label = {"bytes": png(self.numbering.numbers(image.labels(self.job))), "path": f"{image.name}.png"}
        picture = {"image": {"bytes": image.data, "path": image.picture_name}} if image.data is not None else {}
        return {name: getattr(image, name) for name in COLUMNS} | {"label": label} | picture

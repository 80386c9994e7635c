"""Label shards of an export: WebDataset tars (`png`) and Parquet in Hugging Face's layout (`parquet`).

    add_sample(tar, image, target, rules)          # KEY.jpg, KEY.seg.png, KEY.json
    table = parquet_table(images, target, rules)    # columns image, label and statistics

One shard per unit and split, images in the input's order. The label PNG holds category indices, 255 (65535) ignored.
"""

import json
import tarfile
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from scclip.pipeline.annotations.png import png
from scclip.pipeline.export.source import Exported, metadata
from scclip.pipeline.export.transform import Rules, Target
from scclip.pipeline.inputs.readers.tar import add_file

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as datasets.Image stores it
COLUMNS: dict[str, tuple[pa.DataType, str]] = {
    "image_id": (pa.int64(), "int64"),
    "key": (pa.string(), "string"),
    "width": (pa.int32(), "int32"),
    "height": (pa.int32(), "int32"),
    "coverage": (pa.float64(), "float64"),
    "mean_confidence": (pa.float64(), "float64"),
}


def add_sample(tar: tarfile.TarFile, image: Exported, target: Target, rules: Rules) -> None:
    """The members of one image; keys are taken literally."""
    files = {"seg.png": png(image.labels(target, rules))}
    if image.data is not None:
        files = {image.extension: image.data, **files, "json": metadata(image.row)}
    for suffix, data in files.items():
        add_file(tar, f"{image.row['key']}.{suffix}", data)


def parquet_schema(target: Target, pictures: bool) -> pa.Schema:
    """Columns with the features that `datasets.load_dataset` reads from the metadata."""
    kinds = [*(["image"] if pictures else []), "label"]
    fields = [*((name, IMAGE) for name in kinds), *((name, kind) for name, (kind, _) in COLUMNS.items())]
    features: dict[str, Any] = {name: {"_type": "Image"} for name in kinds}
    features |= {name: {"dtype": text, "_type": "Value"} for name, (_, text) in COLUMNS.items()}
    names = json.dumps({str(category): name for category, name in sorted(target.categories.items())})
    described = {"huggingface": json.dumps({"info": {"features": features}}), "categories": names}
    return pa.schema(fields, metadata=described)


def parquet_table(images: Sequence[Exported], target: Target, rules: Rules, schema: pa.Schema) -> pa.Table:
    """Rows of some images."""
    rows = []
    for image in images:
        row: dict[str, Any] = {name: image.row[name] for name in COLUMNS}
        row["label"] = {"bytes": png(image.labels(target, rules)), "path": f"{image.stem}.png"}
        if image.data is not None:
            row["image"] = {"bytes": image.data, "path": f"{image.stem}.{image.extension}"}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=schema)

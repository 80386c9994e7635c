"""Writes docs/outputs.md from the code: `python docs/make_outputs.py`. A test compares the page with the code."""

from pathlib import Path
from typing import get_type_hints

import pyarrow as pa

from scclip.pipeline.annotations.schemas import ImageRecord, SegmentRecord, Status, schema_of
from scclip.pipeline.evaluation.scoring import SCORED_SCHEMA, ScoredImage
from scclip.pipeline.run.totals import Summary

PAGE = Path(__file__).with_name("outputs.md")

HEAD = """# Outputs

*This page is made from the code: `python docs/make_outputs.py`.*

`scclip label INPUT … OUTPUT` writes one set of files per unit of input (a shard, a range of a Parquet file's rows, or a group of up
to 256 image files), named after the unit's number: `images/0000001.parquet`, `segments/0000001.parquet`, `coco/0000001.json`, and
with `--masks png` or `--save-confidence` `masks/0000001.tar`.

| file | holds |
| --- | --- |
| `run.json` | everything that changes labels, ids or chunk limits, and the versions of the libraries |
| `asked.json` | digest of the command that `run.json` was made by: a finished run is recognised without PyTorch |
| `_waiting.json` | what a job waits for, while it waits |
| `plan/gen-0001.parquet` | the units: URL, size, version, rows or files; a later start of the command adds `gen-0002`, … |
| `images/*.parquet` | one row for each image that was read, failed ones too; the file's existence means that the unit is done |
| `segments/*.parquet` | one row for each image and category |
| `coco/*.json` | the same segments as a COCO document that `pycocotools.coco.COCO` loads |
| `masks/*.tar` | `NAME.seg.png` (labels), `NAME.argmax.png` (class before thresholds), `NAME.conf.png` (its confidence, 255 = 1); \
NAME is the key with `_` for the dots of its last part, and with `~INDEX` where two images of a unit would have one name |
| `text_features.npy` | features of the vocabulary's queries, float32, one row a query |
| `summary.json` | totals of the run; rates are those of the last start of the command; `passed_over`: kind of file that is no input → count and an example |
| `report.html` | written by `scclip report` |

Categories: 1…N are the classes in the vocabulary's order, 0 is the background where there is one, 255 is ignored (65535 where
there are more than 254 classes). The metadata of `images/*.parquet` holds the SHA-256 of the unit's other files (`sha256`) and the
unit's totals (`totals`), both as JSON.
"""


def table(record: type, schema: pa.Schema) -> str:
    """The columns of a schema as a table, described by the fields of the record that they belong to."""
    hints = get_type_hints(record, include_extras=True)
    lines = ["| column | type | null | holds |", "| --- | --- | --- | --- |"]
    for field in schema:
        kind = "struct<size: list<int32>, counts: string>" if pa.types.is_struct(field.type) else str(field.type)
        kind = (
            kind.replace("list<item: ", "list<")
            .replace("list<element: ", "list<")
            .replace("fixed_size_list<item: ", "list<")
        )
        text = hints[field.name].__metadata__[1]
        lines.append(f"| `{field.name}` | {kind} | {'yes' if field.nullable else ''} | {text} |")
    return "\n".join(lines)


def statuses() -> str:
    """Every status with its sentence."""
    rows = [f"| `{status}` | {status.sentence} |" for status in Status]
    return "\n".join(["| status | means |", "| --- | --- |", *rows])


def page() -> str:
    """The whole page."""
    sections = [
        HEAD,
        "## `images/*.parquet`\n\n" + table(ImageRecord, schema_of(ImageRecord)),
        "## `segments/*.parquet`\n\n" + table(SegmentRecord, schema_of(SegmentRecord)),
        "## Statuses\n\n" + statuses(),
        "## `images/*.parquet` of an evaluation\n\n" + table(ScoredImage, SCORED_SCHEMA),
        "## `summary.json`\n\nKeys: " + ", ".join(f"`{name}`" for name in Summary.__annotations__) + ".",
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

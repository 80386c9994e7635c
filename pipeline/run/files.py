"""Names, reads and lists the files of a run.

files = RunFiles("s3://bucket/labels"); images = files.table("images", unit=1, columns=["key", "status"])
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scclip.pipeline.annotations.schemas import SEGMENTS_SCHEMA, SegmentRecord, records_of
from scclip.pipeline.storage.files import join, list_files, read_bytes

DIGESTS_KEY, TOTALS_KEY = b"sha256", b"totals"  # Parquet metadata of images/: the unit's other files, its sums

SMALL = 2**20  # bytes: with fewer, threads and compression take longer than they save

Metadata = Mapping[bytes, bytes]


@dataclass(frozen=True)
class RunFiles:
    """The names of a run's files, and what lies there."""

    output: str

    def part(self, unit: int, chunk: int) -> str:
        return join(self.output, "_parts", f"{unit:07d}", f"{chunk:05d}.parquet")

    def unit_file(self, kind: str, unit: int) -> str:
        """Returns the URL of a unit's file of `kind`: images, segments, coco or masks."""
        suffix = {"images": "parquet", "segments": "parquet", "coco": "json", "masks": "tar"}[kind]
        return join(self.output, kind, f"{unit:07d}.{suffix}")

    def table(self, kind: str, unit: int, columns: Sequence[str] | None = None, filters: Any = None) -> pa.Table:
        """Reads a unit's images or segments: these columns (default: all) of the rows that pass pyarrow's `filters`."""
        return read_table(self.unit_file(kind, unit), columns, filters)

    def finished(self) -> set[int]:
        """Lists the units whose images/ file exists."""
        stems = (file.url.rsplit("/", 1)[1].split(".")[0] for file in list_files(join(self.output, "images")))
        return {int(stem) for stem in stems if stem.isdigit()}

    def parts(self) -> dict[int, set[int]]:
        """Lists the chunks that have a part, by unit."""
        parts: dict[int, set[int]] = defaultdict(set)
        for file in list_files(join(self.output, "_parts")):
            folder, name = file.url.rsplit("/", 2)[1:]
            if name.endswith(".parquet") and folder.isdigit():
                parts[int(folder)].add(int(name.removesuffix(".parquet")))
        return dict(parts)


def read_table(url: str, columns: Sequence[str] | None = None, filters: Any = None) -> pa.Table:
    """Reads Parquet from any fsspec URL: these columns (default: all) of the rows that pass pyarrow's `filters`."""
    data = read_bytes(url)
    source = pa.BufferReader(data)
    if columns is None and filters is None:  # a dataset of one file is slower
        return pq.ParquetFile(source).read(use_threads=len(data) > SMALL)
    return pq.read_table(source, columns=None if columns is None else list(columns), filters=filters)


def parquet_bytes(table: pa.Table, metadata: Metadata, compression: str = "zstd") -> bytes:
    """Returns a table as Parquet with these keys in its metadata; equal bytes for equal content."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(dict(metadata)), sink, compression=compression)
    return sink.getvalue().to_pybytes()


def segments_by_image(
    files: RunFiles, unit: int, image_ids: Iterable[int] | None = None
) -> defaultdict[int | None, list[SegmentRecord]]:
    """Reads a finished unit's segments of these images (default: of all), by image id."""
    wanted = None if image_ids is None else [("image_id", "in", list(image_ids))]
    segments = defaultdict[int | None, list[SegmentRecord]](list)
    for segment in records_of(files.table("segments", unit, SEGMENTS_SCHEMA.names, wanted), SegmentRecord):
        segments[segment.image_id].append(segment)
    return segments

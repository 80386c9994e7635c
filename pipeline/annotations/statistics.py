"""Records of labeled images and of their segments, and the tables that hold them.

Every figure is a quotient of integer sums (`LabelStatistics`), divided once: it does not depend on the machine.

Use: `images, segments = split_part(part_table([labeled_record(image, summary), failed_record(...), ...]))`
"""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from scclip.categories import BACKGROUND, ignore_value
from scclip.pipeline.annotations import rle, schemas
from scclip.pipeline.annotations.schemas import SEGMENTS_SCHEMA, ImageRecord, PartImage, SegmentRecord, Status
from scclip.segmentation.statistics import LEVELS, SegmentationSummary


def labeled_record(image: ImageRecord, summary: SegmentationSummary, **masks: bytes) -> PartImage:
    """The record of a labeled image: what is known of it, its statistics, its segments and these PNGs of masks.

    Raises ValueError where the image has no id or another size than its labels.
    """
    labels, statistics = summary.labels, summary.statistics
    if image.image_id is None or image.shape != labels.shape:
        raise ValueError(
            f"{image.key}: image id {image.image_id}, size {image.height} × {image.width}, labels "
            f"{labels.shape}: a labeled image needs an id and labels of its own size"
        )
    area = dict(zip(statistics.labels.tolist(), statistics.area.tolist(), strict=True))
    background, ignored = area.get(BACKGROUND, 0), area.get(ignore_value(labels.dtype), 0)
    segments = _segment_records(image.image_id, summary)
    return PartImage.of(
        image,
        status=Status.OK,
        categories=[segment.category_id for segment in segments],
        coverage=(labels.size - background - ignored) / labels.size,
        background_fraction=background / labels.size,
        ignored_fraction=ignored / labels.size,
        mean_confidence=int(statistics.confidence.sum()) / labels.size / (LEVELS - 1),
        entropy=float(summary.entropy),
        anomaly_tokens=int(summary.anomaly_tokens),
        windows=int(summary.windows),
        segments=segments,
        **masks,
    )


def failed_record(image: ImageRecord, status: str, error: str | None) -> PartImage:
    """The record of an image that has no labels: nothing in it is measured. Raises ValueError for the status "ok"."""
    if status == Status.OK:
        raise ValueError(f'{image.key}: status "{Status.OK}" is for labeled images: name what failed')
    return PartImage.of(image, **dict.fromkeys(schemas.MEASURED), status=status, error=error, segments=[])


def part_table(images: Iterable[PartImage]) -> pa.Table:
    """Records of `labeled_record` and `failed_record` as a table of PART_SCHEMA."""
    rows = [vars(image) | {"segments": list(map(vars, image.segments))} for image in images]
    return pa.Table.from_pylist(rows, schema=schemas.PART_SCHEMA)


def split_part(part: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The images (IMAGES_SCHEMA) and the segments (SEGMENTS_SCHEMA) of a table of PART_SCHEMA, in its order."""
    chunks = [pc.list_flatten(chunk) for chunk in part["segments"].chunks]
    segments = [pa.Table.from_arrays(chunk.flatten(), schema=SEGMENTS_SCHEMA) for chunk in chunks]
    return part.select(schemas.IMAGES_SCHEMA.names), pa.concat_tables([SEGMENTS_SCHEMA.empty_table(), *segments])


def _segment_records(image_id: int, summary: SegmentationSummary) -> list[SegmentRecord]:
    """One record for each category in the map but background and ignore."""
    columns = (column.tolist() for column in summary.statistics)
    sums = {label: values for label, *values in zip(*columns, strict=True)}
    records = []
    for category, segment in rle.encode_label_map(summary.labels).items():
        area, confidence, lowest, margin, runner_up = sums[category]
        record = SegmentRecord(
            **vars(segment),
            image_id=image_id,
            category_id=category,
            area_fraction=area / summary.labels.size,
            mean_confidence=confidence / area / (LEVELS - 1),
            p10_confidence=lowest / (LEVELS - 1),
            margin=margin / area / (LEVELS - 1),
            runner_up=None if runner_up < 0 else runner_up,
        )
        records.append(record)
    return records

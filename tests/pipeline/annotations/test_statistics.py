"""statistics.py against loops over classes and pixels, and its tables through Parquet and back."""

import io
import json
import pickle
from collections import Counter
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as pycocotools_mask

from scclip.pipeline.annotations import schemas, statistics
from scclip.pipeline.run import totals as run_totals
from scclip.segmentation import statistics as label_sums
from scclip.segmentation.statistics import LabelStatistics, SegmentationSummary
from scclip.segmentation.types import Segmentation


def segmentation(height: int, width: int, values: tuple[int, ...], dtype: type = np.uint8, seed: int = 0):
    """Blocks of labels with unrelated confidences, margins and runner-ups."""
    rng = np.random.default_rng(seed)
    ignore = np.iinfo(dtype).max
    blocks = rng.choice(np.array(values, dtype), (height // 8 + 1, width // 8 + 1))
    labels = np.repeat(np.repeat(blocks, 8, axis=0), 8, axis=1)[:height, :width]
    labels = np.where(rng.random(labels.shape) < 0.1, rng.choice(np.array(values, dtype), labels.shape), labels)
    rivals = rng.choice(np.array([*values, ignore], dtype), labels.shape)
    confidence, margin = rng.integers(0, 256, (2, height, width)).astype(np.uint8)
    return segmented(labels, confidence, rivals, margin)


def segmented(labels: np.ndarray, confidence: np.ndarray, runner_up: np.ndarray, margin: np.ndarray) -> Segmentation:
    return Segmentation(labels, labels, confidence, runner_up, margin, entropy=0.25, anomaly_tokens=3, windows=6)


def identity(of: Segmentation | None = None, *, unit: int = 1, index: int = 0, **columns):
    height, width = of.labels.shape if of else (None, None)
    given = {
        "image_id": unit * 2**20 + index,
        "key": f"k{index}",
        "file_name": f"k{index}.jpg",
        "width": width,
        "height": height,
    }
    return schemas.ImageRecord(unit=unit, index=index, **{**given, **columns})


def record(image: schemas.ImageRecord, case: Segmentation, **masks: bytes) -> schemas.PartImage:
    """Through the bytes in which statistics travel."""
    summary = SegmentationSummary.of(case)
    travelled = LabelStatistics.from_bytes(summary.statistics.to_bytes())
    return statistics.labeled_record(image, summary._replace(statistics=travelled), **masks)


CASES = {
    "uint8": segmentation(50, 70, (0, 1, 2, 9, 254, 255)),
    "uint16": segmentation(40, 33, (0, 1, 255, 256, 4095, 65535), np.uint16),
    "more pixels than a block": segmentation(301, 300, tuple(range(1, 30))),
    "more bins than pixels": segmentation(20, 20, tuple(range(0, 4095, 13)), np.uint16),
    "one pixel": segmentation(1, 1, (3,)),
    "no segment": segmentation(9, 7, (0, 255)),
}


@pytest.mark.parametrize("name", CASES)
def test_rows_equal_loops_over_classes(name):
    case = CASES[name]
    row = record(identity(case, seconds=0.5), case)
    ignore, pixels = np.iinfo(case.labels.dtype).max, case.labels.size
    expected = sorted(set(case.labels.ravel().tolist()) - {0, ignore})
    assert row.categories == expected == [segment.category_id for segment in row.segments]
    for segment in row.segments:
        mask = case.labels == segment.category_id
        confidence = np.sort(case.confidence[mask])
        assert segment.area == mask.sum() and segment.area_fraction == mask.mean()
        assert segment.mean_confidence == pytest.approx(confidence.mean() / 255, abs=1e-14)
        assert segment.p10_confidence == confidence[-(-mask.sum() // 10) - 1] / 255
        assert segment.margin == pytest.approx(case.margin[mask].mean() / 255, abs=1e-14)
        rivals = Counter(case.runner_up[mask].tolist())
        del rivals[int(ignore)]
        best = min(rivals, key=lambda rival: (-rivals[rival], rival)) if rivals else None
        assert segment.runner_up == best
        assert np.array_equal(pycocotools_mask.decode(segment.rle), mask)
    assert row.background_fraction == (case.labels == 0).mean()
    assert row.ignored_fraction == (case.labels == ignore).mean()
    covered = sum(segment.area for segment in row.segments)
    assert row.coverage == covered / pixels
    assert row.mean_confidence == pytest.approx(case.confidence.mean() / 255, abs=1e-14)
    assert (row.entropy, row.anomaly_tokens, row.windows, row.seconds) == (0.25, 3, 6, 0.5)


def test_runner_up_of_equals_is_the_lowest_and_none_where_there_is_none():
    labels = np.array([[1, 1, 1, 1, 2, 2]], np.uint8)
    rivals = np.array([[4, 3, 0, 255, 255, 255]], np.uint8)
    zeros = np.zeros_like(labels)
    case = segmented(labels, zeros, rivals, zeros)
    row = record(identity(case, seconds=0.0), case)
    assert [segment.runner_up for segment in row.segments] == [0, None]


def part(unit: int = 1) -> pa.Table:
    rows = [
        record(
            identity(case, unit=unit, index=index, orientation=6, metadata='{"a":1}', seconds=0.5),
            case,
            **({"labels_png": b"\x89PNG"} if index else {}),
        )
        for index, case in enumerate(CASES.values())
    ]
    failed = [
        statistics.failed_record(identity(unit=unit, index=10), status="undecodable", error="truncated"),
        statistics.failed_record(identity(unit=unit, index=11, image_id=None), status="bad_id", error=None),
    ]
    return statistics.part_table([failed[0], *rows, failed[1]])


def through_parquet(table: pa.Table) -> pa.Table:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return pq.read_table(buffer)


def test_tables_survive_parquet_and_split_equals_split_of_the_concatenation():
    parts = [part(1), part(2).slice(1, 3), statistics.part_table([]), part(3).slice(7)]
    joined = through_parquet(pa.concat_tables(parts))
    assert joined.schema == schemas.PART_SCHEMA and joined.equals(pa.concat_tables(parts))
    images, segments = statistics.split_part(joined)
    assert images.schema == schemas.IMAGES_SCHEMA and segments.schema == schemas.SEGMENTS_SCHEMA
    apart = [statistics.split_part(table) for table in parts]
    assert images.equals(pa.concat_tables([table for table, _ in apart]))
    assert segments.equals(pa.concat_tables([table for _, table in apart]))
    assert through_parquet(images).equals(images) and through_parquet(segments).equals(segments)
    nested = [segment for row in joined.to_pylist() for segment in row["segments"]]
    assert segments.to_pylist() == nested and len(nested) > 100


def test_part_keeps_every_row_and_its_columns():
    rows = part().to_pylist()
    assert [row["status"] for row in rows] == ["undecodable", *["ok"] * len(CASES), "bad_id"]
    assert rows[0]["error"] == "truncated" and rows[0]["segments"] == [] and rows[0]["categories"] is None
    assert rows[-1]["image_id"] is None and rows[2]["labels_png"] == b"\x89PNG" and rows[1]["labels_png"] is None
    assert rows[1]["orientation"] == 6 and rows[1]["metadata"] == '{"a":1}' and rows[6]["categories"] == []


def test_totals_are_exact_and_additive_in_any_order():
    parts = [statistics.split_part(part(unit)) for unit in (1, 2, 3)]
    totals = [run_totals.totals(*tables) for tables in parts]
    whole = run_totals.totals(*(pa.concat_tables(tables) for tables in zip(*parts, strict=True)))
    assert reduce(add, totals, run_totals.Totals()) == reduce(add, reversed(totals)) == whole
    assert (whole.read, whole.labeled, whole.failed) == (3 * len(CASES) + 6, 3 * len(CASES), 6)
    assert whole.statuses == {"ok": 18, "undecodable": 3, "bad_id": 3}
    one = totals[0]
    labels = np.concatenate([case.labels.astype(np.int64).ravel() for case in CASES.values()])
    confidence = np.concatenate([case.confidence.astype(np.int64).ravel() for case in CASES.values()])
    ignored = sum(int((case.labels == np.iinfo(case.labels.dtype).max).sum()) for case in CASES.values())
    assert (one.pixels, one.background_pixels, one.ignored_pixels) == (labels.size, (labels == 0).sum(), ignored)
    assert (one.class_pixels[9], one.class_confidence[9]) == ((labels == 9).sum(), confidence[labels == 9].sum())
    assert sum(one.class_pixels.values()) == one.pixels - one.background_pixels - one.ignored_pixels
    assert one.class_images[9] == sum(bool((case.labels == 9).any()) for case in CASES.values())
    assert one.segments == parts[0][1].num_rows and one.windows == 6 * len(CASES)


def test_rows_that_contradict_themselves_are_refused():
    case = CASES["uint8"]
    for wrong in (replace(identity(case), width=1), replace(identity(case), image_id=None)):
        with pytest.raises(ValueError, match="k0: image id"):
            record(wrong, case)
    with pytest.raises(ValueError, match="name what failed"):
        statistics.failed_record(identity(), status="ok", error=None)


def test_a_status_is_its_text_wherever_it_goes():
    for status in schemas.Status:
        assert f"{status}" == str(status) == f"{status:s}" == status.value and type(str(status)) is str
        assert json.dumps({status: status}) == json.dumps({status.value: status.value})
        assert Counter([status.value])[status] == 1 and pickle.loads(pickle.dumps(status)) is status
        assert status.sentence.endswith(".") and status.value == status.name.lower()
    assert pa.array(list(schemas.Status), pa.string()).to_pylist() == [status.value for status in schemas.Status]


def test_maps_of_several_blocks_are_summed_exactly(monkeypatch):
    case = segmentation(120, 110, (0, 1, 2, 254, 255))
    whole = record(identity(case), case)
    for name in ("BLOCK_PIXELS", "MOST_PIXELS"):
        monkeypatch.setattr(label_sums, name, 1000)
    assert record(identity(case), case) == whole

"""Parts of an evaluation: any number of them in any order, beyond 32 bits; the golden maps out of its actor."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from towers import GOLDEN, clip

from scclip.categories import Categories
from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.encoder.variants import variant
from scclip.metrics import iou, mean_iou
from scclip.pipeline.annotations.png import png
from scclip.pipeline.annotations.schemas import table_of
from scclip.pipeline.evaluation.scoring import (
    PREDICTED_SCHEMA,
    PredictedImage,
    Scoring,
    commit_scores,
    finish_scores,
    pack,
    read_scores,
    unpack,
)
from scclip.pipeline.evaluation.truth import TruthConfig
from scclip.pipeline.evaluation.variants import VariantsSpec
from scclip.pipeline.inputs.chunks import Chunk, EncodedImage, ResumePoint, encoded_chunk
from scclip.pipeline.inputs.decoding import DecodeConfig, decode_chunk
from scclip.pipeline.labeling.labeler import LabelerSpec
from scclip.pipeline.run.files import RunFiles
from scclip.segmentation.segmenter import WindowSegmenter
from scclip.segmentation.types import SegmenterConfig

CATEGORIES = Categories({index: f"class {index}" for index in range(6)})  # 4 is in no map, 5 in predictions alone
SCORING = Scoring(categories=CATEGORIES, variants=("one", "two"), truth=TruthConfig(), worst=3)
IMAGES = 14


def planes(index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and two predictions of image `index`, uint8 (H, W); 255 in all of them."""
    random = np.random.default_rng(index)
    shape = (9 + index, 20 - index)
    truth = random.choice([0, 1, 2, 3, 255], shape).astype(np.uint8)
    first = np.where(random.random(shape) < 0.6, truth, random.choice([0, 1, 2, 5, 255], shape)).astype(np.uint8)
    return truth, first, random.choice([0, 1, 2, 5, 255], shape).astype(np.uint8)


def predicted(index: int) -> PredictedImage:
    truth, *predictions = planes(index)
    image = PredictedImage(unit=1, index=index, key=str(index), file_name=f"{index}.png", truth=png(truth))
    image.height, image.width = truth.shape
    image.windows, image.anomaly_tokens, image.seconds = 1, 0, 0.1
    image.predictions = [plane.tobytes() for plane in predictions]
    return image


def evaluated(output: Path, parts: int, order: int) -> RunFiles:
    """The images in so many parts, committed in an order of its own."""
    files, groups = RunFiles(str(output)), np.array_split(np.arange(IMAGES), parts)
    for number in np.random.default_rng(order).permutation(parts).tolist():
        images = table_of([predicted(index) for index in groups[number].tolist()], PREDICTED_SCHEMA)
        commit_scores(Chunk(1, number, images, ResumePoint(chunk=number + 1)), files, SCORING)
    finish_scores(1, parts, files, SCORING)
    return files


def test_one_part_and_seven_give_the_naive_sum(tmp_path: Path) -> None:
    expected = np.zeros((2, 6, 7), np.int64)
    sets: dict[tuple[int, int], list[int]] = {(v, c): [0, 0] for v in range(2) for c in CATEGORIES}
    for index in range(IMAGES):
        truth, *predictions = planes(index)
        for place, plane in enumerate(predictions):
            for wanted, found in zip(truth.ravel().tolist(), plane.ravel().tolist(), strict=True):
                if wanted != 255:
                    expected[place, wanted, 6 if found == 255 else found] += 1
            for category in CATEGORIES:
                real, mine = truth == category, (plane == category) & (truth != 255)
                sets[place, category][0] += int((real & mine).sum())
                sets[place, category][1] += int((real | mine).sum())
    tables = []
    for parts, order in ((1, 0), (7, 1), (7, 2)):
        files = evaluated(tmp_path / f"{parts}-{order}", parts, order)
        totals, matrices = read_scores(files, [1], SCORING)
        np.testing.assert_array_equal(matrices, expected)
        assert matrices.dtype == np.int64 and totals.statuses == {"ok": IMAGES} and totals.windows == IMAGES
        assert not list(Path(files.output).glob("_parts/**/*.parquet"))
        tables.append(pq.read_table(files.unit_file("images", 1)).to_pylist())
        for place in range(2):
            wanted = [hits / union if union else np.nan for hits, union in (sets[place, c] for c in CATEGORIES)]
            np.testing.assert_allclose(iou(matrices[place]), wanted, rtol=1e-12)
            assert np.isnan(wanted[4]) and wanted[5] == 0
            assert mean_iou(matrices[place]) == pytest.approx(np.nanmean(wanted), rel=1e-12)
    assert tables[0] == tables[1] == tables[2]
    shown = [row["index"] for row in tables[0] if row["labels_png"]]
    assert shown == sorted(sorted(range(IMAGES), key=lambda index: tables[0][index]["mean_iou"][0])[:3])


def test_matrices_travel_beyond_32_bits() -> None:
    matrices = np.random.default_rng(0).integers(0, 2**60, SCORING.shape)
    np.testing.assert_array_equal(unpack(pack(matrices), SCORING), matrices)
    with pytest.raises(ValueError, match="reshape"):
        unpack(pack(matrices[:1]), SCORING)


def test_the_actor_gives_the_golden_label_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Golden pixels stand in for the resized photograph; everything after is the actor that `evaluate` runs."""
    arrays, meta = np.load(GOLDEN / "official-seed11.npz"), json.loads((GOLDEN / "official-seed11.json").read_text())
    pixels = torch.from_numpy(arrays["slide.pixels"]).float()[0]
    full = CalibrationConfig.published(12)
    empty, weights = SelfCalibratedCLIP(clip(meta["arch"]["small16"], meta["seed"]).visual, full).to_arrays()
    for case in ("plain", "synonyms"):
        given, labels = meta["cases"][case], arrays[f"{case}.labels"].astype(np.uint8)
        config = SegmenterConfig(
            logit_scale=given.get("logit_scale", 40),
            confidence_threshold=given.get("prob_thd", 0),
            area_threshold=given.get("area_thd", 0),
        )
        base = LabelerSpec(
            empty=empty,
            arrays=weights,
            text_features=arrays["text"][: len(given["query_class"])],
            query_category=tuple(given["query_class"]),
            segmenter=config,
            precision="float32",
        )
        settings = (full, variant(full, "maskclip"))
        actor = VariantsSpec(base=base, calibrations=settings).start()
        photo = png(np.zeros((*labels.shape, 3), np.uint8))
        chunk = encoded_chunk(
            1, 0, [EncodedImage(index=0, key="a", file_name="a.png", data=photo, truth=png(labels))], ResumePoint()
        )
        with monkeypatch.context() as patched:
            patched.setattr(WindowSegmenter, "_load", lambda self, image, size: pixels)
            (row,) = actor(decode_chunk(chunk, DecodeConfig())).images.to_pylist()
        maps = [np.frombuffer(data, np.uint8).reshape(labels.shape) for data in row["predictions"]]
        assert (maps[0] == labels).mean() >= 0.999
        assert (maps[1] == labels).mean() < 0.999
        np.testing.assert_array_equal(maps[0], actor.segmenter.segment_pixels(pixels, labels.shape).labels)
        assert row["truth"] == png(labels)

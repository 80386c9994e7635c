"""The GPU's kernels in Triton's interpreter against the CPU's path: two independent ways to the same maps."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from towers import SMALL16, clip

from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.segmentation.segmenter import WindowSegmenter
from scclip.segmentation.statistics import SegmentationSummary
from scclip.segmentation.types import Segmentation, SegmenterConfig

pytest.importorskip("triton")
if torch.cuda.is_available():
    pytest.skip("tests/gpu runs the kernels themselves on this machine", allow_module_level=True)

from scclip.segmentation import fused as fused_module
from scclip.segmentation import sums
from scclip.segmentation.fused import FusedSegmenter, groups_of

QUICK = ("synonyms apart", "background", "high categories")  # of the vocabularies; the interpreter is slow
WINDOWS = {"short_side": 40, "window": 32, "stride": 24, "window_batch": 5}
RANDOM = np.random.default_rng(5)


@cache
def tower() -> SelfCalibratedCLIP:
    return SelfCalibratedCLIP(clip(SMALL16).visual)


def text(queries: int) -> np.ndarray:
    drawn = np.random.default_rng(queries).normal(size=(queries, SMALL16["output_dim"])).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def picture(height: int, width: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (height, width, 3), np.uint8)


VOCABULARIES: dict[str, tuple[np.ndarray, Sequence[int], dict[str, Any]]] = {
    "one query each": (text(40), range(1, 41), {}),
    "more than a block": (text(150), range(1, 151), {}),
    "synonyms": (text(150), [1 + i // 3 for i in range(150)], {}),
    "synonyms apart": (text(60), [1 + i % 20 for i in range(60)], {}),
    "equal texts": (np.concatenate([text(60), text(60)]), [1 + i % 40 for i in range(120)], {}),
    "background": (text(30), [max(0, i - 9) for i in range(30)], {"confidence_threshold": 0.05}),
    "no background": (text(30), range(1, 31), {"confidence_threshold": 0.06, "category_thresholds": ((3, 0.9),)}),
    "small classes": (text(30), range(30), {"area_threshold": 0.04}),
    "all classes small": (text(30), range(1, 31), {"area_threshold": 0.99}),
    "300 classes": (text(300), range(1, 301), {}),
    "high categories": (text(5), [40_000, 1, 65_534, 254, 255], {}),
    "two": (text(2), [1, 2], {}),
    "one": (text(1), [3], {}),
    "sharp": (text(40), range(1, 41), {"logit_scale": 400.0}),
}
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in VOCABULARIES]


def both(name: str, **changes: Any) -> tuple[WindowSegmenter, FusedSegmenter]:
    features, categories, options = VOCABULARIES[name]
    segmenter = WindowSegmenter(
        tower(), features, list(categories), SegmenterConfig(**{**WINDOWS, **options, **changes})
    )
    return segmenter, FusedSegmenter(segmenter.model, segmenter._forward, segmenter._scorer, segmenter.config)


def check(expected: Segmentation, found: Segmentation, scale: float = 40.0) -> None:
    """Equal but where two scores are within 1e-6 of each other, and levels that lie between two steps."""
    for name in ("labels", "argmax", "runner_up"):
        wanted, given = getattr(expected, name), getattr(found, name)
        assert given.shape == wanted.shape and given.dtype == wanted.dtype
        assert (given == wanted).mean() >= 0.999, name
    for name in ("confidence", "margin"):
        apart = np.abs(getattr(found, name).astype(int) - getattr(expected, name))
        assert apart.max() <= 1 and (apart > 0).mean() < 0.01, name
    assert found.entropy == pytest.approx(expected.entropy, abs=5e-7 * scale)
    assert (found.anomaly_tokens, found.windows) == (expected.anomaly_tokens, expected.windows)


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_vocabulary(name: str) -> None:
    images = [picture(7, 40)]
    sizes = [image.shape[:2] for image in images]
    segmenter, fused = both(name)
    for expected, (found,) in zip(segmenter.segment(images, sizes), fused.segment(images, sizes, 5), strict=True):
        check(expected, found, segmenter.config.logit_scale)


@pytest.mark.parametrize("window", [32, pytest.param(0, marks=pytest.mark.slow)])
def test_every_size(window: int) -> None:
    images = [picture(*size) for size in [(1, 1), (5, 37), (21, 5), (16, 16), (9, 11), (3, 3)]]
    sizes = [(1, 1), (5, 37), (21, 5), (16, 16), (18, 22), (3, 3)]  # the fifth was decoded at half its size
    segmenter, fused = both("synonyms", window=window, window_batch=1 if window == 0 else 4)
    found = fused.segment(images, sizes, segmenter.config.window_batch)
    for expected, (one,) in zip(segmenter.segment(images, sizes), found, strict=True):
        check(expected, one)


def test_a_result_depends_on_no_other_image() -> None:
    images = [picture(5, 37), picture(6, 6), picture(5, 8)]
    sizes = [image.shape[:2] for image in images]
    _, fused = both("background")
    together = fused.segment(images, sizes, 5)
    for image, size, (expected,) in zip(images, sizes, together, strict=True):
        ((alone,),) = fused.segment([image], [size], 5)
        for a, b in zip(expected, alone, strict=True):
            assert np.array_equal(a, b)


@pytest.mark.slow
def test_neither_groups_nor_bands_of_rows_change_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [picture(5, 37), picture(6, 6), picture(5, 8)]
    sizes = [image.shape[:2] for image in images]
    _, fused = both("small classes")
    whole = fused.segment(images, sizes, 5)
    monkeypatch.setattr(fused_module, "GROUP_PIXELS", 60)
    monkeypatch.setattr(fused_module, "DOWN_FLOATS", 2000)
    assert list(groups_of(sizes)) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    for (expected,), (found,) in zip(whole, fused.segment(images, sizes, 5), strict=True):
        check(expected, found)


def test_equal_texts_tie_exactly() -> None:
    images = [picture(10, 40)]
    _, fused = both("equal texts")
    fused = FusedSegmenter(
        fused.model,
        fused.forward,
        WindowSegmenter(
            tower(), np.concatenate([text(20), text(20)]), [*range(21, 41), *range(1, 21)], fused.config
        )._scorer,
        fused.config,
    )
    ((found,),) = fused.segment(images, [(10, 40)], 5)
    assert (found.argmax <= 20).all() and (found.runner_up == found.argmax + 20).all() and not found.margin.any()


@pytest.mark.parametrize("image", [picture(9, 9)[..., 0], picture(9, 9)[..., :2], picture(9, 9).astype(np.float32)])
def test_a_kernel_reads_nothing_but_pictures(image: np.ndarray) -> None:
    _, fused = both("two")
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\)"):
        fused.segment([image], [(9, 9)], 5)


def test_variants_side_by_side() -> None:
    model, images = tower(), [picture(9, 37), picture(9, 9)]
    calibration = model.calibration
    plain = type(calibration)(**{**vars(calibration), "anomalies": False, "aggregation": False})
    sizes = [image.shape[:2] for image in images]
    segmenter = WindowSegmenter(
        model, text(30), range(1, 31), SegmenterConfig(**WINDOWS), variants=(calibration, plain)
    )
    fused = FusedSegmenter(model, segmenter._forward, segmenter._scorer, segmenter.config)
    for wanted, given in zip(segmenter.segment_variants(images), fused.segment(images, sizes, 5), strict=True):
        for expected, found in zip(wanted, given, strict=True):
            check(expected, found)


@pytest.mark.parametrize("name", NAMES)
def test_what_stays_on_the_device_adds_up_to_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ways to the same sums: by the kernels, and by numpy over the maps; of pictures together and one by one."""
    images = [picture(5, 11), picture(6, 6), picture(9, 8)]
    sizes = [image.shape[:2] for image in images]
    segmenter, fused = both(name)
    whole = fused.segment(images, sizes, 5)
    for scores, count_bytes in ((False, sums.COUNT_BYTES), (True, 1)):
        monkeypatch.setattr(sums, "COUNT_BYTES", count_bytes)
        summaries = fused.summarise(images, sizes, 5, scores)
        assert (summaries is None) == (name == "high categories")
        for (maps,), (found,) in zip(whole if summaries else [], summaries or [], strict=True):
            check_summary(SegmentationSummary.of(maps, scores), found)
    monkeypatch.setattr(sums, "MOST_NUMBERS", 0)  # vocabularies too large for the kernels
    assert fused.summarise(images, sizes, 5) is None
    segmenter._fused = fused  # as on a GPU
    for (maps,), (found,) in zip(whole, segmenter.summarise_variants(images), strict=True):
        check_summary(SegmentationSummary.of(maps), found)


def check_summary(expected: SegmentationSummary, found: SegmentationSummary) -> None:
    for wanted, given in zip(expected._replace(statistics=None), found._replace(statistics=None), strict=True):
        assert np.array_equal(wanted, given)
    wanted, given = (np.stack(each.statistics)[:, each.statistics.labels.argsort()] for each in (expected, found))
    assert np.array_equal(wanted, given)

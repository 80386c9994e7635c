"""What the GPU computes against float32 on the CPU, and against the official implementation's arrays."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from golden import META, check_case, check_features
from gpu_models import DEVICE, Model, agree, labeled, model, pictures, queries, warm, windows

from scclip.jobs.benchmarking.model import pictures as scenes

if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)


@pytest.fixture(autouse=True)
def float32() -> None:
    """As an actor sets it: TF32 would round the factors of every product to 11 bits."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


@pytest.mark.parametrize("golden", sorted(META["arch"]))
def test_golden_features(golden: str) -> None:
    check_features(golden, DEVICE)


@pytest.mark.parametrize("golden", sorted(META["cases"]))
def test_golden_case(golden: str) -> None:
    check_case(golden, DEVICE)


def test_an_actor_computes_float32_products_in_float32(name: str) -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    model(name).segmenter("float32")
    a, b = torch.randn(2, 512, 512, generator=torch.Generator().manual_seed(1))
    exact = a.double() @ b.double()
    found = (a.to(DEVICE) @ b.to(DEVICE)).cpu()
    assert (found - exact).norm() <= 1e-5 * exact.norm()


@pytest.mark.parametrize(("precision", "roundings"), [("float32", 0.01), ("fp16", 0.5), ("bf16", 1.5)])
def test_features(name: str, precision: str, roundings: float) -> None:
    """No further from float32 on the CPU than a few times what rounding to bf16 costs there."""
    one, pixels = model(name), windows(model(name), 4)
    exact, rounded = (one.segmenter(each, "cpu").model.encode_patches(pixels).float() for each in ("float32", "bf16"))
    found = one.segmenter(precision).model.encode_patches(pixels.to(DEVICE)).float().cpu()
    assert torch.isfinite(found).all()
    assert (found - exact).norm() <= roundings * (rounded - exact).norm()


def test_labels(name: str) -> None:
    """Many sizes in every arithmetic; with drawn weights many pixels lie between two classes."""
    one, images = model(name), pictures()
    expected = one.segmenter("float32", "cpu").segment(images)
    agree(expected, one.segmenter("float32").segment(images), 0.999, 2)
    agree(expected, labeled(name), 0.98 if name == "demo" else 0.85)
    agree(expected, one.segmenter("bf16").segment(images), 0.95 if name == "demo" else 0.7)
    assert warm(name).model.dtype == torch.float16


OPTIONS: dict[str, Callable[[Model], dict[str, Any]]] = {
    "synonyms": lambda one: {"text": queries(40, one), "categories": [1 + i // 3 for i in range(40)]},
    "background": lambda one: {
        "text": queries(40, one),
        "categories": [max(0, i - 20) for i in range(40)],
        "confidence_threshold": 0.05,
    },
    "equal queries": lambda one: {"text": queries(20, one).repeat(2, 1), "categories": range(1, 41)},
    "area filter": lambda one: {"text": queries(40, one), "categories": range(1, 41), "area_threshold": 0.02},
    "300 classes": lambda one: {"text": queries(300, one), "categories": range(1, 301)},
    "refinement": lambda one: {"text": queries(8, one), "categories": range(1, 9), "pamr_steps": 3},
    "whole image": lambda one: {"window": 0, "window_batch": 1},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options(name: str, option: str) -> None:
    one, images = model(name), [scenes(1, size)[0] for size in ((240, 320), (480, 640))]
    expected, found = (
        one.segmenter("float32", where, **OPTIONS[option](one)).segment(images) for where in ("cpu", DEVICE)
    )
    agree(expected, found, 0.999, 2)
    if option == "equal queries":
        assert all((each.argmax <= 20).all() and not each.margin.any() for each in found)

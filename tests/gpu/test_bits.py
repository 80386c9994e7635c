"""The GPU's own path is used, and no bit of a result depends on how it was reached."""

import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu_models import DEVICE, agree, differing, labeled, model, pictures, queries, warm

from scclip.segmentation.segmenter import WindowSegmenter

if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)


def another(name: str) -> WindowSegmenter:
    """A segmenter on the same weights as `warm`."""
    one = warm(name)
    return WindowSegmenter(one.model, one.text_features, one.query_category, one.config)


def test_the_graph_and_the_kernels_are_used(name: str) -> None:
    labeled(name)
    segmenter = warm(name)
    assert segmenter._forward.graph is not None and segmenter._fused is not None
    assert os.environ.get("TRITON_INTERPRET", "0") == "0"


def test_the_kernels_give_what_tiles_give(name: str) -> None:
    tiles = another(name)
    tiles._fused = None
    agree(labeled(name), tiles.segment(pictures()), 0.9999, 1)


def test_the_graph_changes_nothing(name: str) -> None:
    steps = another(name)
    steps._forward.graphs = False
    assert not differing(labeled(name), steps.segment(pictures()))


def test_repeats_are_equal(name: str) -> None:
    assert not any(differing(labeled(name), warm(name).segment(pictures())) for _ in range(3))


def test_an_image_alone_gets_what_it_gets_in_a_batch(name: str) -> None:
    assert not differing(labeled(name), [warm(name).segment([image])[0] for image in pictures()])


def test_any_place_in_a_batch_gives_the_same_bits(name: str) -> None:
    segmenter, random = warm(name), torch.Generator().manual_seed(5)
    size, side = segmenter.config.window_batch, segmenter.config.window
    window, found = torch.randn(3, side, side, generator=random), []
    for place in range(0, size, 3):
        batch = torch.randn(size, 3, side, side, generator=random)
        batch[place] = window
        with torch.inference_mode():
            ((features, _),) = segmenter._forward(batch.to(DEVICE, segmenter.model.dtype))
        found.append(features[place].cpu())
    assert all(torch.equal(found[0], other) for other in found)


def test_two_threads_in_opposite_order(name: str) -> None:
    """As an actor has two chunks in flight; an error in a thread is one here."""
    segmenter, images, expected = warm(name), pictures(), labeled(name)
    wrong: list[object] = []

    def label(order: Sequence[int]) -> None:
        try:
            for _ in range(6):
                found = segmenter.segment([images[index] for index in order])
                wrong.extend(differing([expected[index] for index in order], found))
        except Exception as error:
            wrong.append(error)

    orders = list(range(len(images))), list(range(len(images)))[::-1]
    threads = [threading.Thread(target=label, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("changes", [{}, {"area_threshold": 0.02}, {"classes": 300}])
def test_a_call_waits_for_the_gpu_once(name: str, changes: dict[str, Any]) -> None:
    """Which is when the maps have been copied: for that it waits for its stream."""
    changes, one = dict(changes), model(name)
    if number := changes.pop("classes", 0):
        changes |= {"text": queries(number, one), "categories": range(1, number + 1)}
    segmenter = one.segmenter(**changes)
    for _ in range(2):  # each of the two upload buffers has then held the largest picture
        segmenter.segment(pictures())
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            segmenter.segment(pictures())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [Path(each.filename).name for each in heard if "synchronizing CUDA operation" in str(each.message)]
    assert waits == ["streams.py"]

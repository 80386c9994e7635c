"""Lanes share the work and change nothing: each item once, errors raised, threads as before, labels bit by bit."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from towers import SMALL16, clip

from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.segmentation.lanes import Lanes
from scclip.segmentation.segmenter import WindowSegmenter
from scclip.segmentation.types import Segmentation, SegmenterConfig


@pytest.fixture
def threads() -> Iterator[None]:
    """PyTorch's own number of threads again after a test that sets it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("count", "most", "lanes"), [(0, 4, 1), (1, 4, 1), (3, 4, 3), (50, 4, 4), (50, 1, 1), (50, 99, 8)]
)
def test_every_item_is_taken_once(count: int, most: int, lanes: int) -> None:
    torch.set_num_threads(most)
    together, taken, seen = threading.Barrier(lanes, timeout=20), [], []

    def work(items: Iterator[int]) -> None:
        together.wait()
        seen.append(torch.get_num_threads())
        taken.extend(items)

    Lanes().run(work, range(count), count)
    assert sorted(taken) == list(range(count))
    assert seen == [most // lanes if lanes > 1 else most] * lanes
    assert torch.get_num_threads() == most


@pytest.mark.usefixtures("threads")
def test_an_error_ends_the_other_lanes_and_is_raised() -> None:
    torch.set_num_threads(2)
    first, failed, taken = threading.Barrier(2, timeout=20), threading.Event(), []

    def work(items: Iterator[int]) -> None:
        for item in items:
            taken.append(item)
            if len(taken) <= 2:
                first.wait()
            if item == 1:
                failed.set()
                raise ValueError("item 1")
            failed.wait(20)

    lanes = Lanes()
    with pytest.raises(ValueError, match="item 1"):
        lanes.run(work, range(10_000_000), 10_000_000)
    assert len(taken) < 10_000_000 and torch.get_num_threads() == 2
    taken.clear()
    lanes.run(lambda items: taken.extend(items), range(5), 5)
    assert sorted(taken) == list(range(5))


def label(threads: int, window_batch: int, alone: bool) -> list[Segmentation]:
    torch.set_num_threads(threads)
    rng = np.random.default_rng(7)
    images = [
        rng.integers(0, 256, (*size, 3), np.uint8) for size in ((90, 64), (64, 200), (70, 70), (64, 64), (300, 80))
    ]
    config = SegmenterConfig(short_side=64, window=48, stride=24, window_batch=window_batch)
    text = torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((9, SMALL16["output_dim"]), np.float32)))
    segmenter = WindowSegmenter(SelfCalibratedCLIP(clip().visual), text, range(1, 10), config)
    return [segmenter.segment([image])[0] for image in images] if alone else segmenter.segment(images)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("threads", "window_batch", "alone"), [(1, 5, True), (2, 5, False), (3, 4, False), (7, 6, False)]
)
def test_labels_are_those_of_one_thread(threads: int, window_batch: int, alone: bool) -> None:
    for found, wanted in zip(label(threads, window_batch, alone), label(1, 5, False), strict=True):
        for name, value in wanted._asdict().items():
            np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)

"""Large images, ever other sizes, and a GPU whose memory is too small."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from gpu_models import DEVICE, MAPS, agree, differing, model, pictures, warm

from scclip.encoder.cuda import free_cache
from scclip.jobs.benchmarking.model import pictures as scenes
from scclip.pipeline.labeling.labeler import Labeler
from scclip.segmentation.segmenter import WindowSegmenter

if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

LARGE, BATCH = "ViT-B-16", 256


@pytest.fixture
def whole_memory() -> Iterator[None]:
    """Gives the process all of the GPU's memory again at the end."""
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_twelve_megapixels_in_bands_and_in_tiles(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bands of rows that one image is scored in, and the tiles of the other path, change next to nothing."""
    segmenter, images = warm(name), scenes(1, (3000, 4000))
    whole = segmenter.segment(images)
    assert all(getattr(whole[0], plane).shape == (3000, 4000) for plane in MAPS)
    tiles = WindowSegmenter(segmenter.model, segmenter.text_features, segmenter.query_category, segmenter.config)
    tiles._fused, tiles.config = None, replace(segmenter.config, tile_mib=1)
    agree(whole, tiles.segment(images), 0.9999, 1)
    monkeypatch.setattr("scclip.segmentation.fused.DOWN_FLOATS", 1 << 20)
    agree(whole, segmenter.segment(images), 0.9999, 1)


def test_groups_of_images_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    together = warm(name).segment(pictures())
    monkeypatch.setattr("scclip.segmentation.fused.GROUP_PIXELS", 1 << 19)
    assert not differing(together, warm(name).segment(pictures()))


def test_memory_is_steady_over_ever_other_sizes(name: str) -> None:
    """But for the operators of each size, which a cache keeps: some hundred KiB."""
    segmenter, used = warm(name), list[int]()
    segmenter.segment(scenes(2, (480, 640)))
    for step in range(24):
        segmenter.segment(scenes(1, (300 + 7 * step, 400 + 11 * step)))
        torch.cuda.synchronize()
        used.append(torch.cuda.memory_allocated())
    assert used[-1] - used[0] < 64 << 20


def test_a_batch_that_does_not_fit_is_halved(whole_memory: None) -> None:
    """The memory that the tower wants for 256 windows is there by three fifths."""
    images = [np.ascontiguousarray(image) for image in scenes(3, (480, 640))]
    sizes = [image.shape[:2] for image in images]
    segmenter = model(LARGE).segmenter(window_batch=BATCH)
    free_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    side = segmenter.config.window
    pixels = torch.zeros(BATCH, 3, side, side, dtype=segmenter.model.dtype, device=DEVICE)
    segmenter.model.encode_variants(pixels, segmenter.variants)
    wanted = torch.cuda.max_memory_allocated() - before
    del pixels
    free_cache()
    room = torch.cuda.memory_reserved() + 0.6 * wanted
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    tight = Labeler(segmenter, scores=True)
    found = tight.segment(images, sizes)
    torch.cuda.set_per_process_memory_fraction(1.0)
    assert not [one for one in found if isinstance(one, Exception)]
    assert 1 <= segmenter.config.window_batch < BATCH
    expected = model(LARGE).segmenter(window_batch=BATCH).segment(images)
    agree(expected, [one[0] for one in found if not isinstance(one, Exception)], 0.98)

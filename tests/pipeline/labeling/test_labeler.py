"""The labeler in a plain loop: sizes of pictures decoded at reduced scale; a GPU that is too small or lost."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scclip.demo.scenes import scene
from scclip.encoder.checkpoints import find_weights, load_clip
from scclip.encoder.config import ModelConfig
from scclip.encoder.cuda import TowerOutOfMemory
from scclip.errors import DeviceLost
from scclip.pipeline.annotations.label_map import LabeledImage
from scclip.pipeline.annotations.schemas import records_of
from scclip.pipeline.inputs.chunks import EncodedImage, ResumePoint, encoded_chunk
from scclip.pipeline.inputs.decoding import DecodeConfig, decode_chunk
from scclip.pipeline.labeling.labeler import Labeler, LabelerSpec
from scclip.segmentation.segmenter import WindowSegmenter
from scclip.segmentation.statistics import SegmentationSummary
from scclip.segmentation.types import SegmenterConfig
from scclip.vocabulary.text_features import encode_queries
from scclip.vocabulary.vocabulary import Vocabulary


def jpeg(orientation: int) -> bytes:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    large = Image.fromarray(scene(3, 240, 320)[0]).resize((1280, 960), Image.Resampling.BICUBIC)
    large.save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def spec() -> LabelerSpec:
    """The demo model in float32, four windows a batch."""
    loaded = load_clip(find_weights(ModelConfig()))
    vocabulary = Vocabulary.load("demo")
    empty, arrays = loaded.visual().to_arrays()
    windows: dict[str, Any] = dict(loaded.source.windows())
    return LabelerSpec(
        empty=empty,
        arrays=arrays,
        text_features=encode_queries(loaded.model, loaded.tokenizer, vocabulary),
        query_category=vocabulary.query_category,
        segmenter=SegmenterConfig(**windows, mean=loaded.mean, std=loaded.std, window_batch=4),
        precision="float32",
    )


class SmallGPU:
    """A segmenter that holds `room` windows a batch, and no image wider than `width`."""

    def __init__(self, segmenter: WindowSegmenter, room: int, width: int) -> None:
        self.inner, self.room, self.width = segmenter, room, width
        self.config, self.device = segmenter.config, segmenter.device

    def summarise_variants(
        self, images: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], scores: bool
    ) -> list[tuple[SegmentationSummary, ...]]:
        if self.config.window_batch > self.room:
            raise TowerOutOfMemory("no room for the windows")
        if any(image.shape[1] > self.width for image in images):
            raise torch.OutOfMemoryError("no room for the maps")
        self.inner.config = self.config
        return self.inner.summarise_variants(images, sizes, scores)


@pytest.mark.parametrize("room", [1, 2])
def test_what_does_not_fit_the_memory_is_one_image_not_the_job(spec: LabelerSpec, room: int) -> None:
    """The batch is halved until it fits, from several threads too, and no image's maps halve it further.

    The others' labels are those of a larger memory.
    """
    labeler = spec.start()
    images = [scene(seed, 96, width)[0] for seed, width in enumerate((128, 160, 128))]
    sizes = [image.shape[:2] for image in images]
    whole = labeler.segment(images, sizes)
    labeler.segmenter = small = SmallGPU(labeler.segmenter, room=room, width=140)  # type: ignore[assignment]
    with ThreadPoolExecutor(2) as threads:
        first, second = (each.result() for each in [threads.submit(labeler.segment, images, sizes) for _ in range(2)])
    assert small.config.window_batch == room
    for outcomes in (first, second):
        assert isinstance(outcomes[1], torch.OutOfMemoryError) and outcomes[1].__traceback__ is None
        for place in (0, 2):
            np.testing.assert_array_equal(outcomes[place][0].labels, whole[place][0].labels)  # type: ignore[index]


def test_a_gpu_that_cannot_label_one_image_starts_no_actor(spec: LabelerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    small = SmallGPU(spec.build(), room=0, width=140)
    small.device = torch.device("cuda")
    monkeypatch.setattr(Labeler, "device_lost", lambda self: False)
    with pytest.raises(TowerOutOfMemory):
        Labeler(small)  # type: ignore[arg-type]


def test_a_lost_gpu_is_no_image_s_fault(spec: LabelerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that cannot be labeled is a row; where the device answers nobody, the process has to end."""
    labeler = spec.start()
    flat = np.zeros((96, 128), np.uint8)
    (outcome,) = labeler.segment([flat], [flat.shape])
    assert isinstance(outcome, Exception)
    monkeypatch.setattr(labeler, "device_lost", lambda: True)
    with pytest.raises(DeviceLost):
        labeler.segment([flat], [flat.shape])


def test_reduced_scale_changes_few_labels_and_no_size(spec: LabelerSpec) -> None:
    """The demo model on a drawn scene, upright and turned, decoded whole and at half scale."""
    images = [
        EncodedImage(index=index, key=f"{index}", file_name=f"{index}.jpg", data=jpeg(turn))
        for index, turn in enumerate((1, 6))
    ]
    chunk, maps = encoded_chunk(1, 0, images, ResumePoint(chunk=1, end=True)), []
    for side, height in ((0, [960, 1280]), (480, [480, 640])):
        decoded = decode_chunk(chunk, DecodeConfig(reduced_side=side))
        assert decoded.images["rgb_height"].to_pylist() == height
        labeled = records_of(spec.start()(decoded).images, LabeledImage)
        maps.append([image.summary(np.uint8).labels for image in labeled])
    shares = [(full == reduced).mean() for full, reduced in zip(*maps, strict=True)]
    assert [full.shape for full in maps[0]] == [reduced.shape for reduced in maps[1]] == [(960, 1280), (1280, 960)]
    assert min(shares) > 0.95, shares
    assert all(len(np.unique(labels)) > 2 for labels in maps[0])

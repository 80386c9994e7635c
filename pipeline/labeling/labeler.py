"""The actor that holds one model: chunks of RGB images in, label maps and what is known of each pixel out.

    labeler = spec.start()       # the weights come with the spec: no file and no network
    labeled = labeler(decoded)   # the same chunk, its images as LabeledImage

Knows nothing of Ray: `spec.start()` in a loop is the reference that the tests hold the graph to.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.cuda import TowerOutOfMemory, free_cache
from scclip.encoder.tower import DTYPES, SelfCalibratedCLIP
from scclip.errors import DeviceLost, one_line
from scclip.pipeline.annotations.label_map import LABELED_SCHEMA, LabeledImage
from scclip.pipeline.annotations.schemas import ImageError, ImageRecord, Status, records_of, table_of
from scclip.pipeline.inputs.chunks import Chunk
from scclip.pipeline.inputs.decoding import DecodedImage
from scclip.pipeline.labeling.watch import FREE, Watch
from scclip.segmentation.segmenter import WindowSegmenter
from scclip.segmentation.types import SegmenterConfig
from scclip.vocabulary.vocabulary import Vocabulary

if TYPE_CHECKING:
    from scclip.encoder.checkpoints import LoadedCLIP  # with open_clip, which actors do without

Size = tuple[int, int]  # height, width
VariantLabels = Sequence[Any]  # an image's labels by variant: what `label_maps` gives
Result = VariantLabels | Exception  # or why there are none


@dataclass(frozen=True, kw_only=True)
class LabelerSpec:
    """Everything an actor needs, ready to travel: the driver reads the weights, nobody else does."""

    empty: nn.Module
    """The calibrated tower without weights (meta device)."""
    arrays: Mapping[str, np.ndarray]
    """Its float32 weights; numpy arrays are read in place from the object store, once per node."""
    text_features: np.ndarray
    """(Q, E) float32 of unit norm."""
    query_category: tuple[int, ...]
    """(Q,) category index of each query."""
    segmenter: SegmenterConfig
    """How images are cut, scored and thresholded."""
    precision: str
    """float32, bf16 or fp16."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int = 0
    """Threads of one actor on the CPU; 0 leaves PyTorch's own choice."""
    scores: bool = False
    """Keep each pixel's category before thresholds and its confidence, not their sums alone."""

    @staticmethod
    def of(
        clip: "LoadedCLIP", vocabulary: Vocabulary, features: np.ndarray, segmenter: SegmenterConfig, device: str
    ) -> "LabelerSpec":
        """The spec of a loaded model and a vocabulary, whose text features are (Q, E)."""
        empty, arrays = clip.visual().to_arrays()
        return LabelerSpec(
            empty=empty,
            arrays=arrays,
            text_features=features,
            query_category=vocabulary.query_category,
            segmenter=replace(segmenter, mean=clip.mean, std=clip.std),
            precision=clip.source.config.precision,
            device=device,
        )

    def start(self) -> "Labeler":
        """What an actor works with."""
        return Labeler(self.build(), self.scores)

    def build(self, variants: Sequence[CalibrationConfig] = ()) -> WindowSegmenter:
        """The segmenter on its device; sets this process's threads."""
        if self.threads:
            torch.set_num_threads(self.threads)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32
        model = SelfCalibratedCLIP.from_arrays(self.empty, self.arrays, DTYPES[self.precision], self.device)
        assert isinstance(model, SelfCalibratedCLIP)
        return WindowSegmenter(model, self.text_features, self.query_category, self.segmenter, variants)


class Labeler:
    """One model; labels one chunk a call, several calls at a time."""

    schema = LABELED_SCHEMA  # of what comes out

    def __init__(self, segmenter: WindowSegmenter, scores: bool = False) -> None:
        self.segmenter, self.scores, self.halving = segmenter, scores, threading.Lock()
        if segmenter.device.type == "cuda":
            self.warm_up()

    def __call__(self, chunk: Chunk, watch: Watch = FREE) -> Chunk:
        """A decoded chunk → the labeled chunk; an image that fails becomes a row with status `label_failed`.

        Where `watch` wants it, images are labeled one by one: the static window batch gives the same bytes.
        """
        return chunk.with_images(table_of(self.label(records_of(chunk.images, DecodedImage), watch), self.schema))

    def warm_up(self) -> None:
        """Finds a GPU's kernels and records its graph before the first chunks come; raises what every image would.

        Halves the windows of a batch until there is room for the maps of a megapixel beside the tower.
        """
        side = 1024
        image = np.zeros((side, side, 3), np.uint8)
        (result,) = self.segment([image], [(side, side)])
        while isinstance(result, torch.OutOfMemoryError) and self.halve_batch(self.segmenter.config.window_batch):
            (result,) = self.segment([image], [(side, side)])
        if isinstance(result, Exception):
            raise result

    def label(self, images: Sequence[DecodedImage], watch: Watch) -> list[ImageRecord]:
        """The images with what the model makes of them; those that failed before stay as they are."""
        began, decoded = time.perf_counter(), [image for image in images if image.rgb is not None]
        if watch.one_by_one:
            results = [self.segment_alone(image, watch(image.index)) for image in decoded]
        else:
            results = self.segment([image.array for image in decoded], [image.shape for image in decoded])
        seconds = (time.perf_counter() - began) / max(1, len(decoded))
        labeled = {image.index: self.record(image, result) for image, result in zip(decoded, results, strict=True)}
        for image in labeled.values():
            image.seconds = seconds
        return [labeled.get(image.index, image) for image in images]

    def record(self, image: DecodedImage, result: Result) -> ImageRecord:
        """An image with its labels, or with the reason why it has none."""
        if not isinstance(result, Exception):
            return self.describe(image, result)
        image.status, image.error = Status.LABEL_FAILED, f"{type(result).__name__}: {one_line(result)}"
        if isinstance(result, ImageError):
            image.status, image.error = result.status, str(result)
        return image

    def describe(self, image: DecodedImage, labels: VariantLabels) -> ImageRecord:
        """The record of an image that has labels."""
        return LabeledImage.labeled(image, labels[0])

    def segment_alone(self, image: DecodedImage, excluded: str | None) -> Result:
        """One image's labels, unless there is a reason to leave it alone."""
        if excluded:
            return ImageError(Status.KILLED_WORKER, excluded)
        return self.segment([image.array], [image.shape])[0]

    def segment(self, images: Sequence[np.ndarray], sizes: Sequence[Size]) -> list[Result]:
        """Every image's labels in its own size, or the error it alone raises; DeviceLost where no other can succeed.

        Where the tower does not fit the GPU's memory, the windows of a batch are halved, down to one; where the rest
        does not, each image is tried alone.
        """
        batch = self.segmenter.config.window_batch
        results = self.try_segment(images, sizes)
        if isinstance(results, TowerOutOfMemory) and self.halve_batch(batch):
            return self.segment(images, sizes)
        if isinstance(results, list):
            return results
        if isinstance(results, torch.OutOfMemoryError):
            free_cache()
        if len(images) == 1:
            return [results]
        pairs = zip(images, sizes, strict=True)
        return [result for image, size in pairs for result in self.segment([image], [size])]

    def try_segment(self, images: Sequence[np.ndarray], sizes: Sequence[Size]) -> list[Result] | Exception:
        """The labels, or what was raised, without its traceback: that would keep the failed batch in memory."""
        try:
            return list(self.label_maps(images, sizes))
        except Exception as error:
            if self.device_lost():
                raise DeviceLost(one_line(error)) from None
            return error.with_traceback(None)

    def label_maps(self, images: Sequence[np.ndarray], sizes: Sequence[Size]) -> Sequence[VariantLabels]:
        """What of the images' labels is kept, by variant."""
        return self.segmenter.summarise_variants(images, sizes, self.scores)

    def device_lost(self) -> bool:
        """Whether the GPU refuses everything, as it does to a process in which a kernel has failed."""
        device = self.segmenter.device
        try:
            torch.zeros(1, device=device).item()
        except RuntimeError as error:
            return device.type == "cuda" and not isinstance(error, torch.OutOfMemoryError)
        return False

    def halve_batch(self, failed: int) -> bool:
        """After a batch of `failed` windows was too much, which another thread may have found too; False at one."""
        with self.halving:
            config = self.segmenter.config
            if config.window_batch == failed:
                if failed == 1:
                    return False
                self.segmenter.config = replace(config, window_batch=failed // 2)
            free_cache()
        return True


class MapLabeler(Labeler):
    """A `Labeler` that keeps the maps of all scores: nothing of them is added up."""

    def label_maps(self, images: Sequence[np.ndarray], sizes: Sequence[Size]) -> Sequence[VariantLabels]:
        """A `Segmentation` for each image and variant."""
        return self.segmenter.segment_variants(images, sizes)

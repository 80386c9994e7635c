"""The actor that holds one model: chunks of RGB images in, label maps and what is known of each pixel out.

    labeler = spec.start()       # the weights come with the spec: no file and no network
    labeled = labeler(decoded)   # chunks, whose images have LABELED_FIELDS then

Knows nothing of Ray: `spec.start()` in a loop is the reference that the tests hold the graph to.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.checkpoints import DTYPES
from scclip.encoder.cuda import free_cache
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.errors import DeviceLost, one_line
from scclip.pipeline.annotations.schemas import CARRIED, LABELED_FIELDS, MAPS, Status
from scclip.pipeline.inputs.chunks import Chunk
from scclip.pipeline.labeling.watch import FREE, Watch
from scclip.segmentation.segmenter import Segmenter
from scclip.segmentation.types import Segmentation, SegmenterConfig

Size = tuple[int, int]  # height, width
Outcome = tuple[Segmentation, ...] | Exception  # an image's labels by variant, or why there are none


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

    def start(self) -> "Labeler":
        """What an actor works with."""
        return Labeler(self.build())

    def build(self, variants: Sequence[CalibrationConfig] = ()) -> Segmenter:
        """The segmenter on its device; sets this process's threads."""
        if self.threads:
            torch.set_num_threads(self.threads)
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32
        model = SelfCalibratedCLIP.from_arrays(self.empty, self.arrays, DTYPES[self.precision], self.device)
        assert isinstance(model, SelfCalibratedCLIP)
        return Segmenter(model, self.text_features, self.query_category, self.segmenter, variants)


class KilledWorker(Exception):
    """Stands for an image that is not to be touched, because it killed its process before."""


class Labeler:
    """One model; labels one chunk a call, several calls at a time."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter, self.halving = segmenter, threading.Lock()
        if segmenter.device.type == "cuda":  # finds its kernels and records its graph before the first chunks come
            side = segmenter.config.short_side
            self.segment([np.zeros((side, side, 3), np.uint8)], [(side, side)])

    def __call__(self, chunk: Chunk, watch: Watch = FREE) -> Chunk:
        """A decoded chunk → the labeled chunk; an image that fails becomes a row with status `label_failed`.

        Where `watch` wants it, images are labeled one by one: the static window batch gives the same bytes.
        """
        rows = self.rows(chunk.images, watch, CARRIED)
        return chunk.with_images(pa.Table.from_pylist(rows, schema=pa.schema(LABELED_FIELDS)))

    def rows(self, images: pa.Table, watch: Watch, carried: Sequence[str]) -> list[dict[str, Any]]:
        """The carried columns of every image; for a decoded one also those that labeling adds."""
        began = time.perf_counter()
        sizes = list(zip(images["height"].to_pylist(), images["width"].to_pylist(), strict=True))
        decoded = [(place, image) for place, image in enumerate(rgb_arrays(images)) if image is not None]
        indices = images["index"].to_pylist()
        if watch.one_by_one:
            outcomes = [self.segment_alone(image, sizes[place], watch(indices[place])) for place, image in decoded]
        else:
            outcomes = self.segment([image for _, image in decoded], [sizes[place] for place, _ in decoded])
        seconds = (time.perf_counter() - began) / max(1, len(decoded))
        rows = images.select(carried).to_pylist()
        for (place, _), outcome in zip(decoded, outcomes, strict=True):
            rows[place].update(self.describe(outcome) | {"seconds": seconds})
        return rows

    def describe(self, outcome: Outcome) -> dict[str, Any]:
        """The columns of one outcome, but for its seconds."""
        return failed_columns(outcome) if isinstance(outcome, Exception) else labeled_columns(outcome[0])

    def segment_alone(self, image: np.ndarray, size: Size, aside: str | None) -> Outcome:
        """One image's labels, unless there is a reason to set it aside."""
        return KilledWorker(aside) if aside else self.segment([image], [size])[0]

    def segment(self, images: Sequence[np.ndarray], sizes: Sequence[Size]) -> list[Outcome]:
        """Every image's labels in its own size, or the error it alone raises; DeviceLost where no other can succeed.

        What does not fit the GPU's memory is tried again with half the windows a batch, down to one.
        """
        while True:
            batch = self.segmenter.config.window_batch
            outcome = self.attempt(images, sizes)
            if not isinstance(outcome, torch.OutOfMemoryError) or not self.halve_batch(batch):
                break
        if isinstance(outcome, list):
            return outcome
        if len(images) == 1:
            return [outcome]
        pairs = zip(images, sizes, strict=True)
        return [one for image, size in pairs for one in self.segment([image], [size])]

    def attempt(self, images: Sequence[np.ndarray], sizes: Sequence[Size]) -> list[Outcome] | Exception:
        """The labels, or what was raised, without its traceback: that would keep the failed batch in memory."""
        try:
            return list(self.segmenter.segment_variants(images, sizes))
        except Exception as error:
            if self.device_lost():
                raise DeviceLost(one_line(error)) from None
            return error.with_traceback(None)

    def device_lost(self) -> bool:
        """Whether the GPU refuses everything, as it does to a process in which a kernel has failed."""
        device = self.segmenter.device
        try:
            torch.zeros(1, device=device).item()
        except torch.OutOfMemoryError:
            return False
        except RuntimeError:
            return device.type == "cuda"
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


def rgb_arrays(images: pa.Table) -> list[np.ndarray | None]:
    """The decoded pictures, uint8 (h, w, 3) without copying; None for images that failed before.

    Their sides are `rgb_height` and `rgb_width`: smaller than the image's where it was decoded at reduced scale.
    """
    sizes = zip(images["rgb_height"].to_pylist(), images["rgb_width"].to_pylist(), strict=True)
    buffers = [value.as_buffer() if value.is_valid else None for value in images["rgb"]]
    return [
        None if buffer is None else np.frombuffer(buffer, np.uint8).reshape(*size, 3)
        for buffer, size in zip(buffers, sizes, strict=True)
    ]


def failed_columns(error: Exception) -> dict[str, Any]:
    """The columns of an image that has no labels."""
    if isinstance(error, KilledWorker):
        return {"status": Status.KILLED_WORKER, "error": str(error)}
    return {"status": Status.LABEL_FAILED, "error": f"{type(error).__name__}: {one_line(error)}"}


def labeled_columns(labels: Segmentation) -> dict[str, Any]:
    """The columns of an image that has labels."""
    columns: dict[str, Any] = {name: getattr(labels, name).tobytes() for name in MAPS}
    return columns | {name: getattr(labels, name) for name in ("entropy", "anomaly_tokens", "windows")}

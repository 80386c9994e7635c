"""Segments images on a GPU without waiting for it: windows and maps stay there until a group of images is done.

    fused = FusedSegmenter(model, forward, scorer, config)
    labels = fused.segment([image], [(375, 500)], window_batch=64)[0][0].labels

An image costs one upload and four launches beside its share of the tower's batches. The maps of a group lie one
behind the other, plane by plane: one copy brings each kind to the host, and tables can be made of them without another.

Shapes: B windows of a batch, U distinct queries, M members, gh gw the patch grid of a window, G grid positions of all
windows of an axis side by side, V variants, P pixels and S entropy samples of a group.
"""

import functools
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from scclip.encoder.cuda import GraphedTower, Uploader
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.segmentation import kernels, sums, windows
from scclip.segmentation.scoring import ENTROPY_STEP, QueryScorer
from scclip.segmentation.statistics import SegmentationSummary
from scclip.segmentation.types import Segmentation, SegmenterConfig
from scclip.segmentation.windows import AxisWindows

GROUP_PIXELS = 1 << 26  # of the images whose maps wait on the device: 5 bytes each, 8 with more than 254 classes
DOWN_FLOATS = 1 << 26  # of an image's logits between the two sides of the stitching
Sizes = Sequence[tuple[int, int]]  # height and width of each image
Segmentations = tuple[Segmentation, ...]  # of one image, by each variant
Stage = Callable[[str], AbstractContextManager[object]]
Result = TypeVar("Result")  # of an image and variant


class _Batch:
    """Windows of one shape; always run at full length, so that a result does not depend on its neighbours."""

    def __init__(self, number: int, pixels: Tensor) -> None:
        self.number, self.pixels, self.used = number, pixels, 0  # (B, 3, height, width) in the tower's dtype
        self.logits: list[Tensor] = []  # of each variant, once the batch has run: (B, gh, gw, U) float32, scaled

    def take(self, windows: int) -> slice:
        """Reserves room for as many of these windows as there is."""
        first, self.used = self.used, min(len(self.pixels), self.used + windows)
        return slice(first, self.used)


@dataclass
class _Picture:
    """An image, and where its windows went."""

    index: int
    size: tuple[int, int]
    rows: AxisWindows
    cols: AxisWindows
    parts: list[tuple[_Batch, slice]] = field(default_factory=list)
    """The batches that hold its windows, until it is scored."""
    windows: list[int] = field(default_factory=list)
    """Positions of its windows among those of all batches."""

    def take_logits(self, variant: int) -> Tensor:
        """The logits of its windows side by side: (rows of the grid, columns of the grid · U)."""
        pieces = [batch.logits[variant][span] for batch, span in self.parts]
        windows = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        grid = windows.unflatten(0, (len(self.rows.starts), len(self.cols.starts))).transpose(1, 2)
        return grid.reshape(grid.shape[0] * grid.shape[1], -1)


Read = Callable[["_Maps", Sequence[_Picture], Tensor], list[tuple[Result, ...]]]


class FusedSegmenter:
    """What `WindowSegmenter` does on a GPU where no refinement is asked for; several threads may call it."""

    def __init__(
        self,
        model: SelfCalibratedCLIP,
        forward: GraphedTower,
        scorer: QueryScorer,
        config: SegmenterConfig,
        stage: Stage = lambda name: nullcontext(),
    ) -> None:
        """Builds the tables that the kernels read.

        Args:
            model: the tower on its device.
            forward: the same tower under its variants.
            scorer: the vocabulary, on the same device.
            config: resize, windows, scores and thresholds; no refinement.
            stage: opens a context around each stage of the work, as `WindowSegmenter` takes it.
        """
        self.model, self.forward, self.scorer, self.config, self.stage = model, forward, scorer, config, stage
        self.device, self.members = model.device, kernels.Members(scorer)
        self.upload, self.local = Uploader(model.device), threading.local()
        level = torch.arange(256, device=self.device).float() / 255
        mean, std = (torch.tensor(values, device=self.device)[:, None] for values in (config.mean, config.std))
        self.levels = ((level - mean) / std).to(model.dtype)

    def segment(self, images: Sequence[np.ndarray], sizes: Sizes, window_batch: int) -> list[Segmentations]:
        """Labels images of any sizes; returns one `Segmentation` for each image and variant.

        Arguments and errors are those of `summarise`.
        """
        return self._segment(images, sizes, window_batch, _Maps.segmentations)

    def summarise(
        self, images: Sequence[np.ndarray], sizes: Sizes, window_batch: int, scores: bool = False
    ) -> list[tuple[SegmentationSummary, ...]] | None:
        """Labels images of any sizes; returns one `SegmentationSummary` for each image and variant.

        None, with nothing done, where the sums do not fit the GPU's counters: `segment` gives the maps to add up.

        Args:
            images: uint8 RGB arrays (H, W, 3).
            sizes: (H, W) of each label map.
            window_batch: windows of a forward pass.
            scores: keep the category before thresholds and its confidence of each pixel as well.

        Raises:
            ValueError: an image is no uint8 array (H, W, 3); a kernel would read what lies behind it.
            TowerOutOfMemory: a batch of windows does not fit the GPU's memory.
        """
        if not sums.countable(self.scorer.categories[-1] + 2, [height * width for height, width in sizes]):
            return None
        return self._segment(images, sizes, window_batch, functools.partial(_Maps.summaries, scores=scores))

    def _segment(
        self, images: Sequence[np.ndarray], sizes: Sizes, window_batch: int, read: "Read[Result]"
    ) -> list[tuple[Result, ...]]:
        results: list[tuple[Result, ...]] = []
        with self._own_stream(), torch.inference_mode():
            for group in groups_of(sizes):
                results += self._segment_group(images[group], sizes[group], window_batch, read)
        return results

    def compile(self) -> None:
        """Has the kernels compiled, on a picture of one pixel."""
        with torch.inference_mode():
            axis = AxisWindows(1, 1, (0,), 1)
            taps = kernels.axis_taps(1, axis, self.device)
            rgb, window = (torch.zeros(1, 1, 3, dtype=torch.uint8, device=self.device), self._empty_batch(1, (1, 1)))
            kernels.crop_windows(rgb, taps, taps, self.levels, window, 0)
            down = torch.zeros(1, 1, len(self.scorer.text_features), device=self.device)
            maps = _Maps([(1, 1)], 1, self.scorer, self.device)
            (planes,) = maps.planes(0)
            strips = kernels.strips(1, axis, False, self.device)
            kernels.write_maps(down, strips, self.members, self.members.all_allowed, planes, 0)
            maps.sum_labels()

    def _own_stream(self) -> AbstractContextManager[object]:
        """The calling thread's own stream: of two calls at a time neither waits for the other's images."""
        if self.device.type != "cuda":
            return nullcontext()
        if not hasattr(self.local, "stream"):
            self.local.stream = torch.cuda.Stream(self.device)
        stream: AbstractContextManager[object] = torch.cuda.stream(self.local.stream)
        return stream

    def _segment_group(
        self, images: Sequence[np.ndarray], sizes: Sizes, window_batch: int, read: "Read[Result]"
    ) -> list[tuple[Result, ...]]:
        pictures = [self._picture(index, size) for index, size in enumerate(sizes)]
        maps = _Maps(sizes, len(self.forward.variants), self.scorer, self.device)
        anomalies: list[Tensor] = []
        for picture in self._encode(images, pictures, window_batch, anomalies):
            with self.stage("score"):
                for variant, planes in enumerate(maps.planes(picture.index)):
                    self._score(picture, picture.take_logits(variant), planes)
            picture.parts.clear()
        with self.stage("maps"):
            return read(maps, pictures, torch.cat(anomalies, 1))

    def _picture(self, index: int, size: tuple[int, int]) -> _Picture:
        config, patches = self.config, self.model.patch_size
        sides = windows.resized_side(*size, config.short_side, config.long_side, patches)
        axes = zip(sides, patches, strict=True)
        rows, cols = (windows.axis_windows(side, config.window, config.stride, patch) for side, patch in axes)
        return _Picture(index, size, rows, cols)

    def _empty_batch(self, size: int, shape: tuple[int, int]) -> Tensor:
        return torch.zeros(size, 3, *shape, dtype=self.model.dtype, device=self.device)

    def _encode(
        self, images: Sequence[np.ndarray], pictures: Sequence[_Picture], window_batch: int, anomalies: list[Tensor]
    ) -> Iterator[_Picture]:
        """Sends the windows of all images through the tower; yields the images in order, as their batches have run.

        Adds to `anomalies` for each batch how many tokens of its windows were anomalous: (V, B) int64.
        """
        batch: _Batch | None = None
        waiting = deque[_Picture]()
        for image, picture in zip(images, pictures, strict=True):
            total, shape = len(picture.rows.starts) * len(picture.cols.starts), (picture.rows.size, picture.cols.size)
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise ValueError(f"an image must be uint8 (H, W, 3), not {image.dtype} {image.shape}")
            with self.stage("resize"):
                rgb = self.upload(image)
            while len(picture.windows) < total:
                if batch is None or batch.used == window_batch or batch.pixels.shape[2:] != shape:
                    if batch is not None:
                        anomalies.append(self._run(batch))
                        yield from ready(waiting)
                    batch = _Batch(len(anomalies), self._empty_batch(window_batch, shape))
                with self.stage("resize"):
                    self._crop(rgb, picture, batch, total - len(picture.windows))
            waiting.append(picture)
        if batch is not None:
            anomalies.append(self._run(batch))
        yield from waiting

    def _crop(self, rgb: Tensor, picture: _Picture, batch: _Batch, windows: int) -> None:
        """Writes as many of the image's next windows into the batch as fit."""
        span = batch.take(windows)
        rows = kernels.axis_taps(rgb.shape[0], picture.rows, self.device)
        cols = kernels.axis_taps(rgb.shape[1], picture.cols, self.device)
        kernels.crop_windows(rgb, rows, cols, self.levels, batch.pixels[span], len(picture.windows))
        picture.parts.append((batch, span))
        first = batch.number * len(batch.pixels)
        picture.windows += range(first + span.start, first + span.stop)

    def _run(self, batch: _Batch) -> Tensor:
        """One forward pass: gives the batch its logits; returns the anomalous tokens of each variant and window."""
        with self.stage("encode"):
            encoded = self.forward(batch.pixels)
        grid, text_UE = self.model.grid(*batch.pixels.shape[2:]), self.scorer.text_features.float()
        with self.stage("cosines"):
            for features, _ in encoded:
                unit_BNE = torch.nn.functional.normalize(features.float(), dim=-1)
                batch.logits.append((self.config.logit_scale * (unit_BNE @ text_UE.T)).unflatten(1, grid))
        return torch.stack([counts for _, counts in encoded])

    def _score(self, picture: _Picture, laid: Tensor, planes: kernels.Planes) -> None:
        """Writes the maps of an image from its logits (rows of the grid, G · U); twice where small classes fall out."""
        allowed = self.members.all_allowed
        self._write(picture, laid, allowed, planes)
        if self.config.area_threshold:
            self._write(picture, laid, self._large_members(planes), planes)

    def _write(self, picture: _Picture, laid: Tensor, allowed: Tensor, planes: kernels.Planes) -> None:
        whole, (height, width) = self.config.window == 0, picture.size
        operator = row_operator(height, picture.rows, whole, self.device)
        strips = kernels.strips(width, picture.cols, whole, self.device)
        rows = max(1, DOWN_FLOATS // laid.shape[1])
        for first in range(0, height, rows):
            down = (operator[first : first + rows] @ laid).unflatten(1, (-1, len(self.scorer.text_features)))
            kernels.write_maps(down, strips, self.members, allowed, planes, first)

    def _large_members(self, planes: kernels.Planes) -> Tensor:
        """(M,) int8: 0 for the members of classes that cover too little of the image whose maps these are."""
        shown = planes.categories[1].int() & np.iinfo(self.scorer.dtype).max
        index = torch.searchsorted(self.scorer.category_index, shown)
        area = torch.zeros_like(self.scorer.category_index).scatter_add_(0, index, torch.ones_like(index))
        return (~self.scorer.small_categories(area))[self.scorer.member_category].to(torch.int8)


class _Maps:
    """The maps of a group of images, plane by plane: each kind is one block of memory."""

    def __init__(self, sizes: Sizes, variants: int, scorer: QueryScorer, device: torch.device) -> None:
        self.sizes, self.dtype, self.ignore = sizes, scorer.dtype, scorer.ignore
        self.numbers = scorer.categories[-1] + 2  # of labels: ignore, and 0 up to the highest category
        self.pixels = [0, *itertools.accumulate(height * width for height, width in sizes)]
        samples = (-(-height // ENTROPY_STEP) * -(-width // ENTROPY_STEP) for height, width in sizes)
        self.samples = [0, *itertools.accumulate(samples)]
        kind = torch.uint8 if self.dtype == np.uint8 else torch.int16  # Triton writes the bits of uint16
        self.categories = torch.empty(variants, 3, self.pixels[-1], dtype=kind, device=device)
        self.levels = torch.empty(variants, 2, self.pixels[-1], dtype=torch.uint8, device=device)
        self.entropy = torch.empty(variants, self.samples[-1], device=device)

    def planes(self, index: int) -> list[kernels.Planes]:
        """Where the maps of an image go, by variant."""
        pixels, samples = slice(*self.pixels[index : index + 2]), slice(*self.samples[index : index + 2])
        size, variants = self.sizes[index], zip(self.categories, self.levels, self.entropy, strict=True)
        return [
            kernels.Planes(size, categories[:, pixels], levels[:, pixels], entropy[samples])
            for categories, levels, entropy in variants
        ]

    def sum_labels(self) -> Tensor:
        """What the pixels of each label add up to: (V, images, 5, N) int64 on the device."""
        planes = zip(self.categories, self.levels, strict=True)
        each = (sums.Planes(labels, runner_up, *levels) for (labels, _, runner_up), levels in planes)
        return torch.stack([sums.sum_labels(of_variant, self.pixels, self.numbers) for of_variant in each])

    def segmentations(self, pictures: Sequence[_Picture], anomalies: Tensor) -> list[Segmentations]:
        """Waits for the device, once, and returns what each image's maps hold; arrays are views of common blocks.

        Args:
            pictures: the images.
            anomalies: (V, windows of all batches) int64 anomalous tokens.
        """
        categories, levels, *known = self._download(self.categories, self.levels, self.entropy, anomalies)
        variants = list(zip(categories.view(self.dtype), levels, *known, strict=True))
        return [tuple(self._segmentation(picture, *variant) for variant in variants) for picture in pictures]

    def _segmentation(
        self, picture: _Picture, categories: np.ndarray, levels: np.ndarray, *known: np.ndarray
    ) -> Segmentation:
        labels, argmax, runner_up = self._cut(picture, categories)
        confidence, margin = self._cut(picture, levels)
        return Segmentation(labels, argmax, confidence, runner_up, margin, *self._facts(picture, *known))

    def summaries(
        self, pictures: Sequence[_Picture], anomalies: Tensor, scores: bool
    ) -> list[tuple[SegmentationSummary, ...]]:
        """Does what `segmentations` does, and leaves on the device what is not kept."""
        kept = 2 if scores else 1  # labels, and the category before thresholds
        blocks = self.categories[:, :kept].contiguous(), self.levels[:, : kept - 1].contiguous()
        categories, levels, *known = self._download(*blocks, self.sum_labels(), self.entropy, anomalies)
        variants = list(zip(categories.view(self.dtype), levels, *known, strict=True))
        return [tuple(self._summary(picture, *variant) for variant in variants) for picture in pictures]

    def _summary(
        self, picture: _Picture, categories: np.ndarray, levels: np.ndarray, table: np.ndarray, *known: np.ndarray
    ) -> SegmentationSummary:
        labels, *argmax = self._cut(picture, categories)
        statistics, facts = sums.statistics_of(table[picture.index], self.ignore), self._facts(picture, *known)
        return SegmentationSummary(labels, statistics, *facts, *argmax, *self._cut(picture, levels))

    def _download(self, *blocks: Tensor) -> list[np.ndarray]:
        copies = [block.to("cpu", non_blocking=True) for block in blocks]
        if self.categories.is_cuda:
            torch.cuda.current_stream(self.categories.device).synchronize()
        return [copy.numpy() for copy in copies]

    def _cut(self, picture: _Picture, planes: np.ndarray) -> list[np.ndarray]:
        """Of planes (kinds, pixels of the group) the image's own, each (H, W)."""
        pixels = slice(*self.pixels[picture.index : picture.index + 2])
        return [plane[pixels].reshape(picture.size) for plane in planes]

    def _facts(self, picture: _Picture, entropy: np.ndarray, tokens: np.ndarray) -> tuple[float, int, int]:
        """Mean entropy, anomalous tokens and windows of an image."""
        samples = slice(*self.samples[picture.index : picture.index + 2])
        mean = float(entropy[samples].mean(dtype=np.float64))
        return mean, int(tokens[picture.windows].sum()), len(picture.windows)


def ready(waiting: deque[_Picture]) -> Iterator[_Picture]:
    """Takes the images whose batches have all run from the head of the queue."""
    while waiting and all(batch.logits for batch, _ in waiting[0].parts):
        yield waiting.popleft()


def groups_of(sizes: Sizes) -> Iterator[slice]:
    """Cuts images into groups of at most `GROUP_PIXELS` pixels; one larger image is a group of its own."""
    first, pixels = 0, 0
    for index, (height, width) in enumerate(sizes):
        if index > first and pixels + height * width > GROUP_PIXELS:
            yield slice(first, index)
            first, pixels = index, 0
        pixels += height * width
    if sizes:
        yield slice(first, len(sizes))


@functools.lru_cache(maxsize=1024)
def row_operator(height: int, rows: AxisWindows, whole: bool, device: torch.device) -> Tensor:
    """The rows' side of the stitching on the device: (height, grid rows) float32."""
    return windows.axis_operator(height, rows, whole).to(device)
